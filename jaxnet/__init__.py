"""jaxnet: neural networks from first principles in JAX.

Pure functions on pytrees: `forward` and a hand-written `backward` that read like the formulas, proved against
autodiff, and the training loop around them.
"""

from jaxnet import convert as convert
from jaxnet import datasets as datasets
from jaxnet import parallel as parallel
from jaxnet.apply import apply as apply
from jaxnet.initialisers import init as init
from jaxnet.labels import one_hot as one_hot
from jaxnet.metrics import accuracy as accuracy
from jaxnet.mlp import MLP as MLP
from jaxnet.mlp import Layer as Layer
from jaxnet.mlp import weights_only as weights_only
from jaxnet.network import backward as backward
from jaxnet.network import cost as cost
from jaxnet.network import forward as forward
from jaxnet.network import predict as predict
from jaxnet.network import value_and_grad as value_and_grad
from jaxnet.per_example import clipped_grads as clipped_grads
from jaxnet.per_example import per_example_grads as per_example_grads
from jaxnet.per_example import per_example_norms as per_example_norms
from jaxnet.save import load as load
from jaxnet.save import save as save
from jaxnet.train.callbacks import reduce_on_plateau as reduce_on_plateau
from jaxnet.train.callbacks import scale_learning_rate as scale_learning_rate
from jaxnet.train.fit import fit as fit
from jaxnet.train.log import log_to as log_to
from jaxnet.train.result import FitResult as FitResult
from jaxnet.train.result import NotFiniteError as NotFiniteError
from jaxnet.train.state import LoopState as LoopState
from jaxnet.train.state import TrainState as TrainState
from jaxnet.train.step import train_step as train_step
from jaxnet.train.sweep import SweepResult as SweepResult
from jaxnet.train.sweep import sweep as sweep
from jaxnet.train.warnings import TrainingWarning as TrainingWarning
from jaxnet.verify import GradientMismatch as GradientMismatch
from jaxnet.verify import Report as Report
from jaxnet.verify import check_gradients as check_gradients
from jaxnet.verify import check_vjp as check_vjp

__version__ = "0.1.0"
