"""Cases of check_gradients and check_vjp: few, for they take long, of a square and its gradient."""

import jax
import numpy as np

import jaxnet
from tests.fuzz.arguments import EMPTY, FINE, FUNCTIONS, NUMBERS, Given, Setting, changed, fine
from tests.fuzz.cases import Case, draws

POINT = np.array([0.5, -1.5, 2.0], np.float32)
INTEGERS = ("3", "-1", "0", "10**30", "True")
SETTINGS = {  # of both
    "key": Setting((3, jax.random.key(1)), (1.5, "a", [1, 2]), leave_out=(*INTEGERS, "a key"), optional=True),
    "directions": Setting((2,), (0, -1, 1.5), leave_out=("3", "10**30", "True", "jax 0-d", "float32 0-d")),
    "kinks": Setting(("strict",), ("Strict", "convex")),
    "witnesses": Setting(("fast",), ("all", "Full")),
    "variants": Setting((("eager",), ["eager", "jit"], ()), (("jax",), "jit", ("eager", 3)), leave_out=EMPTY),
    "accuracy": Setting(
        (1e-4, 0.0, 0.5), ("x", -1e-4, 1.0, {"w": 1e-4}, [None]), leave_out=(*NUMBERS, "0"), optional=True
    ),
    "expected_zero": Setting((False, ()), ("x", 3, ["w"]), leave_out=(*FUNCTIONS, *EMPTY, "True"), optional=True),
    "raise_": Setting((True, False, "fail", "inconclusive"), ("x", "FAIL", 1.5), leave_out=("True", "False")),
}
OF_GRADIENTS = {
    "loss": Setting(leave_out=FUNCTIONS),
    "grad_fn": Setting(leave_out=FUNCTIONS),
    "params": Setting(
        leave_out=(
            *NUMBERS,
            "{'W': 1}",
            "a list of dicts",
            "frame of text",
            "frame with NA",
            "ragged",
            "ShapeDtypeStruct",
        )
    ),
    "argnums": Setting((0,), (1, -5, "a", 0.5, (0, 7)), leave_out=(*EMPTY, "0", "-1")),
    "has_aux": Setting((False,), (True,), leave_out=("all",)),
    "reference": Setting(leave_out=FUNCTIONS, optional=True),
}
OF_VJP = {
    "f": Setting(leave_out=FUNCTIONS),
    "primals": Setting(leave_out=(*NUMBERS, "ragged", "{'W': 1}", "a list of dicts")),
    "argnums": Setting((0,), (1, -5, "a", 0.5), leave_out=(*EMPTY, "0", "-1"), optional=True),
    "kwargs": Setting(({},), (3, "x", {1: 2}), leave_out=(*EMPTY, "{'W': 1}"), optional=True),
    "has_aux": Setting((False,), (True,), leave_out=("all",)),
    "reference": Setting(leave_out=FUNCTIONS, optional=True),
    "intended": Setting(leave_out=FUNCTIONS, optional=True),
    "cotangents": Setting((1,), (0, -1, 1.5, "2"), leave_out=("3", "10**30", "True", "jax 0-d", "float32 0-d")),
}


def square(params, *others):
    return (params**2).sum()


def its_gradient(params, *others):
    return 2 * params


@jax.custom_vjp
def ruled_square(x):
    return x**2


ruled_square.defvjp(lambda x: (x**2, x), lambda x, c: (2 * x * c,))


def complaint(report) -> str | None:
    return None if report.verdict == "PASS" else f"verdict {report.verdict}"


@draws("check_gradients", 2)
def check_gradients(rng) -> Case:
    settings = OF_GRADIENTS | SETTINGS
    change = changed(rng, *settings)
    given = {"loss": Given(square, FINE, "a square"), "grad_fn": Given(its_gradient, FINE, "its gradient")}
    given |= {"params": fine(POINT)} | {name: settings[name].drawn(rng) for name in settings if name in change}
    return Case("check_gradients", given, jaxnet.check_gradients, complaint)


@draws("check_vjp", 1)
def check_vjp(rng) -> Case:
    settings = OF_VJP | SETTINGS
    change = changed(rng, *settings)
    given = {"f": Given(ruled_square, FINE, "a square with a rule"), "primals": fine(POINT)}
    given |= {name: settings[name].drawn(rng) for name in settings if name in change}
    given["primals|primal"] = given.pop("primals")

    def call(f, **options):
        return jaxnet.check_vjp(f, options.pop("primals|primal"), **options)

    return Case("check_vjp", given, call, complaint)
