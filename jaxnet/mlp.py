"""What a network is: its widths, activations and loss (`MLP`), its parameters (`Layer`), and what a pass caches.

`MLP` is static: frozen and hashable, without arrays, the first argument of every pure function. Parameters are a
pytree of arrays only. So `jax.jit(f, static_argnums=0)`, `jax.grad` and `jax.vmap` are all one needs.

Source: the lecture notes (NOTES.md), section 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, cast

import jax
from jaxtyping import Array, Float

from jaxnet import losses
from jaxnet._arguments import choice, count, fields_in_short, from_zero, share_from_zero, type_name
from jaxnet.activations import ACTIVATIONS, ELSEWHERE, IDENTITY, OR_OWN, Activation, named, verified

CROSS_ENTROPY_OUTPUTS = ("sigmoid", "softmax")
MOST_UNITS = 2**31 - 1  # XLA counts the entries of an axis in 32 bits


class Layer(NamedTuple):
    """One layer's parameters, or their gradients: W (n, n_prev) and b (n, 1)."""

    W: Float[Array, "n n_prev"]
    b: Float[Array, "n 1"]

    def __repr__(self) -> str:
        """Shapes and dtypes, as JAX writes them: params are read at a glance, and their values are in W and b."""
        return fields_in_short(self)


class LayerCache(NamedTuple):
    """What forward leaves of one layer for backward: Z (n, m), A = g(Z), and dropout's mask D; None drops nothing."""

    Z: Float[Array, "n m"]
    A: Float[Array, "n m"]
    D: Float[Array, "n m"] | None = None

    def __repr__(self) -> str:
        """Shapes and dtypes, as of a `Layer`."""
        return fields_in_short(self)


for kind in (Layer, LayerCache):  # known by these names in a serialised program, see jax.export
    jax.export.register_namedtuple_serialization(kind, serialized_name=f"jaxnet.{kind.__name__}")

Params = tuple[Layer, ...]  # Params[l - 1] is layer l
Cache = tuple[LayerCache, ...]  # Cache[l] is layer l; Cache[0] is the input, where Z = A = X


def weights_only(params: Params) -> Params:
    """A mask for optax, such as optax.adamw(1e-3, mask=weights_only): True for every W, False for every b.

    b is a column, so a mask by the number of axes would decay the biases too.

    Raises:
        TypeError: params are not a tuple of Layer(W, b).

    >>> jaxnet.weights_only(jaxnet.init(jaxnet.MLP((2, 1), ("sigmoid",)), jax.random.key(0)))
    (Layer(W=True, b=False),)
    """
    if not (isinstance(params, tuple) and params and all(isinstance(layer, Layer) for layer in params)):
        raise TypeError(f"params is {type_name(params)}; expected a tuple of Layer(W, b), as init returns")
    return tuple(layer._replace(W=True, b=False) for layer in params)


@dataclass(frozen=True, repr=False)
class MLP:
    """A multi-layer perceptron: widths, activations and loss. Holds no arrays.

    Args:
        sizes: (n_x, n[1], ..., n[L]); one layer (logistic regression) is (n_x, n_y).
        activations: a name of `ACTIVATIONS` per layer, L in all; softmax only as the last. Or your own, as a pair
            Activation(g, derivative) of functions Z -> A and (Z, A) -> g'(Z), entry by entry, which the verifier checks
            when it first comes (a second); define both once, for equal networks are those of the same functions.
        loss: "cross_entropy" or "squared_error"; None is cross-entropy after sigmoid or softmax, else squared error.
        l2: λ of a penalty on large weights, λ/2 Σ_l ‖W[l]‖², which is added to J; biases are free.
        dropout: what share of its units a layer drops, at random, in a training step: a rate for each layer, of which
            the last, the output's, is 0; or a number for all hidden layers. Prediction drops nothing.

    Raises:
        ValueError: a width is not a positive integer, a name is unknown, the names do not go together, a derivative
            is not that of its function, l2 is not a finite number from 0, or dropout not a rate from 0 to below 1.

    >>> net = jaxnet.MLP((64, 32, 10), ("relu", "softmax"))
    >>> net.loss
    'cross_entropy'
    """

    sizes: Sequence[int]
    activations: Sequence[str | Activation]
    loss: str | None = None
    l2: float = 0.0
    dropout: float | Sequence[float] = 0.0

    def __post_init__(self):
        """Check, and store lists as tuples and the loss by its name."""
        _check_sizes(self.sizes)
        _check_activations(self.activations, self.sizes)
        loss = _usual_loss(self.activations) if self.loss is None else self.loss
        _check_loss(loss, self.activations[-1])
        object.__setattr__(self, "sizes", tuple(int(n) for n in self.sizes))
        object.__setattr__(self, "activations", tuple(self.activations))
        object.__setattr__(self, "loss", loss)
        object.__setattr__(self, "l2", from_zero("l2", self.l2))
        object.__setattr__(self, "dropout", _rates(self.dropout, len(self.sizes) - 1))

    def __repr__(self) -> str:
        """As it is written in Python; loss, penalty and dropout only where they are not the usual ones."""
        loss = "" if self.loss == _usual_loss(self.activations) else f", {self.loss!r}"
        penalty = f", l2={self.l2!r}" if self.l2 else ""
        dropout = f", dropout={self.dropout!r}" if self.drops else ""
        return f"{type(self).__name__}({self.sizes!r}, {self.activations!r}{loss}{penalty}{dropout})"

    @property
    def g(self) -> tuple[Activation, ...]:
        """The activation functions g[0], ..., g[L]; the input layer's is the identity, A[0] = Z[0] = X."""
        return (IDENTITY, *map(named, self.activations))

    @property
    def loss_of_output(self) -> losses.Loss:
        """ℓ and ∂ℓ/∂Z[L] for this loss and output activation."""
        return losses.loss_of(str(self.loss), self.activations[-1])

    @property
    def rates(self) -> tuple[float, ...]:
        """The rate of dropout of each layer."""
        return cast(tuple[float, ...], self.dropout)

    @property
    def drops(self) -> bool:
        """Whether a training step drops units: it then needs a key."""
        return any(self.rates)

    @property
    def is_classifier(self) -> bool:
        """Whether the outputs are probabilities: of classes (softmax) or of labels (sigmoid), under cross-entropy."""
        return self.loss == "cross_entropy"


def described(net: MLP) -> dict[str, Any]:
    """The fields of the network as JSON has them; of an activation of one's own there is the name: {"own": "mish"}."""
    known = {field.name: getattr(net, field.name) for field in fields(net)}
    return known | {
        "sizes": list(net.sizes),
        "activations": [{"own": g.name} if isinstance(g, Activation) else g for g in net.activations],
        "dropout": list(net.rates),
    }


def _rates(dropout: Any, n_layers: int) -> tuple[float, ...]:
    """A rate of dropout for each layer."""
    if not isinstance(dropout, Sequence) or isinstance(dropout, str):
        rate = share_from_zero("dropout", dropout)
        if rate and n_layers == 1:
            raise ValueError(f"dropout is {dropout!r}, but there is no hidden layer to drop units of; leave it out")
        return (rate,) * (n_layers - 1) + (0.0,)
    rates = tuple(share_from_zero(f"dropout[{position}]", rate) for position, rate in enumerate(dropout))
    if len(rates) != n_layers or rates[-1]:
        raise ValueError(
            f"dropout is {dropout!r}; expected a rate for each of the {n_layers} layers, of which the last is 0 (the"
            f" output is never dropped), such as {(0.2,) * (n_layers - 1) + (0.0,)}, or one for all hidden layers"
        )
    return rates


def _usual_loss(activations: Sequence[str | Activation]) -> str:
    return "cross_entropy" if activations[-1] in CROSS_ENTROPY_OUTPUTS else "squared_error"


def _check_sizes(sizes: Any) -> None:
    if not isinstance(sizes, Sequence) or isinstance(sizes, str) or len(sizes) < 2:
        raise ValueError(
            f"sizes is {sizes!r}; expected the width of the input and of every layer, such as (2, 4, 1):"
            " at least two numbers"
        )
    for position, size in enumerate(sizes):
        if count(f"sizes[{position}]", size) > MOST_UNITS:
            raise ValueError(f"sizes[{position}] is {size}; expected at most {MOST_UNITS} units a layer")


def _check_activations(activations: Any, sizes: Sequence[int]) -> None:
    if isinstance(activations, str | Activation) or not isinstance(activations, Sequence):
        raise ValueError(f"activations is {activations!r}; expected one name per layer, such as ('tanh', 'sigmoid')")
    if len(activations) != len(sizes) - 1:
        raise ValueError(
            f"activations has {len(activations)} names but sizes {tuple(sizes)} make {len(sizes) - 1} layers"
            " (the input is not counted); give one activation per layer"
        )
    for position, name in enumerate(activations):
        if not isinstance(name, Activation):
            choice(f"activations[{position}]", name, ACTIVATIONS, OR_OWN, ELSEWHERE)
        elif reason := verified(name):
            raise ValueError(
                f"activations[{position}] is {name}, and cannot be used: {reason}\nExpected Activation(g, derivative)"
                " with A = g(Z) and g'(Z) = derivative(Z, A), entry by entry"
            )
    if "softmax" in activations[:-1]:
        raise ValueError(
            f"activations[{list(activations).index('softmax')}] is 'softmax' in a hidden layer; it is for the output"
            " only: use 'relu' or 'tanh' there"
        )
    if activations[-1] == "softmax" and sizes[-1] == 1:
        raise ValueError(
            "softmax with one output is always 1; for two classes use 'sigmoid' with one output, or two outputs"
        )


def _check_loss(loss: Any, output: str | Activation) -> None:
    choice("loss", loss, losses.LOSSES, elsewhere=losses.ELSEWHERE)
    if loss == "cross_entropy" and output not in CROSS_ENTROPY_OUTPUTS:
        raise ValueError(
            f"loss is 'cross_entropy' with output activation {output!r}; cross-entropy needs probabilities:"
            " end with 'sigmoid' or 'softmax', or use loss='squared_error'"
        )
    if loss == "squared_error" and output == "softmax":
        raise ValueError(
            "loss is 'squared_error' with a softmax output; use loss='cross_entropy', or another output activation"
        )
