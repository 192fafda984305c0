"""The checks of the golden file: planted mutants, tricky right gradients, rules, and losses that hide their inside."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from experiments.verifier.correct import TRICKY
from experiments.verifier.mutants import MUTANTS, SHOWN_IN_BFLOAT16, Mutant
from experiments.verifier.trials import leaf_path, scaled
from jaxnet.verify import Report, check_gradients, check_vjp
from tests.verify import rules
from tests.verify import test_arguments_of_a_rule as arguments
from tests.verify import test_cotangents_of_a_rule as cotangents
from tests.verify import test_forward_of_a_rule as forwards
from tests.verify.evidence import test_witnesses as hosts
from tests.verify.judge import test_hidden as kernels
from tests.verify.operations import OPERATIONS, Operation, with_rule

SCALES = (1.0, 1e-6, 1e6)  # of the loss
SEEDS = range(4)  # of a tricky case


@dataclass(frozen=True)
class Case:
    """One check, and what is right to say of its gradient; nothing is computed before it is asked for."""

    run: Callable[[], Report]
    verdicts: tuple[str, ...]
    failed: Callable[[], Collection[str]] = tuple  # the paths of all leaves that have to FAIL
    cause: str | None = None  # a regular expression for the report's cause
    reason: str | None = None  # a regular expression for the report's text, where it is INCONCLUSIVE


def right(run: Callable[[], Report], *verdicts: str) -> Case:
    """A right gradient: PASS, if no other verdict is given."""
    return Case(run, verdicts or ("PASS",))


def wrong(run: Callable[[], Report], *failed: str) -> Case:
    """A wrong gradient, and the leaves in which it is."""
    return Case(run, ("FAIL",), lambda: failed)


# ---------------------------------------------------------------- mutants


def mutants() -> Iterator[tuple[str, Case]]:
    """Every planted mutant in each precision, at each scale of the loss."""
    for dtype, scale, (name, mutant) in product(("float32", "float64", "bfloat16"), SCALES, MUTANTS.items()):
        if dtype != "bfloat16" or name in SHOWN_IN_BFLOAT16:
            run, failed = partial(of_mutant, mutant, dtype, scale), partial(wrong_leaves, mutant)
            verdict = "FAIL" if mutant.visible else "PASS"
            yield f"{name} {dtype} x{scale:g}", Case(run, (verdict,), failed, mutant.cause)


def wrong_leaves(mutant: Mutant) -> list[str]:
    """The paths of the leaves that a mutant spoils."""
    return [leaf_path(leaf) for leaf in mutant.wrong]


def of_mutant(mutant: Mutant, dtype: str, scale: float) -> Report:
    """The report on a mutant; float64, and scaled losses, have points of their own."""
    seed = 1 if scale != 1 else 2 if dtype == "float64" else 0
    with jax.enable_x64(dtype == "float64"):
        point = mutant.point(jax.random.key(seed), jnp.dtype(dtype))
        loss, gradient = scaled(mutant.loss, mutant.gradient, scale)
        return check_gradients(loss, gradient, *point, raise_=False, **mutant.options)


# ---------------------------------------------------------------- right, and tricky


def tricky() -> Iterator[tuple[str, Case]]:
    """Every right gradient that other checkers reject."""
    for (name, case), seed in product(TRICKY.items(), SEEDS):  # what one seed compiles the next one uses
        run = partial(case.run, check_gradients, seed, raise_=False)
        yield f"{name} seed {seed}", Case(run, case.expected, reason=case.reason)


# ---------------------------------------------------------------- rules


def of_rule(f, *primals, **options) -> Report:
    """The report of check_vjp."""
    return check_vjp(f, *primals, raise_=False, **options)


def operations() -> Iterator[tuple[str, Case]]:
    """Layer norm, attention, convolution, embedding and a fused loss: their rules, right and with each bug."""
    for name, operation in OPERATIONS.items():
        yield name, right(partial(of_operation, operation, operation.backward))
        for bug in operation.bugs:
            run = partial(of_operation, operation, operation.spoiled(bug))
            yield f"{name} {bug}", Case(run, ("FAIL",), partial(spoiled_leaves, operation, bug))


def of_operation(operation: Operation, backward) -> Report:
    """The report on an operation that carries this backward as its rule."""
    return of_rule(with_rule(operation.forward, backward), *operation.primals(jax.random.key(0)))


def spoiled_leaves(operation: Operation, bug: str) -> list[str]:
    """The paths of the primals that a bug spoils; it is traced, not run."""

    def wrong(key):
        primals = operation.primals(key)
        return operation.bugs[bug](primals, jnp.zeros_like(operation.forward(*primals)))

    return [f"[{i}]" for i in jax.eval_shape(wrong, jax.random.key(0))]


def parts_of_rules() -> Iterator[tuple[str, Case]]:
    """The value that fwd returns, arguments that are never differentiated, and linearity in the cotangent."""
    X, W = rules.X, rules.W
    for name, (f, forward, primals, _) in forwards.OTHERS.items():
        yield f"fwd of another value: {name}", wrong(partial(of_rule, rules.with_forward(f, forward), *primals))
    for name, (f, forward, primals) in forwards.SAME.items():
        yield f"fwd by another formula: {name}", right(partial(of_rule, rules.with_forward(f, forward), *primals))
    coarse = rules.with_forward(forwards.attention, forwards.in_dtype(forwards.attention, jnp.bfloat16))
    yield "fwd in bfloat16", right(partial(of_rule, coarse, forwards.Q, forwards.K, forwards.V))
    cancels = rules.with_forward(forwards.spread, lambda x: jnp.mean(x * x) - x.mean() ** 2)
    yield "fwd that cancels", right(partial(of_rule, cancels, X + 300))
    both = jax.custom_vjp(jnp.sin)
    both.defvjp(lambda x: (1.05 * jnp.sin(x), x), lambda x, c: (2 * c * jnp.cos(x),))
    yield "fwd and bwd both wrong", wrong(partial(of_rule, both, X), "[0]")
    yield "a slope is never differentiated", right(partial(of_rule, arguments.leaky(), X, 0.1))
    yield "a slope is never differentiated, x 2", wrong(partial(of_rule, arguments.leaky(2.0), X, 0.1), "[0]")
    yield "a jvp holds a function", right(partial(of_rule, arguments.applied(), jnp.sin, X, "mean"))
    yield "a jvp holds a function, x 2", wrong(partial(of_rule, arguments.applied(2.0), jnp.sin, X, "mean"), "[0]")
    yield "a fused loss", right(partial(of_rule, cotangents.fused_loss(False), X))
    yield "a fused loss ignores its cotangent", wrong(partial(of_rule, cotangents.fused_loss(True), X), "[0]")
    backwards = {
        "one leaf ignores the cotangent, one has a factor": lambda a, b, c: (2 * c @ b.T, a.T @ jnp.ones_like(c)),
        "not linear: magnitudes": lambda a, b, c: (c @ b.T, jnp.abs(a.T @ c)),
        "not linear: clipped": lambda a, b, c: (c @ b.T, jnp.clip(a.T @ c, -0.5, 0.5)),
        "not linear: weight decay": lambda a, b, c: (c @ b.T, a.T @ c + 1e-2 * b),
        "linear, x 2": lambda a, b, c: (c @ b.T, 2 * a.T @ c),
    }
    for name, backward in backwards.items():
        failed = ("[0]", "[1]") if name.startswith("one leaf") else ("[1]",)
        yield name, wrong(partial(of_rule, rules.product(backward), X, W), *failed)
    yield "no rule at all", right(partial(of_rule, jnp.sin, X), "INCONCLUSIVE")


# ---------------------------------------------------------------- black boxes

W, X = hosts.W, hosts.X
LEAF = ""  # the path of params that are one array


def of_gradient(loss, gradient, *point, **options) -> Report:
    """The report of check_gradients."""
    return check_gradients(loss, gradient, *point, raise_=False, **options)


def times(factor, gradient):
    """A gradient times a factor."""
    return lambda *a: factor * gradient(*a)


def black_boxes() -> Iterator[tuple[str, Case]]:
    """Losses in NumPy, through callbacks and in kernels."""
    yield from in_numpy()
    yield from in_float32()
    yield from with_part_in_float32()
    yield from in_kernels()


def in_numpy() -> Iterator[tuple[str, Case]]:
    """Losses that JAX sees nothing of, at full precision."""
    loss, gradient = hosts.host_loss, hosts.host_gradient
    yield "tanh in NumPy", right(partial(of_gradient, loss, gradient, W, X))
    yield "tanh in NumPy, x 1.01", wrong(partial(of_gradient, loss, times(np.float32(1.01), gradient), W, X), LEAF)
    yield "tanh in NumPy, one entry x 1.01", wrong(partial(of_gradient, loss, with_wrong_entry, W, X), LEAF)
    w = np.array([10.0, 9.5, 11.0], np.float32)
    saturated = lambda w: 1e4 * float(np.sum(np.tanh(np.asarray(w, np.float64))))
    for a in (1, 2):
        case = partial(of_gradient, saturated, lambda w, a=a: 1e4 * (a - jnp.tanh(w) ** 2), w)
        yield f"{a} - tanh² in NumPy, saturated", right(case, "INCONCLUSIVE") if a == 1 else wrong(case, LEAF)
    yield "a loss that writes into its inputs", right(partial(of_gradient, centred, gradient_of_centred, W, X))


def with_wrong_entry(w, x):
    """The gradient of tanh in NumPy, one of whose entries is off by 1 %."""
    g = hosts.host_gradient(w, x)
    g[2, 1] *= 1.01
    return g


def centred(w, x):
    """A loss that centres its inputs in place."""
    x -= x.mean()
    return hosts.host_loss(w, x)


def gradient_of_centred(w, x):
    """The gradient of `centred`."""
    return hosts.host_gradient(w, x - x.mean())


def in_float32() -> Iterator[tuple[str, Case]]:
    """Hosts whose answers are float32 numbers, called from Python or from JAX; one has a kink at the point."""
    for f, how in product((hosts.log_sum, hosts.quadratic, hosts.kinked), ("NumPy", "a callback")):
        host = lambda p, f=f: np.float32(f(np, np.float64(p)))
        loss = host if how == "NumPy" else partial(jax.pure_callback, host, jax.ShapeDtypeStruct((), np.float32))
        gradient, kinked = jax.jit(jax.grad(partial(f, jnp))), f is hosts.kinked
        for seed in range(2):
            p = np.random.default_rng(seed).normal(size=6).astype(np.float32)
            p[1] = 0
            verdict = "INCONCLUSIVE" if kinked else "PASS"
            name = f"{f.__name__} in float32 by {how}, seed {seed}"
            yield name, right(partial(of_gradient, loss, gradient, p, key=seed), verdict)
            factor = 2 if kinked else 1.02
            yield f"{name}, x {factor}", wrong(partial(of_gradient, loss, times(factor, gradient), p, key=seed), LEAF)
    Y = np.random.default_rng(3).normal(size=(4, 6))
    error = lambda w: float(np.float32(np.sum((np.asarray(w, np.float64) @ X - Y) ** 2) / 12))
    for factor in (np.float32(1), np.float32(1.03)):
        case = partial(of_gradient, error, lambda w, factor=factor: factor * ((w @ X - Y) @ X.T / 6), W)
        yield f"squared error in float32, x {factor:g}", right(case) if factor == 1 else wrong(case, LEAF)


def with_part_in_float32() -> Iterator[tuple[str, Case]]:
    """A callback in float32 inside of a larger program, by which its answer is no float32 number."""
    p = np.random.default_rng(0).normal(size=6).astype(np.float32)
    host = lambda p: np.float32(hosts.log_sum(np, np.float64(p)))
    loss = lambda p: 3.1 * jax.pure_callback(host, jax.ShapeDtypeStruct((), np.float32), p)
    gradient = jax.jit(jax.grad(lambda p: 3.1 * hosts.log_sum(jnp, p)))
    yield "3.1 times a callback", right(partial(of_gradient, loss, gradient, p))
    yield "3.1 times a callback, x 1.02", wrong(partial(of_gradient, loss, times(1.02, gradient), p), LEAF)


def in_kernels() -> Iterator[tuple[str, Case]]:
    """Kernels and calls of the host within JAX: judged by values, or by the reference that is given for them."""
    loss, plain, W, X = kernels.loss, jnp.tanh, kernels.W, kernels.X
    for how, (make, _) in kernels.HIDDEN.items():
        hidden, gradient = loss(make("tanh")), jax.jit(jax.grad(loss(plain)))
        yield f"tanh in {how}", right(partial(of_gradient, hidden, gradient, W, X))
        yield f"tanh in {how}, x 1.1", wrong(partial(of_gradient, hidden, times(1.1, gradient), W, X), LEAF)
    for factor, reference in product((1.0, 1.1), (None, loss(plain))):
        f = kernels.ruled(kernels.whole("tanh"), plain, factor)
        case = partial(of_gradient, loss(f), jax.grad(loss(f)), W, X, reference=reference)
        name = f"a kernel's rule, x {factor:g}{', with a reference' if reference else ''}"
        yield name, right(case) if factor == 1 else wrong(case, LEAF)


KINDS = {
    "mutants": mutants,
    "tricky": tricky,
    "operations": operations,
    "rules": parts_of_rules,
    "black_boxes": black_boxes,
}


def cases() -> dict[str, Case]:
    """Every case by its name, `kind: case`."""
    return {f"{kind}: {name}": case for kind, of_kind in KINDS.items() for name, case in of_kind()}
