"""Fit, resume, predict, check, save and load over and over in one process: its memory stays, and so do its programs.

`python -m tests.long_run --minutes 30` first fills the caches, which takes as many rounds as `BoundedJit` keeps
programs, and then counts. It ends with 1 where memory or programs grow.
"""

import argparse
import gc
import itertools
import operator
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.monitoring
import numpy as np
import optax
from tqdm import tqdm

import jaxnet
from jaxnet._xla.compile import KEPT
from jaxnet.datasets import flower
from jaxnet.verify import check_gradients

GROWTH = 1.05  # of the memory after a quarter of the time, to which it may have grown in the last quarter
NET = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"))
WIDE = jaxnet.MLP((64, 128, 10), ("relu", "softmax"))
X, Y = (array.astype(np.float32) for array in flower(60))
RNG = np.random.default_rng(0)
LABELS = np.arange(300) % 10
PIXELS = (RNG.normal(size=(64, 300)) + RNG.normal(size=(64, 10))[:, LABELS]).astype(np.float32)
DIGITS = jaxnet.one_hot(LABELS, 10)
SGD = optax.sgd(0.5, momentum=0.9)
START = jaxnet.init(NET, jax.random.key(0))
GENTLE, STEEP = optax.sgd(0.1), optax.sgd(np.inf)  # of one kind of state


def fit_afresh(key: jax.Array) -> None:
    """With an optimizer object that no other fit has, as people write it: it has programs of its own."""
    optimizer = optax.adam(1e-3)
    half = jaxnet.fit(NET, X, Y, key=key, optimizer=optimizer, epochs=3, batch_size=16, progress=False)
    jaxnet.fit(NET, X, Y, optimizer=optimizer, epochs=6, batch_size=16, resume=half, progress=False)


def fit_mid_sized(key: jax.Array) -> None:
    """Mini-batches of a network that is not small, resumed."""
    settings = {"batch_size": 64, "progress": False}
    half = jaxnet.fit(WIDE, PIXELS, DIGITS, key=key, epochs=1, **settings)
    jaxnet.fit(WIDE, PIXELS, DIGITS, epochs=3, resume=half, **settings)


def fit_full_batch(key: jax.Array) -> None:
    """Until the cost changes no more, with weights."""
    jaxnet.fit(
        NET, X, Y, key=key, optimizer=SGD, batch_size=None, steps=200, tol=1e-4, weights=1 + Y[0], progress=False
    )  # fmt: skip


def fit_with_patience(key: jax.Array) -> None:
    """Validated, and stopped by it or by a callback."""
    jaxnet.fit(
        NET, X[:, 20:], Y[:, 20:], key=key, optimizer=SGD, epochs=20, batch_size=16, progress=False, patience=3,
        validation=(X[:, :20], Y[:, :20]), callbacks=lambda loop, history: loop.epoch >= 10,
    )  # fmt: skip


def fail_and_go_on(key: jax.Array) -> None:
    """A step whose numbers are not finite: the error holds the last good state, from which another rate goes on."""
    settings = {"batch_size": 16, "epochs": 2, "progress": False}
    try:
        jaxnet.fit(NET, X, Y, key=key, optimizer=STEEP, **settings)
    except jaxnet.NotFiniteError as error:
        jaxnet.fit(NET, X, Y, optimizer=GENTLE, resume=error.result, **settings)


def fit_with_checkpoints(key: jax.Array) -> None:
    """Saved in the background after each epoch, and gone on with from there.

    Of a checkpoint that is read, TensorStore 0.1.86 keeps some 0.1 MB for good (its `Spec.to_json` does, which Orbax
    calls for each array), and of one that is saved some 10 kB. No program reads them by the hundred.
    """
    settings = {"key": key, "optimizer": SGD, "batch_size": 16, "progress": False}
    with tempfile.TemporaryDirectory() as directory:
        for epochs in (2, 4):
            jaxnet.fit(NET, X, Y, checkpoint=directory, resume=True, epochs=epochs, **settings)


def fit_a_stream(key: jax.Array) -> None:
    """Batches that are read while training goes on."""
    batches = [(X[:, start : start + 20], Y[:, start : start + 20]) for start in (0, 20, 40)]
    jaxnet.fit(NET, batches, key=key, optimizer=SGD, epochs=3, progress=False)


def sweep(key: jax.Array) -> None:
    """Three members, in threads."""
    jaxnet.sweep(NET, X, Y, keys=key, learning_rate=[0.1, 0.3, 1.0], epochs=3, batch_size=16, progress=False)


def check(key: jax.Array) -> None:
    """A gradient against its witnesses, at one point: at another the check may take another way, and compile that."""
    del key
    check_gradients(cost, gradient, START)


def cost(params) -> jax.Array:
    """J on the flower."""
    return jaxnet.cost(NET, params, X, Y)


def gradient(params) -> tuple[jaxnet.Layer, ...]:
    """Its gradient by hand."""
    return jaxnet.value_and_grad(NET, params, X, Y)[1]


def save_load_predict(key: jax.Array) -> None:
    """A net through a file, and its answers for as many examples as requests bring."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "net.safetensors"
        jaxnet.save(file, WIDE, jaxnet.init(WIDE, key))
        net, params = jaxnet.load(file)
    for m in (1, 30, 300):
        jaxnet.predict(net, params, PIXELS[:, :m])


REPEATED = (
    fit_mid_sized, fit_full_batch, fit_with_patience, fail_and_go_on, fit_a_stream, sweep, check, save_load_predict
)  # fmt: skip
SELDOM = (fit_with_checkpoints,)  # in one round of ten


class Round(NamedTuple):
    """What the process held after a round, and what that round compiled."""

    seconds: float  # since the first
    memory: int  # resident, in bytes
    held: int  # programs
    afresh: tuple[str, ...]  # the programs compiled for the fresh optimizer
    repeated: tuple[str, ...]  # ... and for all the rest


def rounds(
    minutes: float,
    afresh: Callable = fit_afresh,
    repeated: tuple[Callable, ...] = REPEATED,
    seldom: tuple[Callable, ...] = SELDOM,
) -> list[Round]:
    """Round after round for so long, after those that fill the caches."""
    compiled, numbers, found = [], itertools.count(), []
    client = jax.devices()[0].client

    def note(event: str, duration_secs: float, **details) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(details.get("fun_name"))

    def programs(functions: tuple[Callable, ...], number: int) -> tuple[str, ...]:
        compiled.clear()
        for function in functions:
            function(jax.random.key(number))
        return tuple(compiled)

    def one_round(number: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return programs((afresh,), number), programs(repeated + (() if number % 10 else seldom), number)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        for number in itertools.islice(numbers, KEPT + 1):
            one_round(number)
        gc.collect()  # of what the process did before
        began = time.perf_counter()
        with tqdm(total=round(60 * minutes), unit="s", disable=None) as bar:
            while not found or found[-1].seconds < 60 * minutes:
                names = one_round(next(numbers))
                gc.collect()
                seconds = time.perf_counter() - began
                found.append(Round(seconds, resident_memory(), len(client.live_executables()), *names))
                bar.set_postfix(rounds=len(found), memory=f"{found[-1].memory / 1e6:.0f} MB", refresh=False)
                bar.update(min(round(seconds), bar.total) - bar.n)
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    return found


def resident_memory() -> int:
    """The bytes of this process in memory, as Linux counts its pages."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def quarters(found: list[Round]) -> tuple[list[Round], list[Round]]:
    """The rounds of the first quarter of the time, and those of the last."""
    whole = found[-1].seconds
    first = [each for each in found if each.seconds <= whole / 4]
    return first or found[:1], [each for each in found if each.seconds > 0.75 * whole]


def growth(found: list[Round]) -> list[str]:
    """What has grown from the first quarter of the time to the last, in words."""
    first, last = quarters(found)
    most = lambda number: (max(map(number, last)), max(map(number, first)))
    grown = {
        "programs held": operator.gt(*most(lambda each: each.held)),
        "programs for a fresh optimizer": operator.gt(*most(lambda each: len(each.afresh))),
        f"programs for repeated shapes {_names(last)}": bool(_names(last)),
        "memory": max(each.memory for each in last) > GROWTH * first[-1].memory,
    }
    return [words for words, has_grown in grown.items() if has_grown]


def _names(rounds: list[Round]) -> list[str]:
    """The programs that were compiled for repeated shapes."""
    return sorted(name for each in rounds for name in each.repeated)


def summary(found: list[Round]) -> str:
    """The run in a line."""
    first, last = quarters(found)
    megabytes = lambda each: f"{each.memory / 1e6:.0f} MB"
    compiled = lambda rounds: (
        f"{sum(len(each.afresh) for each in rounds)} for {len(rounds)} fresh optimizers and"
        f" {len(_names(rounds))} for repeated shapes"
    )
    return (
        f"{len(found)} rounds in {found[-1].seconds / 60:.1f} min; memory {megabytes(first[-1])} after a quarter,"
        f" {megabytes(found[-1])} at the end, {megabytes(max(found, key=lambda each: each.memory))} at most; programs"
        f" compiled: {compiled(first)} in the first quarter, {compiled(last)} in the last; held: {first[-1].held}"
        f" after a quarter, {found[-1].held} at the end"
    )


def main() -> int:
    """Exit with 1 where anything grows."""
    parser = argparse.ArgumentParser(prog="python -m tests.long_run", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    found = rounds(parser.parse_args().minutes)
    grown = growth(found)
    print(summary(found) + (f"; GROWING: {', '.join(grown)}" if grown else ""))
    return int(bool(grown))


if __name__ == "__main__":
    sys.exit(main())
