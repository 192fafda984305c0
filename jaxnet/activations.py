"""Activation functions g and their derivatives g', side by side.

Legend: Z is a layer's linear part, A = g(Z); both (n, m). A derivative is given both and uses the cheaper,
so that Z often need not be stored. Every g here returns finite values and slopes at |Z| = 1e4 in float32.

An activation of your own is such a pair too, `MLP(sizes, (Activation(mish, mish_derivative), "sigmoid"))`, and refused
unless the verifier finds the second to be the derivative of the first.

Source: the lecture notes (NOTES.md), section 5 (functions) and section 7 (derivatives).
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Units = Float[Array, "n m"]  # one entry for each unit and example
LEAK = 0.01  # leaky_relu's slope for Z < 0, as in jax.nn and PyTorch


def identity(Z: Units) -> Units:
    """g(Z) = Z: the output of a regression."""
    return Z


def identity_derivative(Z: Units, A: Units) -> Units:
    """g' = 1."""
    return jnp.ones_like(Z)


def sigmoid(Z: Units) -> Units:
    """g(Z) = 1 / (1 + e^-Z), in (0, 1): the output of a binary classification."""
    return jax.lax.logistic(Z)


def sigmoid_derivative(Z: Units, A: Units) -> Units:
    """g' = A (1 - A)."""
    return A * (1 - A)


def tanh(Z: Units) -> Units:
    """g(Z) = (e^Z - e^-Z) / (e^Z + e^-Z), in (-1, 1)."""
    return jnp.tanh(Z)


def tanh_derivative(Z: Units, A: Units) -> Units:
    """g' = 1 - A²."""
    return 1 - A * A


def relu(Z: Units) -> Units:
    """g(Z) = max(0, Z); a NaN stays a NaN."""
    return jnp.where(Z <= 0, 0, Z)


def relu_derivative(Z: Units, A: Units) -> Units:
    """g' = 1 where Z > 0, else 0. At Z = 0, which the notes call undefined, it is 0 (as jax.nn.relu)."""
    return jnp.where(A > 0, 1, jnp.zeros_like(A))


def leaky_relu(Z: Units) -> Units:
    """g(Z) = Z where Z >= 0, else 0.01 Z."""
    return jnp.where(Z >= 0, Z, LEAK * Z)


def leaky_relu_derivative(Z: Units, A: Units) -> Units:
    """g' = 1 where Z >= 0, and with it A, else 0.01. At Z = 0 it is 1 (as jax.nn.leaky_relu)."""
    return jnp.where(A >= 0, 1, jnp.full_like(A, LEAK))


def softplus(Z: Units) -> Units:
    """g(Z) = ln(1 + e^Z), a smooth relu."""
    return jnp.logaddexp(Z, 0)


def softplus_derivative(Z: Units, A: Units) -> Units:
    """g' = σ(Z) = 1 - e^-A."""
    return -jnp.expm1(-A)


def gelu(Z: Units) -> Units:
    """g(Z) = Z Φ(Z) with the normal distribution Φ: the exact form (Hendrycks and Gimpel, arXiv 1606.08415)."""
    return Z * _normal_cdf(Z)


def gelu_derivative(Z: Units, A: Units) -> Units:
    """g' = Φ(Z) + Z φ(Z), where φ = Φ' is the normal density."""
    return _normal_cdf(Z) + Z * _normal_density(Z)


def silu(Z: Units) -> Units:
    """g(Z) = Z σ(Z), also called swish."""
    return Z * sigmoid(Z)


def silu_derivative(Z: Units, A: Units) -> Units:
    """g' = σ(Z) + A (1 - σ(Z))."""
    S = sigmoid(Z)
    return S + A * (1 - S)


def softmax(Z: Units) -> Units:
    """g(Z)_k = e^Z_k / Σ_j e^Z_j within each column. For the output layer only: no unit has a slope of its own,
    and with cross-entropy the whole of it is ∂ℓ/∂Z = A - Y (losses.py)."""
    return jax.nn.softmax(Z, axis=0)


def softmax_derivative(Z: Units, A: Units) -> Units:
    """There is none for each unit: `MLP` lets softmax stand at the output alone, with cross-entropy."""
    raise TypeError("softmax has no elementwise derivative; with cross-entropy the whole is A - Y")


def _normal_cdf(Z):
    return 0.5 * jax.lax.erfc(-Z * 0.5**0.5)


def _normal_density(Z):
    return jnp.exp(-0.5 * Z * Z) * (2 * jnp.pi) ** -0.5


class Activation(NamedTuple):
    """An activation function and its derivative, entry by entry: A = g(Z), g'(Z) = g.derivative(Z, A).

    remat: g' needs Z, so backward stores Z alone and computes A = g(Z) again. Elsewhere it keeps what g' reads.
    """

    apply: Callable[[Array], Array]
    derivative: Callable[[Array, Array], Array]
    remat: bool = False

    def __call__(self, Z: Units) -> Units:
        """A = g(Z)."""
        return self.apply(Z)

    @property
    def name(self) -> str:
        """The name of g."""
        return getattr(self.apply, "__name__", type(self.apply).__name__)

    def __repr__(self) -> str:
        """Short: networks show it."""
        return f"Activation({self.name})"


IDENTITY = Activation(identity, identity_derivative)

ACTIVATIONS = {
    "identity": IDENTITY,
    "sigmoid": Activation(sigmoid, sigmoid_derivative),
    "tanh": Activation(tanh, tanh_derivative),
    "relu": Activation(relu, relu_derivative),
    "leaky_relu": Activation(leaky_relu, leaky_relu_derivative),
    "softplus": Activation(softplus, softplus_derivative),
    "gelu": Activation(gelu, gelu_derivative, remat=True),
    "silu": Activation(silu, silu_derivative, remat=True),
    "softmax": Activation(softmax, softmax_derivative),
}
OR_OWN = ", or a pair of your own, Activation(g, derivative)"
ELSEWHERE = {"logistic": "sigmoid", "linear": "identity", "swish": "silu"}  # what other libraries call them


def named(activation: str | Activation) -> Activation:
    """The activation of that name, or one's own as it is."""
    return activation if isinstance(activation, Activation) else ACTIVATIONS[activation]


@lru_cache(maxsize=256)
def verified(g: Activation) -> str | None:
    """Why g cannot be used, in words; None where its derivative is that of its function, entry by entry.

    The verifier compares Σ C g(Z) with its gradient by hand, C g'(Z), at 256 numbers Z of a normal distribution of
    standard deviation 3, where C are random: a g whose entries depend on each other fails too.
    """
    from jaxnet.verify import check_gradients

    with jax.ensure_compile_time_eval():  # a network may be made while something else is traced
        Z, C = (jax.random.normal(key, (8, 32), jnp.float32) for key in jax.random.split(jax.random.key(0)))
        try:
            A = g.apply(3 * Z)
            slopes = g.derivative(3 * Z, A)
            for what, array in (("g(Z)", A), ("its derivative", slopes)):
                got = f"{getattr(array, 'dtype', type(array).__name__)}{list(getattr(array, 'shape', []))}"
                if got != f"float32{list(Z.shape)}":
                    return f"for Z of float32{list(Z.shape)} {what} is {got}; expected the same shape and dtype"
            try:
                jax.eval_shape(lambda Z: g.derivative(Z, g.apply(Z)), Z)
            except jax.errors.TracerArrayConversionError:
                return "JAX cannot trace it, as NumPy's functions; write it with jax.numpy"
            report = check_gradients(_weighted_sum(g), _weighted_slopes(g), {"Z": 3 * Z}, C, raise_=False)
        except Exception as error:  # whatever a function of the caller's raises
            return f"it raises {type(error).__name__}: {error}"
    return None if report.passed else f"the verifier says of its derivative:\n{report}"


def _weighted_sum(g: Activation) -> Callable[[Any, Any], Any]:
    return lambda at, C: (C * g.apply(at["Z"])).sum()


def _weighted_slopes(g: Activation) -> Callable[[Any, Any], Any]:
    return lambda at, C: {"Z": C * g.derivative(at["Z"], g.apply(at["Z"]))}
