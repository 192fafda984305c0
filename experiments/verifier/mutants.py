"""Wrong backward passes: the catalogue of bugs that a gradient checker has to refuse.

A mutant replaces one of the steps of a correct backward pass and names the leaves that turn wrong, the phrase that a
good diagnosis contains and the point that shows it.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.verifier.backward import (
    CORRECT,
    WEIGHT_DECAY,
    Steps,
    dA,
    db,
    decayed_loss,
    dropout,
    dropout_derivative,
    dropout_loss,
    dW,
    finish,
    gradient_of,
    leaky_derivative,
    leaky_loss,
    leaky_relu,
    padded_delta,
    padded_loss,
    plain_loss,
    sum_loss,
    tanh_derivative,
)
from experiments.verifier.points import (
    large,
    large_square,
    long_batch,
    small,
    square,
    uneven,
    with_padding,
    with_saturated_example,
)

PLAIN = Steps()
CLIP = 0.01  # far below the gradients' norm at every test point, so that clipping is always active

# Leaf paths: (index in params, name), so that W[1] of the notes is (0, "W").
W1, B1, W2, B2, W3, B3 = ((index, name) for index in range(3) for name in ("W", "b"))


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One wrong backward pass, what is wrong with it and where it shows.

    `build()` makes the gradient function; `gradient` is a fresh one at every access, so that a mutant with a
    memory starts without one: take it once, then call it. `starts` are the leaves where the error begins,
    `inherits` those that follow. `cause` is a case-insensitive regular expression that the diagnosis should
    contain, None where no cause can be named.
    """

    name: str
    build: Callable[[], Callable]
    starts: tuple
    inherits: tuple = ()
    cause: str | None = None
    visible: bool = True
    needs: tuple[str, ...] = ()
    loss: Callable = plain_loss
    right: Callable = CORRECT  # the correct gradient of `loss`
    point: Callable = small
    large_point: Callable | None = large  # None: the bug needs its own point, size does not matter
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # keyword arguments for check_gradients

    @property
    def gradient(self):
        """A fresh wrong gradient function (params, X, Y) -> tree like params."""
        return self.build()

    @property
    def wrong(self):
        """Every leaf that is off, as (layer index, "W" or "b")."""
        return (*self.starts, *self.inherits)


MUTANTS: dict[str, Mutant] = {}


def mutant(name, starts, cause=None, *, inherits=(), build=None, base=PLAIN, right=None, **rest):
    """Add a mutant: keywords that are `Steps` replace steps of `base`, the others describe the Mutant."""
    steps = {k: rest.pop(k) for k in [f.name for f in dataclasses.fields(Steps)] if k in rest}
    wrong = gradient_of(dataclasses.replace(base, **steps))
    right = right or gradient_of(base)
    build = build or (lambda: wrong)
    MUTANTS[name] = Mutant(name, build, tuple(starts), tuple(inherits), cause, right=right, **rest)


def only(layer, wrong, otherwise):
    """A step that is wrong in one layer and right in the others."""
    return lambda here, *rest: wrong(here, *rest) if here.layer == layer else otherwise(here, *rest)


def times(factor, step):
    """A step multiplied by factor(here)."""
    return lambda here, *rest: step(here, *rest) * factor(here)


ALL = (W1, B1, W2, B2)
AT_SQUARE = {"point": square, "large_point": large_square}
UNEVEN = {"point": uneven}

# Factors: where 1/m stands, and what stands in its place.
mutant("dW_without_1/m", [W2], "1/m (is )?missing", dW=only(2, times(lambda h: h.m, dW), dW), **UNEVEN)
mutant("db_without_1/m", [B1], "1/m (is )?missing", db=only(1, times(lambda h: h.m, db), db), **UNEVEN)
mutant(
    "1/m_twice",
    [W1, W2],
    "1/m (is |stands |applied )?twice",
    dW=times(lambda h: 1 / h.m, dW),
    **UNEVEN,
)
mutant(
    "1/(m-1)",
    ALL,
    r"m ?/ ?\(m ?[-−] ?1\)|1/\(m ?[-−] ?1\)",
    dW=times(lambda h: h.m / (h.m - 1), dW),
    db=times(lambda h: h.m / (h.m - 1), db),
    **UNEVEN,
)
mutant(
    "1/n_for_1/m",
    [W2, B2],
    r"1/n|/ ?n",
    needs=("m != n",),
    dW=only(2, lambda h, dZ: dZ @ h.A[1].T / h.W.shape[0], dW),
    db=only(2, lambda h, dZ: jnp.sum(dZ, axis=1, keepdims=True) / h.W.shape[0], db),
    **UNEVEN,
)
mutant(
    "sum_loss_mean_gradient",
    ALL,
    "1/m|sum",
    loss=sum_loss,
    right=lambda *a: jax.tree.map(lambda g: g * a[1].shape[1], CORRECT(*a)),
    needs=("sum loss",),
    **UNEVEN,
)
mutant("x_1.001", [W1], r"1\.001", dW=only(1, times(lambda h: 1.001, dW), dW))

# Signs.
mutant("delta_Y_minus_A", [W2, B2], "sign", inherits=[W1, B1], delta=lambda A, Y: Y - A)
mutant("db_sign", [B2], "sign", db=only(2, times(lambda h: -1, db), db))

# Products and transpositions: silent on square layers.
mutant(
    "W_for_W_transposed",
    [W2, B2],
    "transpos|W dZ|W for",
    inherits=[W1, B1],
    needs=("square",),
    dA=only(3, lambda h, dZ: h.W @ dZ, dA),
    **AT_SQUARE,
)
mutant("dW_transposed", [W2], "transpos", needs=("square",), dW=only(2, lambda h, dZ: dW(h, dZ).T, dW))
mutant(
    "A_dZ_transposed",
    [W1, W2, W3],
    "transpos",
    needs=("square",),
    dW=lambda h, dZ: h.A[h.layer - 1] @ dZ.T / h.m,
    **AT_SQUARE,
)


# The activation's derivative.
def sigmoid_derivative(here, Z, A):
    """σ'(Z) = σ(Z)(1 - σ(Z)), the output layer's g."""
    return jax.nn.sigmoid(Z) * (1 - jax.nn.sigmoid(Z))


mutant("g_of_layer_above", [W1, B1], r"g\[2\]'", activation_derivative=sigmoid_derivative)
mutant("g_prime_of_A", [W1, B1], r"g(\[1\])?'\(A", activation_derivative=lambda h, Z, A: 1 - jnp.tanh(A) ** 2)
mutant(
    "g_prime_omitted",
    [W2, B2],
    r"g(\[2\])?'[^.]*(omitted|missing|forgotten)|(omitted|missing|without) g",
    inherits=[W1, B1],
    needs=("two hidden layers",),
    activation_derivative=only(2, lambda h, Z, A: jnp.ones_like(Z), tanh_derivative),
    **AT_SQUARE,
)
mutant("g_prime_twice", [W1, B1], r"g(\[1\])?'[^.]*twice", activation_derivative=lambda h, Z, A: (1 - A * A) ** 2)
mutant(
    "g_prime_of_layer_below",
    [W2, B2],
    r"Z\[1\]",
    inherits=[W1, B1],
    needs=("two hidden layers", "equal widths"),
    activation_derivative=only(2, lambda h, Z, A: 1 - h.A[1] ** 2, tanh_derivative),
    **AT_SQUARE,
)

# The sum in db.
mutant("db_without_sum", [B1], "sum[^.]*axis 1[^.]*missing", db=only(1, lambda h, dZ: dZ / h.m, db))
mutant("db_without_keepdims", [B2], "keepdims", db=only(2, lambda h, dZ: jnp.sum(dZ, axis=1) / h.m, db))
mutant(
    "db_sum_over_axis_0",
    [B1],
    "axis 0|wrong axis|shape",
    needs=("m == n",),
    db=only(1, lambda h, dZ: jnp.sum(dZ, axis=0)[:, None] / h.m, db),
)

# Leaves: forgotten or in the wrong place.
mutant("dW_zero", [W1], "zero", dW=only(1, times(lambda h: 0, dW), dW))
mutant("db_zero", [B1], "zero", db=only(1, times(lambda h: 0, db), db))
mutant("last_bias_frozen", [B2], "zero|frozen", db=only(2, times(lambda h: 0, db), db))
mutant(
    "dW_of_layer_below",
    [W3],
    r"another leaf|gradient of|swapped|equals",
    needs=("equal widths",),
    finish=lambda p, g: [*g[:4], g[2], g[5]],
    **AT_SQUARE,
)
mutant(
    "leaves_reversed",
    [W1, B1, W3, B3],
    "order|revers|swapped",
    needs=("equal widths",),
    finish=lambda p, g: [*g[4:6], *g[2:4], *g[0:2]],
    **AT_SQUARE,
)

# The activation in dW.
mutant("Z_for_A", [W2], r"Z\[1\]|another activation", dW=only(2, lambda h, dZ: dZ @ h.Z[1].T / h.m, dW))
mutant("A_of_own_layer", [W2], r"A\[2\]|another activation", dW=only(2, lambda h, dZ: dZ @ h.A[2].T / h.m, dW))
mutant(
    "X_for_A1",
    [W2],
    r"\bX\b|A\[0\]|another activation",
    needs=("equal widths",),
    dW=only(2, lambda h, dZ: dZ @ h.A[0].T / h.m, dW),
    **AT_SQUARE,
)


def stale_dW(here, dZ):
    """dW[2] with the A[1] that the previous batch left in the cache."""
    A_stale = np.tanh(np.random.default_rng(5).normal(size=here.A[1].shape)).astype(dZ.dtype)  # a cache: numbers
    return dZ @ A_stale.T / here.m


mutant("A_of_previous_batch", [W2], r"activation|A\[1\]", dW=only(2, stale_dW, dW))
mutant("W_after_update", [W1, B1], None, dA=lambda h, dZ: (h.W - 0.1 * dW(h, dZ)).T @ dZ)
mutant(
    "last_example_dropped",
    [W2],
    r"example",
    dW=only(2, lambda h, dZ: dZ[:, :-1] @ h.A[1][:, :-1].T / h.m, dW),
)

# The output's delta.
mutant(
    "delta_times_sigmoid_prime",
    [W2, B2],
    r"A ?\(1 ?[-−] ?A\)|σ'|g(\[2\])?'",
    inherits=[W1, B1],
    delta=lambda A, Y: (A - Y) * A * (1 - A),
)
mutant(
    "one_hot_off_by_one",
    [W2, B2],
    r"class|label|one-hot",
    inherits=[W1, B1],
    delta=lambda A, Y: A - jnp.roll(Y, 1, axis=0),
    **UNEVEN,  # with as many labels of each class db would be right
)

# Single entries.
mutant("one_coordinate_x_1.5", [W1], r"1\.5", finish=lambda p, g: [g[0].at[2, 3].multiply(1.5), *g[1:]])
mutant(
    "one_coordinate_zero",
    [W2],
    r"(entry|entries|coordinate)",
    finish=lambda p, g: [*g[:2], g[2].at[4, 1].set(0), *g[3:]],
)


# Precision.
def bfloat16_dW(here, dZ):
    """dW[2] from operands rounded to bfloat16."""
    product = dZ.astype(jnp.bfloat16) @ here.A[1].T.astype(jnp.bfloat16)
    return product.astype(dZ.dtype) / here.m


def running_sum_db(here, dZ):
    """db[1] as a float32 running sum over the examples, one after the other."""
    start = jnp.zeros(dZ.shape[0], jnp.float32)
    total, _ = jax.lax.scan(lambda s, column: (s + column, None), start, dZ.T.astype(jnp.float32))
    return total.astype(dZ.dtype)[:, None] / here.m


mutant(
    "bfloat16_product",
    [W2],
    "bf16|bfloat16|precision",
    needs=("wider than bf16",),
    dW=only(2, bfloat16_dW, dW),
)
mutant(
    "float32_running_sum",
    [B2],
    "precision|accumul|float32|f32",
    needs=("m = 1e5", "float32 or float64"),
    db=only(2, running_sum_db, db),
    point=long_batch,
    large_point=None,
)


# Variants of the loss.
def decayed(params, gradients):
    """dW[l] + λ W[l]: flattened params alternate W, b."""
    pairs = enumerate(zip(params, gradients, strict=True))
    return [g + WEIGHT_DECAY * p if i % 2 == 0 else g for i, (p, g) in pairs]


DECAYED = {"loss": decayed_loss, "base": Steps(finish=decayed), "needs": ("weight decay",)}
mutant("weight_decay_missing", [W1, W2], "decay|regulari", finish=finish, **DECAYED)
mutant(
    "weight_decay_on_b",
    [B1, B2],
    "decay|regulari",
    finish=lambda p, g: [d + WEIGHT_DECAY * w for w, d in zip(p, g, strict=True)],
    **DECAYED,
)
mutant(
    "dropout_mask_forgotten",
    [W1, B1],
    None,
    loss=dropout_loss,
    base=Steps(activation=dropout, activation_derivative=dropout_derivative),
    activation_derivative=lambda h, Z, A: 1 - jnp.tanh(Z) ** 2,
    needs=("dropout mask",),
)
mutant(
    "leaky_slope_on_wrong_side",
    [W1, B1],
    None,
    loss=leaky_loss,
    base=Steps(activation=leaky_relu, activation_derivative=leaky_derivative),
    activation_derivative=lambda h, Z, A: leaky_derivative(h, -Z, A),
    needs=("leaky relu",),
)
mutant(
    "padded_examples_contribute",
    [W2, B2],
    "example",
    inherits=[B1],  # not W[1]: the padded columns of X are zero
    loss=padded_loss,
    base=Steps(delta=padded_delta),
    delta=lambda A, Y: (A - Y) * (Y.shape[1] / jnp.sum(Y)),
    needs=("padding",),
    point=with_padding(uneven),
    large_point=with_padding(large),
)


def clipped(params, gradients):
    """All leaves scaled together to the norm CLIP."""
    norm = jnp.sqrt(sum(jnp.sum(g * g) for g in gradients))
    return [g * jnp.minimum(CLIP / norm, 1) for g in gradients]


mutant("clipped_inside", ALL, "clip|same factor|common factor|one factor", finish=clipped)


def probability_delta(A, Y):
    """dZ[L] through dA = -Y/A and softmax's Jacobian: right, but 0/0 where a probability underflows."""
    dA = -Y / A
    return A * (dA - jnp.sum(A * dA, axis=0, keepdims=True))


mutant(
    "nan_for_saturated_example",
    [W2, B2],
    "nan|not finite",
    inherits=[W1, B1],
    delta=probability_delta,
    needs=("saturated example",),
    point=with_saturated_example(small),
    large_point=with_saturated_example(large),
)


# Wrong only in some call.
def wrong_under_jit(params, X, Y):
    """A shortcut for concrete arrays is right, the branch that is traced has lost its 1/m."""
    factor = X.shape[1] if isinstance(X, jax.core.Tracer) else 1
    return jax.tree.map(lambda g: g * factor, CORRECT(params, X, Y))


def wrong_under_vmap():
    """A custom batching rule that returns twice the gradient: as written right, lifted wrong."""
    gradient = jax.custom_batching.custom_vmap(CORRECT)

    @gradient.def_vmap
    def rule(axis_size, batched, params, X, Y):
        axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(batched))
        answer = jax.vmap(CORRECT, in_axes=axes, axis_size=axis_size)(params, X, Y)
        return jax.tree.map(lambda g: 2 * g, answer), jax.tree.map(lambda _: True, answer)

    return gradient


def accumulating():
    """The n-th call returns n times the gradient: the accumulator is never set back to zero."""
    calls = itertools.count(1)

    def gradient(params, X, Y):
        call = next(calls)
        return jax.tree.map(lambda g: g * call, CORRECT(params, X, Y))

    return gradient


mutant("wrong_only_under_jit", ALL, "jit", build=lambda: wrong_under_jit, needs=("jit",))
mutant(
    "wrong_only_under_vmap",
    ALL,
    "vmap",
    build=wrong_under_vmap,
    needs=("vmap",),
    options={"variants": ("eager", "jit", "vmap")},
)
mutant(
    "second_call_differs",
    ALL,
    "second call|two calls|between calls|differs|determin|state",
    build=accumulating,
    needs=("second call",),
)

# Bugs so gross that they show in bfloat16, whose correct gradients are off by a few per cent themselves.
SHOWN_IN_BFLOAT16 = (
    "dW_without_1/m",
    "db_without_1/m",
    "delta_Y_minus_A",
    "db_sign",
    "W_for_W_transposed",
    "dW_transposed",
    "A_dZ_transposed",
    "db_without_sum",
    "db_without_keepdims",
    "db_sum_over_axis_0",
    "dW_zero",
    "dW_of_layer_below",
    "A_of_own_layer",
    "X_for_A1",
    "A_of_previous_batch",
    "nan_for_saturated_example",
    "wrong_only_under_jit",
)

# What no test at a point can see: the branch is never taken there.
mutant(
    "rare_branch",
    [],
    activation_derivative=lambda h, Z, A: jnp.where(Z > 50, jnp.ones_like(Z), 1 - A * A),
    visible=False,
)
