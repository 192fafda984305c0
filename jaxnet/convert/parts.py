"""A module of another library in parts: linear layers and activations, read one after the other, or written so."""

import importlib
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import checks, values
from jaxnet._arguments import choice, type_name
from jaxnet.activations import ACTIVATIONS, ELSEWHERE, Activation
from jaxnet.mlp import MLP, Layer, Params

WIDE = (-1e3, -30, -9, -6.5, -4, -2, -1, -0.5, 0.25, 0.75, 1.5, 3, 4.5, 6.5, 9, 21, 30, 1e3)
POINTS = np.stack([np.linspace(-3, 3, len(WIDE)), WIDE]).astype(np.float32)  # two examples as rows, for softmax
OF_JAX = {  # of one example, or of rows; whoever reads the module finds functions that he knows
    "identity": lambda x: x,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "softplus": jax.nn.softplus,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "silu": jax.nn.silu,
    "softmax": jax.nn.softmax,
}
REMEDIES = {  # by what a layer is called
    "softmax": "jaxnet's softmax is over the units, the last axis of rows; leave it out and give output='softmax'",
    "norm": "it is no part of an MLP: fold it into the linear layer before it",
    "gelu": "jaxnet's gelu is the exact one (approximate=False, in PyTorch approximate='none')",
    "leaky": "jaxnet's leaky_relu has the slope 0.01",
    "conv": "an MLP has no convolutions: flatten the examples first, or convert the linear layers behind them",
}


class Dense(NamedTuple):
    """A linear layer as it is read: W (n, n_prev), b (n,) or None for no bias, and where it stands in the module."""

    W: np.ndarray
    b: np.ndarray | None
    place: str


class Function(NamedTuple):
    """An activation as it is read: its name in `ACTIVATIONS`, and where it stands in the module."""

    name: str
    place: str


def library(name: str, needs: str = "") -> Any:
    """The library, imported where it is used."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = {"sklearn": "scikit-learn"}.get(package := name.split(".")[0], package)
        extra = "sklearn" if package == "scikit-learn" else "peers"
        raise ImportError(
            f"jaxnet.convert needs {package}, which cannot be imported ({error}): pip install {package}, or pip install"
            f' "jaxnet[{extra}]"{needs}'
        ) from error


def require(argument: str, given: Any, kind: Any, expected: str) -> None:
    """Refuse a module of another kind."""
    if not isinstance(given, kind):
        raise TypeError(
            f"{argument} is {type_name(given)}; expected {expected} (of another module, jaxnet.Layer(W, b) takes"
            " W (n, n_prev) and b (n, 1) of each layer)"
        )


@cache
def _own_values() -> dict[str, np.ndarray]:
    """Our activations at the points, as rows."""
    at_once = jax.jit(lambda Z: {name: g(Z) for name, g in ACTIVATIONS.items()})
    return {name: np.asarray(A).T for name, A in at_once(jnp.asarray(POINTS.T)).items()}


def function(place: str, thing: Any, call: Callable[[np.ndarray], Any]) -> Function:
    """Which of our activations it is, by its values on rows; what is none is refused."""
    reason: Exception | None = None
    try:
        found = np.asarray(call(POINTS))
        for name, own in _own_values().items():
            if found.shape == own.shape and np.allclose(found, own, rtol=1e-5, atol=1e-6):
                return Function(name, place)
    except Exception as error:  # whatever a layer that takes no such rows raises
        reason = error
    text = getattr(thing, "__name__", None) or " ".join(repr(thing).split())
    text = text if len(text) <= 80 else f"{text[:77]}..."
    hints = (remedy for word, remedy in REMEDIES.items() if word in text.lower())
    raise ValueError(
        f"{place} is {text}; expected a linear layer or one of jaxnet's activations ({', '.join(ACTIVATIONS)});"
        f" {next(hints, 'replace it by one of those, or convert the layers around it')}"
    ) from reason


def network(argument: str, parts: Iterable[Dense | Function], output: str | None) -> tuple[MLP, Params]:
    """The network of linear layers with at most one activation after each."""
    layers: list[Dense] = []
    applied: list[Function | None] = []  # after each layer
    for part in parts:
        if isinstance(part, Dense):
            _check_follows(part, layers, applied)
            layers.append(part)
            applied.append(None)
        elif part.name != "identity":
            if not layers or applied[-1]:
                where = f"follows {_said(applied[-1])}" if layers else "stands before the first linear layer"
                raise ValueError(
                    f"{_said(part)} {where}; expected one activation after each linear layer, as an MLP has: remove it,"
                    " or put a linear layer before it"
                )
            applied[-1] = part
    if not layers:
        raise ValueError(f"{argument} has no linear layer; expected one at least, which an MLP is made of")
    if output is not None:
        choice("output", output, ACTIVATIONS, elsewhere=ELSEWHERE)
        if applied[-1] and applied[-1].name != output:
            raise ValueError(
                f"output is {output!r} but {_said(applied[-1])} stands at the end of {argument} already; leave out"
                " output"
            )
        applied[-1] = Function(output, "output")
    if applied[-1] and applied[-1].name == "softmax" and len(layers[-1].W) == 1:
        raise ValueError(
            f"{_said(applied[-1])} is over the one unit of {layers[-1].place}, and always 1; expected two units or"
            " more: for two classes take sigmoid"
        )
    net = MLP(
        (layers[0].W.shape[1], *(len(layer.W) for layer in layers)),
        [g.name if g else "identity" for g in applied],
    )
    return net, checks.params(net, params_of(layers))


def _check_follows(layer: Dense, layers: list[Dense], applied: list[Function | None]) -> None:
    """Refuse a layer that does not fit what stands before it."""
    if not layers:
        return
    n_prev, n = layer.W.shape[1], len(layers[-1].W)
    if n_prev != n:
        raise ValueError(
            f"{layer.place} takes {n_prev} inputs, but {layers[-1].place} before it has {n} outputs; expected as many:"
            " give the layers one width"
        )
    if applied[-1] and applied[-1].name == "softmax":
        raise ValueError(
            f"{_said(applied[-1])} stands before {layer.place}; expected softmax after the last linear layer alone, for"
            " an MLP has it at its output: replace it, or convert the layers up to it"
        )


def _said(part: Function | None) -> str:
    """An activation by its place and name."""
    return f"{part.place} ({part.name})" if part else ""


def typed(place: str, layer: Any) -> str:
    """The place of a layer with its type, such as "module[2] (Linear)"."""
    return f"{place} ({type(layer).__name__})"


def params_of(layers: list[Dense]) -> Params:
    """The params in JAX's dtype of the first W, where their values are finite."""
    dtype = jax.dtypes.canonicalize_dtype(layers[0].W.dtype) if layers else np.dtype(np.float32)

    def leaf(place, array):
        return jnp.asarray(values.host_array(place, array, dtype))

    def layer(W, b, place):
        b = np.zeros(len(W), W.dtype) if b is None else b
        return Layer(leaf(f"the weight of {place}", W), leaf(f"the bias of {place}", b)[:, None])

    return tuple(layer(*each) for each in layers)


def layers_of(net: MLP, params: Params, logits: bool) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """W (n, n_prev), b (n,) and the activation of each layer, on the host."""
    host = jax.device_get(checks.params(net, params))
    own = [(l, g) for l, g in enumerate(net.activations) if isinstance(g, Activation)]
    if own:
        raise ValueError(
            f"net.activations[{own[0][0]}] is {own[0][1]}, your own, of which other libraries have no layer; expected"
            f" names ({', '.join(ACTIVATIONS)}): convert the layers around it"
        )
    known = [g for g in net.activations if isinstance(g, str)]
    names = [*known[:-1], "identity" if logits else known[-1]]
    return [(np.array(W), np.array(b[:, 0]), name) for (W, b), name in zip(host, names, strict=True)]


def shared(theirs: str, what: str, found: Iterable[Any], otherwise: Any) -> Any:
    """The width or activation that all hidden layers have."""
    first, *others = [*found] or [otherwise]
    for l, other in enumerate(others, start=2):
        if other != first:
            raise ValueError(
                f"layer {l} of net has the {what} {other!r} and layer 1 {first!r}; {theirs} has one for all hidden"
                " layers: convert to another library, or train a net of one"
            )
    return first


def functions(name: str) -> list[Callable]:
    """The activation as a layer of Flax, or none."""
    return [] if name == "identity" else [OF_JAX[name]]
