"""Programs for GPUs and TPUs, lowered where there is none: the branches for accelerators are at least traced here."""

import re

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxnet
from jaxnet._xla.matmul import POLICIES
from jaxnet.train.batches import Data
from jaxnet.train.config import FitConfig
from jaxnet.train.epochs import run_epochs
from jaxnet.train.state import TrainState, loop_start
from tests import cases
from tests.marks import slow_but

NET = jaxnet.MLP((5, 32, 32, 3), ("relu", "gelu", "softmax"))
OPTIMIZER = optax.sgd(0.1, momentum=0.9)
PLATFORMS = ("cuda", "tpu")
PRECISION = {"float32": "HIGHEST, HIGHEST", "float64": "HIGHEST, HIGHEST", "tf32": "HIGH, HIGH"}


def products(function, *arguments, platform, static=()):
    """The lines of the lowered program that multiply matrices."""
    lowered = jax.jit(function, static_argnums=static).trace(*arguments).lower(lowering_platforms=(platform,))
    return [line for line in lowered.as_text().splitlines() if "dot_general" in line]


@pytest.fixture(params=slow_but(["float32", "bfloat16"], POLICIES))
def precision(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture
def point(precision, key):
    return cases.point(NET, key, m=64, dtype=jnp.float64 if precision == "float64" else jnp.float32)


def check(lines, precision, *counts):
    """As many products as the formulas have, each in the precision that was asked for and with sums in float32."""
    assert len(lines) in counts
    for line in lines:
        if precision == "bfloat16":
            assert len(re.findall(r"x(?:bf16)>", line)) == 2 and re.search(r"-> tensor<[\dx]*xf32>", line), line
        else:
            assert f"precision = [{PRECISION[precision]}]" in line, line


@pytest.mark.parametrize("platform", PLATFORMS)
def test_forward_and_backward(platform, precision, point):
    """Three layers: 3 products out, 6 home."""
    params, X, _, _ = point
    _, cache = jaxnet.forward(NET, params, X)
    dZ = cache[-1].A
    out = products(jaxnet.forward, NET, params, X, precision, platform=platform, static=(0, 3))
    check(out, precision, 3)
    home = products(jaxnet.backward, NET, params, cache, dZ, precision, platform=platform, static=(0, 4))
    check(home, precision, 6)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_step_and_an_epoch(platform, precision, point):
    """8 products in a step, without the unused dX; in the loop of an epoch JAX before 0.12 leaves XLA to drop it."""
    params, X, Y, _ = point
    state = TrainState(params, OPTIMIZER.init(params), jnp.int32(0), jax.random.key(0))
    step = jaxnet.train_step(NET, OPTIMIZER, precision=precision, metrics=("cost", "accuracy", "gradient_norm"))
    check(products(step, state, X, Y, platform=platform), precision, 8)
    config = FitConfig(NET, OPTIMIZER, precision=precision, batch_size=16)
    data, loop = Data(X.T, Y.T, None), loop_start(state, tracks_best=False)
    epoch = products(run_epochs, config, loop, data, None, jnp.int32(1), 1, platform=platform, static=(0, 5))
    check(epoch, precision, 8, 9)
