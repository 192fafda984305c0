"""What is static of training, and the checks of its settings."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from jaxnet._arguments import choice, count, from_zero, positive, several, type_name
from jaxnet.initialisers import shapes
from jaxnet.mlp import MLP
from jaxnet.parallel import layouts, meshes
from jaxnet.train import optimizers
from jaxnet.train.privacy import Privacy, accounting
from jaxnet.train.state import digest_of

METRICS = ("cost", "accuracy", "gradient_norm")
ON_NONFINITE = ("raise", "skip", "rollback")
MONITORS = ("validation_cost", "validation_accuracy", "cost")  # of accuracy more is better


@dataclass(frozen=True)
class FitConfig:
    """What is static of training; hashable, so that equal ones share their compiled program."""

    net: MLP
    optimizer: optax.GradientTransformation
    gradient: str = "manual"
    precision: str = "float32"
    batch_size: int | None = None
    patience: int | None = None
    monitor: str = MONITORS[0]
    min_delta: float = 0.0
    tol: float | None = None
    metrics: tuple[str, ...] = METRICS[:1]
    mesh: Mesh | None = None
    on_nonfinite: str = ON_NONFINITE[0]
    privacy: Privacy | None = None


def metrics(net: MLP, metrics: Any) -> tuple[str, ...]:
    """Return the metrics as names in the order of `METRICS`; None is the cost, and of classifiers the accuracy."""
    if metrics is None:
        return METRICS[: 1 + net.is_classifier]
    metrics = several("metrics", metrics, "names, such as ('cost', 'gradient_norm')")
    for position, name in enumerate(metrics):
        choice(f"metrics[{position}]", name, METRICS)
    if "accuracy" in metrics and not net.is_classifier:
        raise ValueError(
            f"metrics has 'accuracy' but the network's output is {net.activations[-1]!r} with loss {net.loss!r}; it is"
            " defined for cross-entropy on a softmax or on sigmoids: leave it out"
        )
    return tuple(name for name in METRICS if name in metrics)


def epochs(epochs: int, steps: int | None, batch_size: int | str | None) -> int:
    """Return the number of epochs; for full batches `steps` is another name for it."""
    if steps is None:
        return count("epochs", epochs)
    if batch_size is not None:
        raise ValueError(
            f"steps is {steps} with batch_size {batch_size!r}; steps are those of full batches: give batch_size=None,"
            " or epochs"
        )
    return count("steps", steps)


def stopping(
    patience: int | None, monitor: str, min_delta: Any, tol: float | None, validation: Any, metrics: tuple[str, ...]
) -> float:
    """Return min_delta as a float; refuse a patience without what it watches, and settings out of range."""
    choice("monitor", monitor, MONITORS)
    min_delta = from_zero("min_delta", min_delta)
    if patience is not None:
        count("patience", patience)
        if validation is None and monitor != "cost":
            raise ValueError("patience needs a validation cost to watch; give validation=(X, Y), or monitor='cost'")
        measured = monitor.removeprefix("validation_")
        if monitor != MONITORS[0] and measured not in metrics:
            among = "accuracy', which classifiers have" if measured == "accuracy" else "cost'"
            raise ValueError(
                f"monitor is {monitor!r} but metrics is {metrics!r}; measure '{among}, or monitor 'validation_cost'"
            )
    elif monitor != MONITORS[0] or min_delta:
        name, value = ("min_delta", min_delta) if min_delta else ("monitor", monitor)
        raise ValueError(f"{name} is {value!r} without patience, which alone asks for it; give patience too")
    if tol is not None:
        positive("tol", tol)
    return min_delta


def on_nonfinite(on_nonfinite: str, callbacks: tuple[Callable, ...]) -> str:
    """Return it if it is known, and, where epochs are tried again, if there are callbacks to change what they do."""
    if choice("on_nonfinite", on_nonfinite, ON_NONFINITE) == "rollback" and not callbacks:
        raise ValueError(
            "on_nonfinite is 'rollback' without callbacks, and an epoch tried again would fail as before; give one that"
            " lowers the rate, such as lambda loop, history: jaxnet.scale_learning_rate(loop, 0.5) if loop.rollbacks"
            " else None"
        )
    return on_nonfinite


def refuse_two_penalties(net: MLP, chosen: optimizers.Chosen) -> None:
    """Raise where both the network and its optimizer have a penalty: their sum is hardly meant."""
    own = chosen.numbers.get("l2", 0.0)
    if own and isinstance(net, MLP) and net.l2:
        raise ValueError(
            f"net has l2={net.l2!r} and the optimizer l2={own!r}, the estimators' alpha over the batch size, and W"
            " would decay by their sum; give one of the two: net.l2 is in J and its history, the optimizer's is not"
        )


def refuse_beside_privacy(config: FitConfig, weights: Any, is_stream: bool) -> None:
    """Raise where privacy cannot keep its promise beside another setting, and name that."""
    if config.privacy is None:
        return
    if not isinstance(config.privacy, Privacy):
        raise TypeError(
            f"privacy is {type_name(config.privacy)}; expected a jaxnet.Privacy(max_norm, noise_multiplier, delta)"
        )
    accounting()  # named here where it is missing, not after an epoch
    watches_cost = config.patience is not None and config.monitor == "cost"
    objections = {
        f"net.dropout is {config.net.dropout}": (
            config.net.drops,
            "leave it out: clipped_grads is of the whole network, and the noise is regularisation enough",
        ),
        "weights is given": (weights is not None, "leave it out, for an example's part in a step is bounded alike"),
        "X is a stream or a memory map": (is_stream, "give arrays: each batch is drawn from all examples"),
        f"gradient is {config.gradient!r}": (config.gradient != "manual", "give 'manual', which clips"),
        f"precision is {config.precision!r}": (
            config.precision not in ("float32", "float64"),
            "give 'float32': products of rounded numbers may exceed max_norm",
        ),
        "mesh is given": (config.mesh is not None, "leave it out: private training has one device"),
        f"on_nonfinite is {config.on_nonfinite!r}": (
            config.on_nonfinite != "raise",
            "give 'raise', for a step that is undone has told what it has told",
        ),
        f"tol is {config.tol!r}": (
            config.tol is not None,
            "leave it out, for the cost that would end training is not private",
        ),
        "monitor is 'cost'": (watches_cost, "give validation data, for the cost of training is not private"),
    }
    for setting, (stands_in_the_way, remedy) in objections.items():
        if stands_in_the_way:
            raise ValueError(f"{setting} beside privacy; {remedy}")
    optimizers.refuse_one_that_needs_the_cost(config.optimizer, shapes(config.net, np.dtype(np.float32)))


def callbacks(callbacks: Any) -> tuple[Callable, ...]:
    """Return the callbacks as a tuple of functions of two arguments; a single function is taken as one."""
    if not callable(callbacks):
        callbacks = several("callbacks", callbacks, "functions (loop_state, history), or one")
        named = {f"callbacks[{position}]": callback for position, callback in enumerate(callbacks)}
    else:
        named = {"callbacks": callbacks}
    for name, callback in named.items():
        if not callable(callback):
            raise TypeError(f"{name} is {callback!r}; expected a function (loop_state, history)")
        try:
            signature = inspect.signature(callback)
        except (TypeError, ValueError):  # of a class or builtin that does not tell
            continue
        try:
            signature.bind(None, None)
        except TypeError as error:
            raise TypeError(f"{name} takes {signature}; expected a function (loop_state, history)") from error
    return tuple(named.values())


def in_words(config: FitConfig, params: Any, key: Any, earlier: Any) -> dict[str, str]:
    """What has to be the same in all processes of a training beside the data, by its name; of arrays their digests."""
    fields = ("net", "gradient", "precision", "batch_size", "patience", "monitor", "min_delta", "tol", "metrics")
    words = {name: repr(getattr(config, name)) for name in (*fields, "on_nonfinite")}
    assert config.mesh is not None
    words["mesh"] = f"{dict(config.mesh.shape)} of devices {[device.id for device in config.mesh.devices.flat]}"
    words["optimizer"] = " ".join(optimizers.digest(config.optimizer, shapes(config.net, np.dtype(np.float32))))
    words["the version of JAX"] = jax.__version__
    words["params"] = "None" if params is None else f"of digest {digest_of(params)}"
    words["key"] = "None" if key is None else str(jax.random.key_data(key))
    words["resume"] = "None" if earlier is None else f"of digest {digest_of(earlier.loop)}"
    return words


def placement(device: str | None, mesh: Any, layout: Any) -> Mesh | None:
    """The mesh as the programs take it; refuse another kind, or one beside a device: it says where to compute."""
    choice("layout", layout, layouts.LAYOUTS)
    if mesh is None:
        if layout != "data":
            raise ValueError(f"layout is {layout!r} without a mesh; give mesh=jaxnet.parallel.mesh()")
        return None
    layouts.check_layout("layout", layout, mesh)
    if device is not None:
        raise ValueError(f"device is {device!r} beside a mesh, which has its own devices; give one of the two")
    return meshes.typed(mesh)
