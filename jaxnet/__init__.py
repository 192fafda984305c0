"""jaxnet: neural networks from first principles in JAX.

Pure functions on pytrees: `forward` and a hand-written `backward` that read like the formulas, proved against
autodiff, and the training loop around them. `python -m jaxnet` shows what is installed, and a demonstration.

A name is imported on its first use: `import jaxnet` costs next to nothing, and touches no device.
"""

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what __getattr__ gives
    from jaxnet import convert, datasets, parallel, plot, train, verify
    from jaxnet.activations import Activation
    from jaxnet.custom_gradient import apply
    from jaxnet.initialisers import init
    from jaxnet.labels import one_hot
    from jaxnet.metrics import accuracy
    from jaxnet.mlp import MLP, Layer, weights_only
    from jaxnet.net_files import load, save
    from jaxnet.network import backward, cost, forward, predict, value_and_grad
    from jaxnet.per_example import clipped_grads, per_example_grads, per_example_norms
    from jaxnet.train.callbacks import reduce_on_plateau, scale_learning_rate
    from jaxnet.train.fit import fit
    from jaxnet.train.log import log_to
    from jaxnet.train.privacy import Privacy
    from jaxnet.train.result import FitResult, NotFiniteError
    from jaxnet.train.state import LoopState, TrainState
    from jaxnet.train.step import train_step
    from jaxnet.train.sweep import SweepResult, sweep
    from jaxnet.train.warnings import TrainingWarning
    from jaxnet.verify import GradientInconclusive, GradientMismatch, Report, check_gradients, check_vjp

__version__ = "0.1.0"

_HOMES = {
    "MLP": "mlp",
    "Activation": "activations",
    "Layer": "mlp",
    "weights_only": "mlp",
    "init": "initialisers",
    "forward": "network",
    "backward": "network",
    "cost": "network",
    "value_and_grad": "network",
    "predict": "network",
    "apply": "custom_gradient",
    "accuracy": "metrics",
    "one_hot": "labels",
    "per_example_grads": "per_example",
    "per_example_norms": "per_example",
    "clipped_grads": "per_example",
    "fit": "train.fit",
    "FitResult": "train.result",
    "Privacy": "train.privacy",
    "NotFiniteError": "train.result",
    "TrainingWarning": "train.warnings",
    "LoopState": "train.state",
    "TrainState": "train.state",
    "train_step": "train.step",
    "log_to": "train.log",
    "reduce_on_plateau": "train.callbacks",
    "scale_learning_rate": "train.callbacks",
    "sweep": "train.sweep",
    "SweepResult": "train.sweep",
    "save": "net_files",
    "load": "net_files",
    "check_gradients": "verify",
    "check_vjp": "verify",
    "GradientMismatch": "verify",
    "GradientInconclusive": "verify",
    "Report": "verify",
}
__all__ = [
    "MLP",
    "Activation",
    "FitResult",
    "GradientInconclusive",
    "GradientMismatch",
    "Layer",
    "LoopState",
    "NotFiniteError",
    "Privacy",
    "Report",
    "SweepResult",
    "TrainState",
    "TrainingWarning",
    "accuracy",
    "apply",
    "backward",
    "check_gradients",
    "check_vjp",
    "clipped_grads",
    "convert",
    "cost",
    "datasets",
    "fit",
    "forward",
    "init",
    "load",
    "log_to",
    "one_hot",
    "parallel",
    "per_example_grads",
    "per_example_norms",
    "plot",
    "predict",
    "reduce_on_plateau",
    "save",
    "scale_learning_rate",
    "sweep",
    "train",
    "train_step",
    "value_and_grad",
    "verify",
    "weights_only",
]


if not TYPE_CHECKING:  # a type checker that saw it would take any name

    def __getattr__(name: str) -> Any:
        """A public name or a module of the package, imported on first use."""
        if name in _HOMES:
            value = getattr(importlib.import_module(f"jaxnet.{_HOMES[name]}"), name)
        elif name.isidentifier() and not name.startswith("_") and importlib.util.find_spec(f"jaxnet.{name}"):
            value = importlib.import_module(f"jaxnet.{name}")
        else:  # name and obj let Python propose the nearest of __dir__
            raise AttributeError(f"module 'jaxnet' has no attribute {name!r}", name=name, obj=sys.modules[__name__])
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The public names, and not the modules they come from."""
    return [*__all__, "__doc__", "__file__", "__name__", "__path__", "__version__"]
