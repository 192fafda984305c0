"""A training with checkpoints, as a program: `python -m tests.train.checkpointed DIRECTORY`; it prints its digest.

It is killed and started again by the tests: mini-batches, Adam, a schedule, and a best that is not the last.
"""

import hashlib
import sys
from pathlib import Path

import jax
import numpy as np
import optax

import jaxnet
from jaxnet.datasets import flower

NET = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"))
X, Y = (array.astype(np.float32) for array in flower(60))
OPTIMIZER = optax.adam(optax.cosine_decay_schedule(0.05, 500))
EPOCHS = 40
ROOT = Path(__file__).parents[2]  # of the checkout, where it runs as a program


def train(directory, **changes):
    settings = {
        "key": jax.random.key(3), "optimizer": OPTIMIZER, "epochs": EPOCHS, "batch_size": 16, "progress": False,
        "validation": (X[:, :20], 1 - Y[:, :20]), "patience": 100, "checkpoint": directory, "resume": True,
    }  # fmt: skip
    return jaxnet.fit(NET, X, Y, **settings | changes)


def names(directory):
    """The epochs of the checkpoints there."""
    return sorted(int(path.name) for path in Path(directory).iterdir() if path.name.isdigit())


def digest(result):
    """SHA-256 of every leaf: params, optimizer state, key, counters, best so far and history."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path((result.params, result.history, result.loop)):
        typed = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if typed else leaf)
        sha.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode() + array.tobytes())
    return sha.hexdigest()


if __name__ == "__main__":
    print("begins", flush=True)
    report = lambda loop, history: print("epoch", int(loop.epoch), flush=True)
    print("digest", digest(train(sys.argv[1], callbacks=report)), flush=True)
