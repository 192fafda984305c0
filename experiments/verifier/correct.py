"""Correct but tricky gradients, which checkers reject: kinks, saturation, low precision, odd trees, odd callers.

Every case is drawn from a key, so that a thousand seeds can be run. None of them may ever FAIL; `expected`
are the verdicts that a careful checker may give, `reason` what its report says where the verdict is INCONCLUSIVE.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from experiments.verifier.backward import CORRECT, Steps, example_losses, gradient_of, plain_loss
from experiments.verifier.points import random_problem, small, uneven


@dataclasses.dataclass(frozen=True)
class Problem:
    """A loss and its correct gradient at one point, for check_gradients(loss, gradient, params, *args)."""

    loss: Callable
    gradient: Callable
    params: Any
    args: tuple = ()
    kwargs: dict = dataclasses.field(default_factory=dict)


def plain_call(check):
    """Call the check, no more."""
    return check()


@dataclasses.dataclass(frozen=True)
class Case:
    """A family of problems with the verdicts that are right for it; `run` hands one to a checker."""

    name: str
    build: Callable[[jax.Array], Problem]
    expected: tuple[str, ...] = ("PASS",)
    reason: str | None = None  # regular expression, where INCONCLUSIVE is expected
    context: Callable = contextlib.nullcontext  # makes the context manager around build and check
    caller: Callable = plain_call  # calls the check, perhaps from an odd place

    def run(self, check, seed: int, **options):
        """check(loss, gradient, params, *args, **kwargs) for this seed, in the case's own surroundings."""
        with self.context():
            p = self.build(jax.random.key(seed))
            return self.caller(lambda: check(p.loss, p.gradient, p.params, *p.args, **{**p.kwargs, **options}))


TRICKY: dict[str, Case] = {}
NOT_FAIL = ("PASS", "INCONCLUSIVE")


def case(name, **fields):
    """Add the decorated builder (key) -> Problem as a Case."""

    def add(build):
        TRICKY[name] = Case(name, build, **fields)
        return build

    return add


def ordinary(key, dtype=jnp.float32):
    """The small net as it is, for the odd callers below."""
    params, X, Y = small(key, dtype)
    return Problem(plain_loss, CORRECT, params, (X, Y))


# ---------------------------------------------------------------- kinks


def relu_at_zero(slope):
    """A relu net whose zero bias and zero-padded columns put Z[1] at 0 exactly; relu'(0) = slope."""

    def relu(layer, Z):
        return jax.nn.relu(Z)

    def derivative(here, Z, A):
        return jnp.where(Z > 0, 1.0, jnp.where(Z == 0, slope, 0.0)).astype(Z.dtype)

    def build(key):
        ((W1, b1), top), X, Y = uneven(key)
        params = ((W1, jnp.zeros_like(b1)), tuple(top))
        loss = lambda params, X, Y: jnp.mean(example_losses(params, X, Y, relu))
        gradient = gradient_of(Steps(activation=relu, activation_derivative=derivative))
        return Problem(loss, gradient, params, (X.at[:, -2:].set(0), Y))

    return build


for slope in (0.0, 0.5, 1.0):
    case(f"relu_at_zero_slope_{slope}")(relu_at_zero(slope))


@case("relu_1e5_units")
def relu_of_many_units(key):
    """J = vᵀ relu(W x + b) with 100,000 units: every finite step crosses kinks somewhere."""
    W, b, v = (jax.random.normal(k, (100_000, n)) for k, n in zip(jax.random.split(key, 3), (4, 1, 1), strict=True))
    x = jnp.ones((4, 1)) / 2

    def loss(params, x, v):
        return jnp.sum(v * jax.nn.relu(params["W"] @ x + params["b"]))

    def gradient(params, x, v):
        dZ = jnp.where(params["W"] @ x + params["b"] > 0, v, 0)
        return {"W": dZ @ x.T, "b": dZ}

    return Problem(loss, gradient, {"W": W, "b": b}, (x, v))


@case("max_with_ties")
def max_with_ties(key):
    """J = Σ_i max_j x_ij over whole numbers from -1 to 1; the gradient picks the first of the ties."""
    x = jax.random.randint(key, (8, 6), -1, 2).astype(jnp.float32)
    pick = lambda x: jax.nn.one_hot(jnp.argmax(x, axis=1), x.shape[1], dtype=x.dtype)
    return Problem(lambda x: jnp.sum(jnp.max(x, axis=1)), pick, x)


@case("absolute_value_at_zero")
def absolute_value_at_zero(key):
    """J = Σ |x| with some x at 0 exactly, where the gradient says sign(0) = 0 and autodiff says 1."""
    x = jax.random.normal(key, (20,)).at[::5].set(0)
    return Problem(lambda x: jnp.sum(jnp.abs(x)), jnp.sign, x)


@case("many_equal_maxima_share_alike")
def many_equal_maxima(key):
    """J = Σ_i w_i max_j x_ij, forty rows of equals: each of six gets w_i/6, by autodiff the first gets all of it."""
    w = jax.random.normal(key, (40, 1))
    loss = lambda x: jnp.sum(w * jnp.take_along_axis(x, jnp.argmax(x, axis=1, keepdims=True), axis=1))
    return Problem(loss, lambda x: w * jnp.ones_like(x) / 6, jnp.ones((40, 6)))


@case("max_pooling_with_ties")
def max_pooling_with_ties(key):
    """Windows of two whole numbers; the gradient shares out among equals, autodiff's goes to the first."""
    k1, k2 = jax.random.split(key)
    x, w = jax.random.randint(k1, (20,), 0, 2).astype(jnp.float32), jax.random.normal(k2, (10,))

    def loss(x):
        return jnp.sum(w * jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2,), (2,), "VALID"))

    def gradient(x):
        pairs = x.reshape(10, 2)
        top = (pairs == jnp.max(pairs, axis=1, keepdims=True)).astype(x.dtype)
        return (w[:, None] * top / jnp.sum(top, axis=1, keepdims=True)).ravel()

    return Problem(loss, gradient, x)


@case("relu_at_zero_in_every_layer")
def relu_at_zero_in_every_layer(key):
    """Three relu layers with zero biases and zero columns: relu'(0) = 1/2 by hand, 0 in jax.nn.relu."""
    keys = jax.random.split(key, 4)
    W, b = [jax.random.normal(k, (5, 5)) for k in keys[:3]], [jnp.zeros((5, 1))] * 3
    X = jax.random.normal(keys[3], (5, 12)).at[:, 8:].set(0)

    def forward(params, X, relu):
        for W, b in zip(*params, strict=True):
            X = relu(W @ X + b)
        return jnp.mean((X - 1) ** 2)

    half = lambda Z: jnp.where(Z == 0, Z / 2, jnp.maximum(Z, 0))
    gradient = lambda params, X: jax.grad(forward)(params, X, half)
    return Problem(lambda params, X: forward(params, X, jax.nn.relu), gradient, (W, b), (X,))


# ---------------------------------------------------------------- saturation and conditioning

SATURATED = {"expected": ("INCONCLUSIVE",), "reason": "saturat|below|noise|vanish|too small|zero"}


def unit_loss(activation):
    """J = mean g(W X) of one layer of units."""
    return lambda W, X: jnp.mean(activation(W @ X))


def saturated_unit(activation, derivative_of_A):
    """One layer whose every |z| is far out: 1 - a is 0 in float32, the true slope is not."""

    def build(key):
        k1, k2 = jax.random.split(key)
        W = jax.random.uniform(k1, (4, 3), minval=10, maxval=15)
        X = jax.random.uniform(k2, (3, 5), minval=1, maxval=2)

        def gradient(W, X):
            A = activation(W @ X)
            return (derivative_of_A(A) / A.size) @ X.T

        return Problem(unit_loss(activation), gradient, W, (X,))

    return build


case("saturated_sigmoid", **SATURATED)(saturated_unit(jax.nn.sigmoid, lambda A: A * (1 - A)))
case("saturated_tanh", **SATURATED)(saturated_unit(jnp.tanh, lambda A: 1 - A * A))


@case("saturated_softmax", **SATURATED)
def saturated_softmax(key):
    """Cross-entropy of logits that are right by 200: A - Y is 0 in float32, e^-200 in truth."""
    labels = jax.random.randint(key, (6,), 0, 5)
    Y = jax.nn.one_hot(labels, 5, dtype=jnp.float32, axis=0)

    def loss(Z, Y):
        return jnp.mean(jax.nn.logsumexp(Z, axis=0) - jnp.sum(Y * Z, axis=0))

    return Problem(loss, lambda Z, Y: (jax.nn.softmax(Z, axis=0) - Y) / Y.shape[1], 200 * Y, (Y,))


@case("dead_relu_layer", expected=("INCONCLUSIVE",), reason="zero|dead|below|noise")
def dead_relu_layer(key):
    """Biases of -100 kill every hidden unit: the true gradient of the first layer is 0."""
    problem = relu_at_zero(0.0)(key)
    (W1, b1), top = problem.params
    return dataclasses.replace(problem, params=((W1, b1 - 100), top))


def scaled(factor):
    """The small net's loss and gradient times a constant."""

    def build(key):
        p = ordinary(key)
        return dataclasses.replace(
            p,
            loss=lambda *a: factor * p.loss(*a),
            gradient=lambda *a: jax.tree.map(lambda g: factor * g, p.gradient(*a)),
        )

    return build


case("loss_x_1e-12")(scaled(1e-12))
case("loss_x_1e12")(scaled(1e12))


def regression(key):
    """W, b, X, Y of a linear regression."""
    ((W, b), _), X, Y = uneven(key)
    return W, b, X, Y


def squared_error(params, X, Y):
    """J = 1/2m Σ (W X + b - Y)²."""
    W, b = params
    return jnp.sum((W @ X + b - Y) ** 2) / (2 * X.shape[1])


def squared_error_gradient(params, X, Y):
    """dZ = (W X + b - Y)/m, dW = dZ Xᵀ, db = Σ_i dZ."""
    W, b = params
    dZ = (W @ X + b - Y) / X.shape[1]
    return dZ @ X.T, jnp.sum(dZ, axis=1, keepdims=True)


@case("inputs_x_1e4")
def large_inputs(key):
    """A linear regression on inputs of size 10,000."""
    W, b, X, Y = regression(key)
    return Problem(squared_error, squared_error_gradient, (W, b), (1e4 * X, Y))


@case("log_near_zero")
def log_near_zero(key):
    """J = Σ log x at x of about 1e-6: a fixed step leaves the domain."""
    x = 1e-6 * jax.random.uniform(key, (10,), minval=0.5, maxval=2)
    return Problem(lambda x: jnp.sum(jnp.log(x)), lambda x: 1 / x, x)


@case("sqrt_near_zero")
def sqrt_near_zero(key):
    """J = Σ √x at x of about 1e-8."""
    x = 1e-8 * jax.random.uniform(key, (10,), minval=0.5, maxval=2)
    return Problem(lambda x: jnp.sum(jnp.sqrt(x)), lambda x: 0.5 / jnp.sqrt(x), x)


@case("sum_of_1e6_terms")
def long_sum(key):
    """A line fitted to a million points: each entry of the float32 gradient is a sum of 1e6 terms."""
    k1, k2, k3 = jax.random.split(key, 3)
    x = jax.random.normal(k1, (1, 1_000_000))
    params = jax.random.normal(k2, (1, 1)), jax.random.normal(k3, (1, 1))
    return Problem(squared_error, squared_error_gradient, params, (x, jnp.sin(x)))


@case("sum_of_1e6_squares")
def many_squares(key):
    """J = Σ x² of a million parameters: the loss is large, the gradient exact."""
    return Problem(lambda x: jnp.sum(x * x), lambda x: 2 * x, jax.random.normal(key, (1_000_000,)))


def logistic_orbit(x, steps=100):
    """x <- 4 x (1 - x), a hundred times, and the slope 4 (1 - 2x) of every step multiplied up."""

    def step(state, _):
        x, slope = state
        return (4 * x * (1 - x), slope * 4 * (1 - 2 * x)), None

    (x, slope), _ = jax.lax.scan(step, (x, jnp.ones_like(x)), None, length=steps)
    return x, slope


@case("chaotic_map", expected=("INCONCLUSIVE",), reason="condition|chao|noise|below|sensitiv|perturb")
def chaotic_map(key):
    """An orbit that forgets its start after fifty steps: no float gradient means anything."""
    x = jax.random.uniform(key, (4,), minval=0.1, maxval=0.4)
    return Problem(lambda x: jnp.sum(logistic_orbit(x)[0]), lambda x: logistic_orbit(x)[1], x)


@case("deep_net_with_large_weights", expected=NOT_FAIL)
def deep_net_with_large_weights(key):
    """Twenty tanh layers with weights eight times too large: order or chaos, by chance."""
    params, X, Y = random_problem((6,) * 21, 6, key)
    return Problem(plain_loss, CORRECT, tuple((8 * W, b) for W, b in params), (X, Y))


# ---------------------------------------------------------------- precision

# On one start in fifteen a bias's gradient cancels to within 16 roundings of bfloat16: INCONCLUSIVE is then right.
case("bfloat16_leaves", expected=NOT_FAIL)(lambda key: ordinary(key, jnp.bfloat16))
case("float16_leaves")(lambda key: ordinary(key, jnp.float16))


def rounded_product(A, B):
    """A B from operands rounded to bfloat16, accumulated in float32."""
    return jnp.matmul(A.astype(jnp.bfloat16), B.astype(jnp.bfloat16), preferred_element_type=jnp.float32)


@case("float32_master_bfloat16_compute", expected=NOT_FAIL)
def mixed_precision(key):
    """float32 parameters, all products in bfloat16, forwards and backwards."""
    params, X, Y = uneven(key)

    def forward(params, X):
        (W1, b1), (W2, b2) = params
        A1 = jnp.tanh(rounded_product(W1, X) + b1)
        return A1, rounded_product(W2, A1) + b2

    def loss(params, X, Y):
        Z2 = forward(params, X)[1]
        return jnp.mean(jax.nn.logsumexp(Z2, axis=0) - jnp.sum(Y * Z2, axis=0))

    def gradient(params, X, Y):
        A1, Z2 = forward(params, X)
        dZ2 = (jax.nn.softmax(Z2, axis=0) - Y) / Y.shape[1]
        dZ1 = rounded_product(params[1][0].T, dZ2) * (1 - A1 * A1)
        pairs = ((dZ1, X), (dZ2, A1))
        layers = [[rounded_product(dZ, A.T), jnp.sum(dZ, axis=1, keepdims=True)] for dZ, A in pairs]
        return jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(layers))

    return Problem(loss, gradient, params, (X, Y))


# ---------------------------------------------------------------- batches


@case("one_example")
def one_example(key):
    """m = 1: factors of m are invisible, and no error either."""
    params, X, Y = random_problem((5, 6, 6), 1, key)
    return Problem(plain_loss, CORRECT, params, (X, Y))


@case("empty_batch", expected=("INCONCLUSIVE",), reason="empty|nan|not finite|zero")
def empty_batch(key):
    """m = 0: the mean over no example is 0/0."""
    params, X, Y = uneven(key)
    return Problem(plain_loss, CORRECT, params, (X[:, :0], Y[:, :0]))


# ---------------------------------------------------------------- trees


def odd_leaves(placeholder):
    """Parameters among leaves that have no gradient; the gradient puts placeholder(leaf) in their place."""

    def build(key):
        W, b, X, Y = regression(key)
        params = {"W": W, "b": b, "steps": jnp.int32(3), "frozen": jnp.array(True), "key": key, "none": None}

        def loss(params, X, Y):
            return squared_error((params["W"], params["b"]), X, Y)

        def gradient(params, X, Y):
            dW, db = squared_error_gradient((params["W"], params["b"]), X, Y)
            others = {k: placeholder(v) for k, v in params.items() if k not in "Wb"}
            return {"W": dW, "b": db, **others}

        return Problem(loss, gradient, params, (X, Y))

    return build


case("none_int_bool_key_leaves_returned")(odd_leaves(lambda leaf: leaf))
case("none_int_bool_key_leaves_as_none")(odd_leaves(lambda leaf: None))


@case("frozen_leaf")
def frozen_leaf(key):
    """b is declared frozen: its gradient is zero on purpose."""
    W, b, X, Y = regression(key)

    def gradient(params, X, Y):
        dW, db = squared_error_gradient((params["W"], params["b"]), X, Y)
        return {"W": dW, "b": jnp.zeros_like(db)}

    def loss(params, X, Y):
        return squared_error((params["W"], params["b"]), X, Y)

    return Problem(loss, gradient, {"W": W, "b": b}, (X, Y), {"trainable": {"W": True, "b": False}})


@case("unused_leaf", expected=NOT_FAIL)
def unused_leaf(key):
    """The loss never looks at params["spare"]: zero is right."""
    W, b, X, Y = regression(key)

    def gradient(params, X, Y):
        dW, db = squared_error_gradient((params["W"], params["b"]), X, Y)
        return {"W": dW, "b": db, "spare": jnp.zeros_like(params["spare"])}

    def loss(params, X, Y):
        return squared_error((params["W"], params["b"]), X, Y)

    return Problem(loss, gradient, {"W": W, "b": b, "spare": jnp.ones((3, 2))}, (X, Y))


@case("has_aux")
def has_aux(key):
    """A loss that returns its activations beside the cost."""
    p = ordinary(key)
    return dataclasses.replace(p, loss=lambda *a: (p.loss(*a), {"X": a[1]}), kwargs={"has_aux": True})


@case("sharded_inputs")
def sharded_inputs(key):
    """Examples spread over all devices there are."""
    devices = np.array(jax.devices())
    params, X, Y = random_problem((5, 6, 6), 2 * devices.size, key)
    mesh = jax.sharding.Mesh(devices, ("data",))
    columns = NamedSharding(mesh, PartitionSpec(None, "data"))
    params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    return Problem(plain_loss, CORRECT, params, (jax.device_put(X, columns), jax.device_put(Y, columns)))


# ---------------------------------------------------------------- equal formulas, written differently


@case("tanh_prime_as_sech_squared")
def sech_squared(key):
    """tanh'(z) = 1/cosh²(z) instead of 1 - a²."""
    steps = Steps(activation_derivative=lambda here, Z, A: 1 / jnp.cosh(Z) ** 2)
    return dataclasses.replace(ordinary(key), gradient=gradient_of(steps))


@case("sigmoid_prime_of_z")
def sigmoid_prime_of_z(key):
    """σ'(z) = e^-z / (1 + e^-z)² instead of a(1 - a)."""
    k1, k2 = jax.random.split(key)
    W, X = jax.random.normal(k1, (4, 3)), jax.random.normal(k2, (3, 7))

    def gradient(W, X):
        Z = W @ X
        return (jnp.exp(-Z) / (1 + jnp.exp(-Z)) ** 2 / Z.size) @ X.T

    return Problem(unit_loss(jax.nn.sigmoid), gradient, W, (X,))


@case("cross_entropy_through_probabilities")
def cross_entropy_through_probabilities(key):
    """dZ = A * (dA - Σ A dA) with dA = -Y/A, against a loss that is computed from logits."""

    def delta(A, Y):
        return A * (-Y / A - jnp.sum(-Y, axis=0, keepdims=True))

    return dataclasses.replace(ordinary(key), gradient=gradient_of(Steps(delta=delta)))


@case("products_as_sums")
def products_as_sums(key):
    """dW by an explicit sum over the examples, another order of the same terms."""

    def dW(here, dZ):
        A_prev = here.A[here.layer - 1]
        return jnp.mean(dZ[:, None, :] * A_prev[None, :, :], axis=2)

    return dataclasses.replace(ordinary(key), gradient=gradient_of(Steps(dW=dW)))


# ---------------------------------------------------------------- odd callers


def inside_jit(check):
    """Call the check while another function is being traced."""
    reports = []

    @jax.jit
    def outer(x):
        reports.append(check())
        return x

    outer(1.0)
    return reports[0]


case("caller_under_jit", caller=inside_jit)(ordinary)
case("caller_under_x64", context=lambda: jax.enable_x64(True))(lambda key: ordinary(key, jnp.float64))
case("float32_under_x64", context=lambda: jax.enable_x64(True))(ordinary)
case("caller_under_disable_jit", context=jax.disable_jit)(ordinary)
case("caller_with_debug_nans", context=lambda: jax.debug_nans(True))(ordinary)
case("caller_with_strict_promotion", context=lambda: jax.numpy_dtype_promotion("strict"))(ordinary)
case("caller_with_rank_promotion_raise", context=lambda: jax.numpy_rank_promotion("raise"))(ordinary)
