"""Functions whose outcome is known, to test the fuzz with."""

import os
import time

import jax.numpy as jnp

import jaxnet
from tests.fuzz.arguments import WRONG, Given, fine
from tests.fuzz.cases import Case, draws

WRONG_X = Given([0], WRONG, "[0]")


def raise_assertion(X):
    """As a check inside a library does, though it names X."""
    raise AssertionError("X")


CALLS = {  # 1 is the right answer
    "answers": (lambda X: 1, fine([0])),
    "answers wrongly": (lambda X: 2, fine([0])),
    "answers what is wrong": (lambda X: 1, WRONG_X),
    "names X": (lambda X: jaxnet.one_hot([0, 1], 1), WRONG_X._replace(note="its name is labels")),
    "refuses what is right": (lambda X: jaxnet.one_hot([0, 1], 1), fine([0, 1])),
    "names another": (lambda X: jaxnet.parallel.mesh(0), WRONG_X),
    "JAX refuses": (lambda X: jnp.zeros(2) @ jnp.zeros(3), WRONG_X),
    "has no attribute": (lambda X: X.shape, WRONG_X),
    "asserts": (raise_assertion, WRONG_X),
    "hangs": (lambda X: time.sleep(600), WRONG_X),
    "crashes": (lambda X: os._exit(3), WRONG_X),
}


def planted_case(name: str) -> Case:
    """A case of that function, whose one argument X may be called labels."""
    call, given = CALLS[name]
    complaint = lambda answer: None if answer == 1 else f"got {answer}"
    return Case(name, {"X|labels": given}, lambda **X: call(*X.values()), complaint)


for name in CALLS:
    draws(name, 1)(lambda rng, name=name: planted_case(name))
