"""Five operations beyond dense layers: forward, hand-written backward, and the bugs people plant in them.

A backward maps (primals, cotangent of the output) to one cotangent per primal (None for whole numbers). A bug
maps the same to a dict {primal's index: wrong cotangent}; the other cotangents stay right, so that a checker
has to name exactly those leaves.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

EPSILON = 1e-2  # large enough for a forgotten ε to show
CHUNK = 1024


@dataclasses.dataclass(frozen=True)
class Operation:
    """A differentiable operation with its right backward, its bugs and a maker of test primals."""

    forward: Callable
    backward: Callable
    bugs: dict[str, Callable]
    primals: Callable

    def spoiled(self, name):
        """The backward with one bug in it."""

        def backward(primals, dy):
            wrong = self.bugs[name](primals, dy)
            return tuple(wrong.get(i, right) for i, right in enumerate(self.backward(primals, dy)))

        return backward

    def wrong_leaves(self, name, primals, leaves):
        """Which leaves of a report the bug spoils; a leaf for each primal but whole numbers, in their order."""
        dy = jax.eval_shape(self.forward, *primals)
        wrong = jax.eval_shape(lambda dy: self.bugs[name](primals, dy), dy)
        inexact = [i for i, primal in enumerate(primals) if jnp.issubdtype(primal.dtype, jnp.inexact)]
        names = dict(zip(inexact, leaves, strict=True))
        return {names[i] for i in wrong}


def with_rule(forward, backward):
    """The operation as its author would ship it: a jax.custom_vjp with this backward, both compiled."""
    forward = jax.jit(forward)
    f = jax.custom_vjp(forward)
    f.defvjp(lambda *primals: (forward(*primals), primals), jax.jit(backward))
    return f


# ---------------------------------------------------------------- layer norm: x (t, n), gamma (n,), beta (n,)


def normalised(x):
    """x̂ = (x - mean)/σ and 1/σ, with σ² = variance + ε, over the last axis."""
    centred = x - jnp.mean(x, axis=1, keepdims=True)
    inverse_sigma = jax.lax.rsqrt(jnp.mean(centred**2, axis=1, keepdims=True) + EPSILON)
    return centred * inverse_sigma, inverse_sigma


def layer_norm(x, gamma, beta):
    """y = γ x̂ + β."""
    return normalised(x)[0] * gamma[None, :] + beta[None, :]


def layer_norm_backward(primals, dy):
    """dx = (dx̂ - mean dx̂ - x̂ mean(dx̂ x̂))/σ with dx̂ = γ dy, dγ = Σ dy x̂, dβ = Σ dy."""
    x, gamma, _ = primals
    return layer_norm_dx(x, dy * gamma[None, :]), jnp.sum(dy * normalised(x)[0], axis=0), jnp.sum(dy, axis=0)


def layer_norm_dx(x, dx_hat):
    """dx from dx̂."""
    x_hat, inverse_sigma = normalised(x)
    along = jnp.mean(dx_hat * x_hat, axis=1, keepdims=True)
    return (dx_hat - jnp.mean(dx_hat, axis=1, keepdims=True) - x_hat * along) * inverse_sigma


def dx_without_mean(primals, dy):
    """The mean's own gradient is forgotten."""
    x, gamma, _ = primals
    dx_hat = dy * gamma[None, :]
    x_hat, inverse_sigma = normalised(x)
    return {0: (dx_hat - x_hat * jnp.mean(dx_hat * x_hat, axis=1, keepdims=True)) * inverse_sigma}


def dx_without_variance(primals, dy):
    """The variance's own gradient is forgotten."""
    x, gamma, _ = primals
    dx_hat = dy * gamma[None, :]
    return {0: (dx_hat - jnp.mean(dx_hat, axis=1, keepdims=True)) * normalised(x)[1]}


LAYER_NORM = Operation(
    layer_norm,
    layer_norm_backward,
    {
        "mean_term_missing": dx_without_mean,
        "variance_term_missing": dx_without_variance,
        "gamma_forgotten_in_dx": lambda p, dy: {0: layer_norm_dx(p[0], dy)},
        "dgamma_from_x": lambda p, dy: {1: jnp.sum(dy * p[0], axis=0)},
        "dbeta_averaged": lambda p, dy: {2: jnp.mean(dy, axis=0)},
        "cotangent_ignored_in_dbeta": lambda p, dy: {2: jnp.full_like(p[2], dy.shape[0])},
    },
    lambda key: (
        jax.random.normal(key, (6, 8)) * 0.5 + 1,
        jax.random.uniform(jax.random.fold_in(key, 1), (8,), minval=0.5, maxval=2),
        jax.random.normal(jax.random.fold_in(key, 2), (8,)),
    ),
)


# ---------------------------------------------------------------- softmax attention: Q, K, V (t, d)


def probabilities(Q, K):
    """P = softmax of Q Kᵀ/√d along the rows."""
    return jax.nn.softmax(Q @ K.T / Q.shape[1] ** 0.5, axis=1)


def attention(Q, K, V):
    """O = P V."""
    return probabilities(Q, K) @ V


def softmax_backward(P, dP):
    """dS = P * (dP - Σ_row dP P)."""
    return P * (dP - jnp.sum(dP * P, axis=1, keepdims=True))


def attention_backward(primals, dO):
    """dP = dO Vᵀ, dS from softmax, dQ = dS K/√d, dK = dSᵀ Q/√d, dV = Pᵀ dO."""
    Q, K, V = primals
    P = probabilities(Q, K)
    return *scores_backward(Q, K, softmax_backward(P, dO @ V.T)), P.T @ dO


def scores_backward(Q, K, dS):
    """dQ and dK from dS."""
    root = Q.shape[1] ** 0.5
    return dS @ K / root, dS.T @ Q / root


def from_wrong_dS(wrong_dS):
    """The bug that puts wrong_dS(P, dP) in softmax's place."""

    def bug(primals, dO):
        Q, K, V = primals
        return dict(enumerate(scores_backward(Q, K, wrong_dS(probabilities(Q, K), dO @ V.T))))

    return bug


def dQ_dK_without_root(primals, dO):
    """1/√d is forgotten."""
    dQ, dK, _ = attention_backward(primals, dO)
    root = primals[0].shape[1] ** 0.5
    return {0: dQ * root, 1: dK * root}


def dK_from_untransposed_dS(primals, dO):
    """dS for dSᵀ, silent because it is square."""
    Q, K, V = primals
    return {1: softmax_backward(probabilities(Q, K), dO @ V.T) @ Q / Q.shape[1] ** 0.5}


ATTENTION = Operation(
    attention,
    attention_backward,
    {
        "row_sum_missing": from_wrong_dS(lambda P, dP: P * dP),
        "sum_over_columns": from_wrong_dS(lambda P, dP: P * (dP - jnp.sum(dP * P, axis=0, keepdims=True))),
        "root_forgotten": dQ_dK_without_root,
        "dS_not_transposed": dK_from_untransposed_dS,
        "P_not_transposed": lambda p, dO: {2: probabilities(p[0], p[1]) @ dO},
        "cotangent_ignored_in_dV": lambda p, dO: {2: probabilities(p[0], p[1]).T @ jnp.ones_like(dO)},
    },
    lambda key: tuple(jax.random.normal(k, (7, 4)) for k in jax.random.split(key, 3)),
)


# ------------------------------------------ 2-D convolution: X (m, h, w, c), K (3, 3, c, o), b (o,)


def convolve(X, K):
    """Σ_ijc X[y+i-1, x+j-1, c] K[i, j, c, o]: zero padding of one keeps the size."""
    return jax.lax.conv_general_dilated(X, K, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def convolution(X, K, b):
    """Y = X * K + b."""
    return convolve(X, K) + b[None, None, None, :]


def convolution_backward(primals, dY):
    """dX = dY * flipped K with channels swapped, dK = shifted X against dY, db = Σ dY."""
    X, K, _ = primals
    return convolve(dY, adjoint_kernel(K)), kernel_gradient(X, dY, pad=1), jnp.sum(dY, axis=(0, 1, 2))


def adjoint_kernel(K):
    """K turned by 180 degrees, input and output channels swapped."""
    return jnp.flip(K, (0, 1)).swapaxes(2, 3)


def kernel_gradient(X, dY, pad):
    """dK[i, j] = Σ over examples and places of X shifted by (i, j) - 1, times dY."""
    height, width = X.shape[1:3]
    padded = jnp.pad(X, ((0, 0), (pad, 2 - pad), (pad, 2 - pad), (0, 0)))
    shifted = [[padded[:, i : i + height, j : j + width] for j in range(3)] for i in range(3)]
    return jnp.einsum("ijmhwc,mhwo->ijco", jnp.array(shifted), dY)


CONVOLUTION = Operation(
    convolution,
    convolution_backward,
    {
        "kernel_not_flipped": lambda p, dY: {0: convolve(dY, p[1].swapaxes(2, 3))},
        "channels_not_swapped": lambda p, dY: {0: convolve(dY, jnp.flip(p[1], (0, 1)))},
        "flipped_along_one_axis": lambda p, dY: {0: convolve(dY, jnp.flip(p[1], 0).swapaxes(2, 3))},
        "padding_off_by_one_in_dX": lambda p, dY: {0: convolve(jnp.roll(dY, 1, axis=1), adjoint_kernel(p[1]))},
        "padding_off_by_one_in_dK": lambda p, dY: {1: kernel_gradient(p[0], dY, pad=0)},
        "first_example_only_in_dK": lambda p, dY: {1: kernel_gradient(p[0][:1], dY[:1], pad=1)},
        "db_averaged_over_examples": lambda p, dY: {2: jnp.sum(dY, axis=(0, 1, 2)) / dY.shape[0]},
    },
    lambda key: (
        jax.random.normal(key, (2, 5, 6, 3)),
        jax.random.normal(jax.random.fold_in(key, 1), (3, 3, 3, 3)),  # c = o: unswapped channels are silent
        jax.random.normal(jax.random.fold_in(key, 2), (3,)),
    ),
)


# ---------------------------------------------------------------- embedding: table (v, d), tokens (t,)


def embedding(table, tokens):
    """The table's rows at the tokens."""
    return table[tokens]


def embedding_backward(primals, dy):
    """Each token's cotangent is added to its row: repeated tokens add up."""
    table, tokens = primals
    return jnp.zeros_like(table).at[tokens].add(dy), None


def averaged_over_repeats(primals, dy):
    """A repeated token's row gets the mean of its cotangents."""
    table, tokens = primals
    count = jnp.zeros((table.shape[0], 1), dy.dtype).at[tokens].add(1)
    return {0: embedding_backward(primals, dy)[0] / jnp.maximum(count, 1)}


EMBEDDING = Operation(
    embedding,
    embedding_backward,
    {
        "set_for_add": lambda p, dy: {0: jnp.zeros_like(p[0]).at[p[1]].set(dy)},
        "averaged_over_repeats": averaged_over_repeats,
        "row_off_by_one": lambda p, dy: {0: jnp.zeros_like(p[0]).at[p[1] + 1].add(dy)},
        "last_token_dropped": lambda p, dy: {0: jnp.zeros_like(p[0]).at[p[1][:-1]].add(dy[:-1])},
        "cotangent_ignored": lambda p, dy: {0: jnp.zeros_like(p[0]).at[p[1]].add(jnp.ones_like(dy))},
    },
    lambda key: (jax.random.normal(key, (11, 4)), jnp.array([3, 1, 3, 7, 0, 3, 7])),
)


# ------------------------ fused softmax cross-entropy: H (t, d), W (v, d), labels (t,), v large


def chunks(W):
    """W in blocks of CHUNK rows with their first row's number: the (t, v) logits never exist at once."""
    return W.reshape(-1, CHUNK, W.shape[1]), jnp.arange(W.shape[0] // CHUNK) * CHUNK


def log_normaliser(H, W):
    """log Σ_v exp(H Wᵀ), carried from block to block, (t,)."""

    def step(total, block):
        return jnp.logaddexp(total, jax.nn.logsumexp(H @ block.T, axis=1)), None

    return jax.lax.scan(step, jnp.full(H.shape[0], -jnp.inf, H.dtype), chunks(W)[0])[0]


def fused_cross_entropy(H, W, labels):
    """ℓ = log Σ exp(H Wᵀ) - (H Wᵀ) at the label, one per token."""
    return log_normaliser(H, W) - jnp.sum(H * W[labels], axis=1)


def fused_backward(primals, cotangent, label_of=lambda labels, first: labels - first, normaliser=log_normaliser):
    """dS = (softmax - one-hot) * cotangent block by block, dH = Σ dS W, dW = dSᵀ H."""
    H, W, labels = primals
    log_sum = normaliser(H, W)[:, None]

    def step(dH, numbered_block):
        block, first = numbered_block
        one_hot = jax.nn.one_hot(label_of(labels, first), CHUNK, dtype=H.dtype)
        dS = (jnp.exp(H @ block.T - log_sum) - one_hot) * cotangent[:, None]
        return dH + dS @ block, dS.T @ H

    dH, dW = jax.lax.scan(step, jnp.zeros_like(H), chunks(W))
    return dH, dW.reshape(W.shape), None


def both(backward):
    """The bug that spoils dH and dW together."""
    return lambda primals, cotangent: dict(enumerate(backward(primals, cotangent)[:2]))


def dH_of_last_block(primals, cotangent):
    """dH is overwritten block by block instead of accumulated."""
    H, W, labels = primals
    shift = W.shape[0] - CHUNK
    dS = jnp.exp(H @ W[shift:].T - log_normaliser(H, W)[:, None])
    dS = dS - jax.nn.one_hot(labels - shift, CHUNK, dtype=H.dtype)
    return {0: (dS * cotangent[:, None]) @ W[shift:]}


def first_block_normaliser(H, W):
    """log Σ over the first block alone."""
    return jax.nn.logsumexp(H @ W[:CHUNK].T, axis=1)


FUSED_CROSS_ENTROPY = Operation(
    fused_cross_entropy,
    fused_backward,
    {
        "one_hot_off_by_one": both(
            lambda p, ct: fused_backward(p, ct, label_of=lambda labels, first: labels - first + 1)
        ),
        "block_offset_forgotten": both(
            lambda p, ct: fused_backward(p, ct, label_of=lambda labels, first: labels % CHUNK)
        ),
        "block_normaliser": both(lambda p, ct: fused_backward(p, ct, normaliser=first_block_normaliser)),
        "cotangent_ignored": both(lambda p, ct: fused_backward(p, jnp.ones_like(ct))),
        "dH_not_accumulated": dH_of_last_block,
        "last_block_skipped_in_dW": lambda p, ct: {1: fused_backward(p, ct)[1].at[-CHUNK:].set(0)},
    },
    lambda key: (
        jax.random.normal(key, (5, 8)),
        jax.random.normal(jax.random.fold_in(key, 1), (8 * CHUNK, 8)) / 2,
        jnp.array([0, 1023, 1024, 5000, 8190]),
    ),
)


OPERATIONS = {
    "layer_norm": LAYER_NORM,
    "attention": ATTENTION,
    "convolution": CONVOLUTION,
    "embedding": EMBEDDING,
    "fused_cross_entropy": FUSED_CROSS_ENTROPY,
}
