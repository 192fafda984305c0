"""Experiments performed one by one, or for a quick run side by side; one that breaks does not stop the others."""

import contextlib
import io
import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import jax
from tqdm import tqdm

from experiments.runner import experiment, program, results
from jaxnet.atomic_files import NotSavedError

SIDE_BY_SIDE = 2  # experiments of a quick run at once: most of their time is compiling, which leaves cores idle
COMPILED_QUICKLY = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"  # and run little


def records(notes: Mapping[str, str], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The records of experiments, in their order; `notes` are the notes' sections by name, `settings` a Config's.

    They are performed one by one, for then the times that they take are true. A quick run on a CPU performs some side
    by side, each in a process, which ends with this generator.
    """
    tasks = [(name, sections, settings) for name, sections in notes.items()]
    if (
        not settings["quick"]
        or min(SIDE_BY_SIDE, len(tasks)) < 2
        or jax.devices(settings["device"])[0].platform != "cpu"
    ):
        yield from itertools.starmap(perform, tasks)
        return
    spawn = multiprocessing.get_context("spawn")  # the fork of a process with threads may hang
    pool = ProcessPoolExecutor(SIDE_BY_SIDE, mp_context=spawn, initializer=begin_worker)
    futures = [pool.submit(perform, *task) for task in tasks]
    try:
        for task, future in zip(tasks, futures, strict=True):
            yield record_of(future, *task)
    finally:
        if not all(future.done() for future in futures):
            for process in multiprocessing.active_children():
                process.terminate()
        pool.shutdown(cancel_futures=True)


def begin_worker() -> None:
    """Begin a process of a quick run, before JAX computes anything; flags of the user's own come last and count."""
    program.begin_worker()
    tqdm.set_lock(threading.RLock())  # it draws nothing here; its own lock would leave a semaphore when this is killed
    os.environ["XLA_FLAGS"] = f"{COMPILED_QUICKLY} {os.environ.get('XLA_FLAGS', '')}"


def record_of(future: Future, name: str, notes: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The record that a process hands over; where it ended before it could, what is known."""
    start = time.perf_counter()
    try:
        return future.result()
    except BrokenProcessPool as error:
        own = experiment.Config(**settings)
        return error_record(name, notes, error) | experiment.provenance(name, own, start)


def perform(name: str, notes: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Run one experiment and return its record; of one that breaks, what is known and the error's message."""
    start = time.perf_counter()
    own = experiment.Config(**settings)  # until its own are known
    try:
        module = experiment.load(name)
        own = getattr(module, "for_page", module.Config)(**settings)
        with contextlib.redirect_stdout(io.StringIO()):  # the page shows the numbers
            return experiment.perform(name, own)
    except (Exception, SystemExit) as error:
        record = error_record(name, notes, error) | experiment.provenance(name, own, start)
        if not isinstance(error, SystemExit | NotSavedError):  # which mean that nothing can be written
            try:
                results.save_record(record, own.results)
            except NotSavedError as unsaved:
                record["error"] += f"; {unsaved}"
        return record


def earlier_record(name: str, notes: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of an earlier run, marked as such; None if there is none."""
    start, own = time.perf_counter(), experiment.Config(**settings)
    try:
        record = results.earlier_record(own.results, name)
    except ValueError as error:
        record = error_record(name, notes, error) | experiment.provenance(name, own, start)
    return record and record | {"earlier": True}


def error_record(name: str, notes: str, error: BaseException) -> dict[str, Any]:
    """The record of an experiment that ended with an error."""
    return {
        "experiment": name,
        "notes": notes,
        "about": "",
        "data": {},
        "claim": "This experiment ended with an error before its claim could be judged.",
        "held": False,
        "error": experiment.error_message(error),
    }
