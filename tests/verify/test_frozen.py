"""The five stages are values: none changes after it was made, and what is learnt later is said by another one."""

import dataclasses
import importlib
import inspect
import pkgutil
from enum import Enum

import jax
import jax.numpy as jnp
import pytest

import jaxnet.verify
from jaxnet.verify.options import Options
from jaxnet.verify.pipeline import run
from jaxnet.verify.problem.loss import Problem, quiet

GROWING = {  # no stage's value
    "jaxnet.verify.journal.Journal",  # what is said on the way
    "jaxnet.verify.program.cache.Program",  # what is compiled, shared by all checks
    "jaxnet.verify.judge.gradient_sampling.Beside",  # the gradients drawn so far, while ties are looked at
}


def classes():
    """Every class of the verifier by its full name; the command line and the plugin stand beside the stages."""
    for found in pkgutil.walk_packages(jaxnet.verify.__path__, "jaxnet.verify."):
        if found.name.rpartition(".")[2] not in ("__main__", "pytest_plugin"):
            for name, thing in vars(importlib.import_module(found.name)).items():
                if inspect.isclass(thing) and thing.__module__ == found.name:
                    yield f"{found.name}.{name}", thing


CLASSES = dict(classes())


def is_frozen(cls):
    """Whether it is a frozen dataclass (by itself: a plain subclass of one is not), a NamedTuple or an enumeration."""
    parameters = vars(cls).get("__dataclass_params__")
    return bool(parameters and parameters.frozen) or hasattr(cls, "_fields") or issubclass(cls, Enum)


def test_every_class_of_the_stages_is_frozen():
    values = {name: cls for name, cls in CLASSES.items() if not issubclass(cls, Exception)}
    assert {name for name, cls in values.items() if not is_frozen(cls)} == GROWING
    stages = {name.split(".")[2] for name in values}
    assert len(values) > 40 and {"problem", "evidence", "judge", "diagnose", "report", "pipeline"} <= stages


def test_what_is_not_frozen_is_seen():
    frozen = dataclasses.make_dataclass("Frozen", [], frozen=True)
    assert is_frozen(frozen) and not is_frozen(type("Plain", (frozen,), {}))
    assert not is_frozen(dataclasses.make_dataclass("Changing", []))


def test_what_is_learnt_of_a_loss_is_said_by_another_problem():
    """That it can be traced, and that a while loop cannot be reversed."""
    loss = lambda x: jnp.sum(jax.lax.while_loop(lambda x: jnp.sum(x) < 10, lambda x: 2 * x, x))
    with quiet():
        asked = Problem.of(loss, jnp.ones(3), (), 0, False)
        report, known = run(asked, lambda x: 4 * jnp.ones(3), 0, Options())
    assert report.passed, str(report)
    assert (asked.traceable, asked.reversible) == (False, True)
    assert (known.traceable, known.reversible) == (True, False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        asked.reversible = False
