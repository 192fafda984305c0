"""Cases of scale_learning_rate, reduce_on_plateau and log_to."""

import os
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet
from jaxnet.train.state import loop_start
from tests.fuzz.arguments import COUNTS, POSITIVE, Setting, changed, fine, junk, pick
from tests.fuzz.cases import Case, draws
from tests.fuzz.networks import NETS

FACTORS = Setting(right=(0.5, np.float32(0.1)), wrong=(0.0, 1.0, -0.5, "0.5"), leave_out=("float32 0-d",))


@draws("reduce_on_plateau", 1)
def reduce_on_plateau(rng) -> Case:
    change = changed(rng, "factor", "patience", "min_delta", "metric")
    settings = {
        "factor": (0.5, FACTORS),
        "patience": (5, Setting(right=(1, np.int64(3)), wrong=(0, 2.5, "5"), leave_out=COUNTS)),
        "min_delta": (0.0, Setting(right=(0, 0.1), wrong=(-0.1, "0"), leave_out=(*POSITIVE, "0"))),
        "metric": ("cost", Setting(right=("accuracy", "validation_cost"), wrong=("acuracy", "loss"))),
    }
    given = {name: drawn.drawn(rng) if name in change else fine(usual) for name, (usual, drawn) in settings.items()}
    complaint = lambda callback: None if callable(callback) else f"got {callback}"
    return Case("reduce_on_plateau", given, jaxnet.reduce_on_plateau, complaint)


@draws("scale_learning_rate", 1)
def scale_learning_rate(rng) -> Case:
    change = changed(rng, "loop", "factor")
    params = jaxnet.init(next(iter(NETS.values())), jax.random.key(0))
    opt_state = optax.inject_hyperparams(optax.sgd)(learning_rate=0.5).init(params)
    loop = loop_start(jaxnet.TrainState(params, opt_state, jnp.int32(0), jax.random.key(0)), tracks_best=False)
    factors = Setting(right=(2, 0.5, np.float32(0.1)), wrong=(0, -1.0, "2", float("nan")), leave_out=POSITIVE)
    given = {
        "loop": junk(rng) if "loop" in change else fine(loop, "a loop"),
        "factor": factors.drawn(rng) if "factor" in change else fine(0.5),
    }

    def complaint(scaled):
        got, want = scaled.state.opt_state.hyperparams["learning_rate"], 0.5 * float(given["factor"].value)
        return None if np.isclose(got, want) else f"got {got}; expected {want}"

    return Case("scale_learning_rate", given, jaxnet.scale_learning_rate, complaint)


@draws("log_to", 1)
def log_to(rng) -> Case:
    file = Path(tempfile.gettempdir()) / f"fuzz-{os.getpid()}.{pick(rng, ('jsonl', 'csv'))}"
    given = {"path": junk(rng) if changed(rng, "path") else fine(file, "a file")}

    def called(path):
        callback = jaxnet.log_to(path)
        try:
            callback(None, {"cost": np.float32([0.5, 0.25])})
            return file.read_text()
        finally:
            file.unlink(missing_ok=True)

    want = {".csv": "epoch,cost\n1,0.5\n2,0.25\n", ".jsonl": '{"epoch": 1, "cost": 0.5}\n{"epoch": 2, "cost": 0.25}\n'}
    return Case("log_to", given, called, lambda text: None if text == want[file.suffix] else f"got {text!r}")
