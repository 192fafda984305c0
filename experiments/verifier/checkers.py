"""Gradient checkers side by side: ours and the field's, each called the way its own users call it.

A hand-written gradient is given to a peer as its users would: as a `jax.custom_vjp` (check_grads), an
`autograd.Function` with a backward (torch), a primitive with `defvjp` (HIPS autograd), or as an array of numbers
to compare (the classroom formula, chex). Tolerances and steps are each checker's defaults. torch and autograd get
the JAX functions through NumPy: their verdicts do not depend on who multiplies the matrices, their times do a
little, so the losses are compiled for them.
"""

import contextlib
import dataclasses
import importlib.util
import signal
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from experiments.verifier.correct import Problem
from jaxnet.verify import check_gradients

CLASSROOM_STEP, CLASSROOM_LIMIT = 1e-7, 2e-7  # the course's own numbers


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a checker found of one gradient: refused or not (None: not feasible), why, and seconds it took."""

    refused: bool | None
    message: str = ""
    seconds: float = 0.0
    report: Any = None  # ours only


@dataclasses.dataclass(frozen=True)
class Checker:
    """A gradient checker: `check(problem)` raises when it refuses; ours returns its report."""

    name: str
    check: Callable[[Problem], Any]
    dtype: str
    names: str  # what its message names: leaf, coordinate, cause
    package: str | None = None  # what has to be installed
    max_parameters: int = 10**9  # with more, its number of losses is not feasible
    slow_refusals: bool = False  # it accepts in seconds and may take minutes to report a refusal

    @property
    def installed(self) -> bool:
        """Whether it can be imported here."""
        return self.package is None or importlib.util.find_spec(self.package) is not None


def check(checker: Checker, problem: Problem, timeout: float) -> Outcome:
    """Give a checker a problem; one with slow refusals has refused when `timeout` seconds have passed."""
    sizes = [leaf.size for leaf in jax.tree.leaves(problem.params) if hasattr(leaf, "size")]
    if sum(sizes) > checker.max_parameters:
        return Outcome(None, f"not feasible: two losses for each of {sum(sizes):,} parameters")
    double = checker.dtype == "float64"
    precision = jax.enable_x64(True) if double else contextlib.nullcontext()
    limit = time_limit(timeout) if checker.slow_refusals else contextlib.nullcontext()
    start = time.perf_counter()
    try:
        with precision, limit:
            report = checker.check(in_float64(problem) if double else problem)
        refused = bool(report is not None and report.verdict == "FAIL")
        return Outcome(refused, "", time.perf_counter() - start, report)
    except Exception as error:  # checkers refuse by any: AssertionError, GradcheckError, TypeError
        message = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return Outcome(True, message, time.perf_counter() - start)


@contextlib.contextmanager
def time_limit(seconds):
    """Raise TimeoutError in the block when it has run for so many seconds."""

    def stop(signum, frame):
        raise TimeoutError(f"its report was not ready after {seconds:g} s")

    handler = signal.signal(signal.SIGALRM, stop)
    # Again every second: an alarm that falls into a garbage collector's callback is swallowed there.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def is_floating(leaf) -> bool:
    """Whether it is an array of real floating numbers."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)


def in_float64(problem: Problem) -> Problem:
    """The problem with every floating leaf in float64."""
    widen = lambda leaf: leaf.astype(jnp.float64) if is_floating(leaf) else leaf
    with jax.ensure_compile_time_eval():  # values stay values even where the caller is being traced
        params, args = jax.tree.map(widen, (problem.params, problem.args))
    return dataclasses.replace(problem, params=params, args=args)


def scalar_loss(problem: Problem) -> Callable:
    """params -> J, without its auxiliary output."""
    has_aux = problem.kwargs.get("has_aux", False)

    def loss(params):
        J = problem.loss(params, *problem.args)
        return J[0] if has_aux else J

    return loss


# ---------------------------------------------------------------- ours


def by_jaxnet(problem: Problem):
    """jaxnet.verify in its default settings."""
    return check_gradients(
        problem.loss, problem.gradient, problem.params, *problem.args, **problem.kwargs, raise_=False
    )


# ---------------------------------------------------------------- the peers


def by_check_grads(problem: Problem):
    """jax.test_util.check_grads on a custom_vjp; reverse mode only, for the default modes raise TypeError."""
    loss = scalar_loss(problem)
    f = jax.custom_vjp(loss)

    def backward(params, cotangent):
        gradient = problem.gradient(params, *problem.args)
        return (jax.tree.map(lambda g: cotangent.astype(g.dtype) * g, gradient),)

    f.defvjp(lambda params: (loss(params), params), backward)
    check_grads(f, (problem.params,), order=1, modes=["rev"])


def through_numpy(problem: Problem):
    """The loss and the gradient as functions of NumPy leaves, and those leaves."""
    leaves, structure = jax.tree.flatten(problem.params)
    rebuilt = lambda arrays: jax.tree.unflatten(structure, [jnp.asarray(a) for a in arrays])
    loss = jax.jit(scalar_loss(problem))

    def value(*arrays):
        return np.float64(loss(rebuilt(arrays)))

    def gradient(*arrays):
        gradients = problem.gradient(rebuilt(arrays), *problem.args)
        return [np.array(leaf) for leaf in jax.tree.leaves(gradients)]

    return value, gradient, [np.array(leaf) for leaf in leaves]


def by_slow_gradcheck(problem: Problem):
    """torch.autograd.gradcheck in its default mode: the whole Jacobian."""
    by_gradcheck(problem, fast_mode=False)


def by_fast_gradcheck(problem: Problem):
    """torch.autograd.gradcheck along random directions."""
    by_gradcheck(problem, fast_mode=True)


def by_gradcheck(problem: Problem, fast_mode: bool):
    """gradcheck on an autograd.Function with the hand-written backward."""
    import torch

    value, gradient, leaves = through_numpy(problem)

    class HandWritten(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            ctx.save_for_backward(*tensors)
            return torch.tensor(value(*(t.detach().numpy() for t in tensors)), dtype=torch.float64)

        @staticmethod
        def backward(ctx, cotangent):
            leaves = gradient(*(t.detach().numpy() for t in ctx.saved_tensors))
            return tuple(cotangent * torch.from_numpy(leaf) for leaf in leaves)

    tensors = tuple(torch.from_numpy(leaf).requires_grad_(True) for leaf in leaves)
    torch.manual_seed(0)
    torch.autograd.gradcheck(HandWritten.apply, tensors, fast_mode=fast_mode)


def by_autograd(problem: Problem):
    """HIPS autograd's check_grads, argument by argument (its default looks at the first one only)."""
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads as autograd_check_grads

    value, gradient, leaves = through_numpy(problem)
    f = primitive(value)
    defvjp(f, *(leaf_rule(gradient, i) for i in range(len(leaves))))
    np.random.seed(0)  # autograd draws its directions from the global generator
    for i in range(len(leaves)):
        autograd_check_grads(f, i, modes=["rev"], order=1)(*leaves)


def leaf_rule(gradient, i):
    """defvjp's rule for argument i."""
    return lambda answer, *leaves: lambda cotangent: cotangent * gradient(*leaves)[i]


def by_classroom_formula(problem: Problem):
    """||g - n|| / (||g|| + ||n||) with n by central differences, coordinate by coordinate."""
    value, gradient, leaves = through_numpy(problem)
    flat = np.concatenate([leaf.ravel() for leaf in leaves])
    cuts = np.cumsum([leaf.size for leaf in leaves])[:-1]
    J = lambda flat: value(*(p.reshape(l.shape) for p, l in zip(np.split(flat, cuts), leaves, strict=True)))
    n = np.empty_like(flat)
    for i in range(flat.size):
        step = np.zeros_like(flat)
        step[i] = CLASSROOM_STEP
        n[i] = (J(flat + step) - J(flat - step)) / (2 * CLASSROOM_STEP)
    g = np.concatenate([leaf.ravel() for leaf in gradient(*leaves)])
    with np.errstate(invalid="ignore"):  # 0/0 where both vanish
        difference = np.linalg.norm(g - n) / (np.linalg.norm(g) + np.linalg.norm(n))
    assert difference < CLASSROOM_LIMIT, f"difference {difference:.1e}"  # false for NaN too


def by_chex(problem: Problem):
    """chex.assert_trees_all_close against jax.grad."""
    import chex

    chex.assert_trees_all_close(
        problem.gradient(problem.params, *problem.args), jax.grad(scalar_loss(problem))(problem.params)
    )


CHECKERS = (
    Checker("jaxnet.verify f32", by_jaxnet, "float32", "leaf, coordinate, cause"),
    Checker("jaxnet.verify f64", by_jaxnet, "float64", "leaf, coordinate, cause"),
    Checker("jaxnet.verify bf16", by_jaxnet, "bfloat16", "leaf, coordinate, cause"),
    Checker("check_grads f32", by_check_grads, "float32", "-"),
    Checker("check_grads f64", by_check_grads, "float64", "-"),
    Checker("gradcheck slow f64", by_slow_gradcheck, "float64", "input", "torch", max_parameters=1_000),
    Checker("gradcheck fast f64", by_fast_gradcheck, "float64", "input", "torch", slow_refusals=True),
    Checker("autograd f64", by_autograd, "float64", "argument", "autograd"),
    Checker("classroom formula f64", by_classroom_formula, "float64", "-", max_parameters=1_000),
    Checker("chex f32", by_chex, "float32", "leaf, coordinate", "chex"),
    Checker("chex f64", by_chex, "float64", "leaf, coordinate", "chex"),
)
