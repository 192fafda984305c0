"""Checkpoints: all that a training needs to go on, on disk, so that one that is killed loses what came since the last.

What one is on disk `checkpoint_files` says. What is wrong with one is told in a warning, and the newest before it is
taken; what is of another network or optimizer is refused.
"""

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from jaxnet import checks
from jaxnet._arguments import count, type_name
from jaxnet.atomic_files import NotSavedError
from jaxnet.lock import LockedError, only_user
from jaxnet.mlp import MLP
from jaxnet.parallel import placing
from jaxnet.parallel.processes import ALONE, Team
from jaxnet.train import checkpoint_files as files
from jaxnet.train import optimizers, signals
from jaxnet.train.checkpoint_files import NoCheckpointError
from jaxnet.train.config import FitConfig
from jaxnet.train.history import History
from jaxnet.train.optimizers import Chosen
from jaxnet.train.result import FitResult, result_of
from jaxnet.train.state import LoopState
from jaxnet.train.warnings import warn

__all__ = ["NoCheckpointError", "latest", "restore", "save"]
EVERY, KEEP = 1, 3  # where fit is not told
SHARED_WITHIN = 3  # seconds, in which a network's file system shows others what one has written
UNFINISHED = ".orbax-checkpoint-tmp"  # what Orbax is writing, or was when its program ended


def save(directory: str | os.PathLike, net: MLP, result: FitResult) -> Path:
    """Save a training, such as `fit` returns or an error holds as its result, and return the checkpoint's path.

    Raises:
        OSError: the directory cannot be made or written (NotSavedError), or another program trains in it.
        ImportError: Orbax is not installed.
        TypeError: net is not an MLP, or result is not a FitResult.
        ValueError: result is of another network, or not newer than what the directory has.
    """
    checks.mlp(net)
    if not isinstance(result, FitResult):
        raise TypeError(f"result is {type_name(result)}; expected the FitResult of a fit")
    checks.params(net, result.loop.params, "result.loop.params")
    with contextlib.ExitStack() as opened:
        place = opened.enter_context(_for_one_program(_directory(directory, "directory")))
        writer = opened.enter_context(contextlib.closing(files.Writer()))
        epoch, newest = int(result.loop.epoch), latest(place)
        if newest is not None and epoch <= newest:
            raise ValueError(
                f"result is of epoch {epoch}, but {place} has a checkpoint of epoch {newest}, which restore would"
                " return; give another directory"
            )
        path = writer.begin(place, net, {}, result)
        writer.wait()
    return path


def restore(
    directory: str | os.PathLike, net: MLP, optimizer: str | optax.GradientTransformation | None = None
) -> FitResult:
    """Return the training of the newest checkpoint that is whole, for `fit(..., resume=result)`.

    A `TrainingWarning` tells of those that are damaged. The optimizer is that of the training, as `fit` takes it.

    Raises:
        ValueError: there is no checkpoint, none is whole, or it is of another network, optimizer or version.
        OSError: the directory cannot be read.
        ImportError: Orbax is not installed.
    """
    checks.mlp(net)
    place = _directory(directory, "directory")
    found = files.newest(place, net, optimizers.chosen(optimizer).transformation)
    if found is None:
        raise NoCheckpointError(f"{place} has no checkpoint; expected a directory that fit(..., checkpoint=) wrote")
    result, record = found
    number = jax.process_count() if isinstance(record["position"], list) else 1
    return result._replace(position=_own_position(place, record, number))


def latest(directory: str | os.PathLike) -> int | None:
    """The number of epochs of the newest checkpoint in a directory, whole or not; None where there is none."""
    return max(files.epochs_in(_directory(directory, "directory")), default=None)


class NoCheckpoints:
    """What `fit` does without a directory for checkpoints: nothing."""

    def restored(self, net: MLP, optimizer: Any) -> FitResult | None:
        """No training."""

    def begin(self, config: FitConfig, chosen: Chosen, steps_per_epoch: int | None, layout: str) -> None:
        """Nothing."""

    def next_stop(self, epoch: int, epochs: int) -> int:
        """The last epoch of all."""
        return epochs

    def save_if_due(self, loop: LoopState, history: History, position: str | None) -> None:
        """Nothing."""

    def save(self, loop: LoopState, history: History, position: str | None) -> None:
        """Nothing."""

    def exit_if_asked(self) -> None:
        """Nothing: SIGTERM ends the program."""


class Checkpoints(NoCheckpoints):
    """The checkpoints of one training, in a directory that it has for itself.

    They are written while training goes on, one at a time: a save waits for the one before, and raises what that met.
    """

    def __init__(self, directory: Path, every: int | float, keep: int, exit_if_asked: Callable[[], None], team: Team):
        """Take the directory; every: a number of epochs, an int, or of seconds, a float."""
        self._directory, self._every, self._keep, self._exit_if_asked = directory, every, keep, exit_if_asked
        self._team = team  # all read, and the first process writes
        self._saved: int | None = None  # the epoch of the last one that was begun
        self._unfinished: int | None = None  # the same, while it is being written
        self._whole: set[int] = set()  # epochs of those that can be gone on from
        self._history: dict[str, np.ndarray] = {}  # until the last
        self._record: dict[str, Any] = {"settings": {}}  # of the one that was restored
        self._writer = files.Writer() if team.is_first else None
        self._began = time.monotonic()

    def restored(self, net: MLP, optimizer: Any) -> FitResult | None:
        """The training of the newest checkpoint that is whole; None where there is none at all."""
        with self._team.together():
            found = files.newest(self._directory, net, optimizer)
        self._team.same({f"what {self._directory} holds": "no checkpoint" if found is None else found[1]["sha256"]})
        if found is None:
            return None
        result, self._record = found
        result = result._replace(position=_own_position(self._directory, self._record, self._team.number))
        self._saved, self._history = int(result.loop.epoch), result.history
        self._whole = {epoch for epoch in files.epochs_in(self._directory) if epoch <= self._saved}
        return result

    def begin(self, config: FitConfig, chosen: Chosen, steps_per_epoch: int | None, layout: str) -> None:
        """Warn where the training that was restored had other settings; note those of now."""
        self._config = config
        devices = 1 if config.mesh is None else config.mesh.size
        self._settings = files.settings(config) | {"steps_per_epoch": steps_per_epoch}
        self._settings |= {"devices": devices, "layout": layout}
        self._settings |= {"optimizer_name": chosen.name, "optimizer_numbers": dict(chosen.numbers)}
        before = self._settings | self._record["settings"]
        said = {name: f"{name} {before[name]!r}, now {now!r}" for name, now in self._settings.items()}
        said["optimizer"] = "an optimizer with other hyperparameters"  # its state fits
        if before["optimizer_name"] != chosen.name:
            del said["optimizer"]
        begins_otherwise = any(before[name] != self._settings[name] for name in ("optimizer_init", "optimizer_numbers"))
        del said["optimizer_init"], said["optimizer_numbers"]
        if before["jax"] != self._settings["jax"] or "optimizer_init" not in self._record["settings"]:
            begins_otherwise = before["optimizer_numbers"] != self._settings["optimizer_numbers"]
            said.pop("optimizer", None)  # another JAX, or an earlier jaxnet, may write the same program otherwise
        changed = [words for name, words in said.items() if before[name] != self._settings[name]]
        if begins_otherwise and before["optimizer"] == self._settings["optimizer"]:
            numbers = before["optimizer_numbers"], self._settings["optimizer_numbers"]
            named = "{}, now {}".format(*numbers) if numbers[0] != numbers[1] else "in optax.inject_hyperparams"
            warn(
                f"{self._directory} has checkpoints of a training whose optimizer began with another state, such as"
                f" another learning rate ({named}): training goes on with the state that was saved,"
                " and the new number has no effect; to change a rate, let a callback return"
                " jaxnet.scale_learning_rate(loop, factor) once"
            )
        if changed:
            warn(
                f"{self._directory} has checkpoints of a training with other settings ({'; '.join(changed)}): it goes"
                " on, but not as it would have"
            )

    def next_stop(self, epoch: int, epochs: int) -> int:
        """The epoch at which the next checkpoint is due, or the last of all."""
        return min(epochs, (epoch // self._every + 1) * self._every) if isinstance(self._every, int) else epochs

    def save_if_due(self, loop: LoopState, history: History, position: str | None) -> None:
        """Save after so many epochs, or seconds since the last time."""
        if isinstance(self._every, int):
            due = int(loop.epoch) % self._every == 0
        else:
            due = self._team.of_first(time.monotonic() - self._began >= self._every)
        if due:
            self.save(loop, history, position)

    def save(self, loop: LoopState, history: History, position: str | None) -> None:
        """Begin to save what is not saved yet; it is on disk when the next one begins, or at the end.

        What a chunk has taken, which an error or a second Ctrl-C has cut short, is not there any more.
        """
        if any(leaf.is_deleted() for leaf in jax.tree.leaves(loop)) or (epoch := int(loop.epoch)) == self._saved:
            return
        positions = self._team.texts(position)
        result = result_of(loop, history.arrays(), position)
        with self._team.together():
            self._wait()
        leaves = placing.on_the_host(result.loop)
        with self._team.together():
            if self._writer:
                whole = result._replace(loop=leaves)
                self._writer.begin(self._directory, self._config.net, self._settings, whole, positions)
        self._saved = self._unfinished = epoch
        self._history, self._began = result.history, time.monotonic()

    def exit_if_asked(self) -> None:
        """Exit with status 0 where a SIGTERM has come: what is there is saved on the way out."""
        self._exit_if_asked()

    def close(self, error: BaseException | None = None) -> None:
        """Wait for the last save, and raise what it met; error: what is on its way out, if something is."""
        team = self._team if error is None or self._team.know(error) else ALONE
        with team.together(), contextlib.closing(self._writer or contextlib.ExitStack()):
            self._wait()

    def _wait(self) -> None:
        """Wait for the one that is being written, raise what it met, and remove those that are not to be kept."""
        written, self._unfinished = self._unfinished, None
        if not self._writer:
            return
        self._writer.wait()
        if written is None:
            return
        whole = sorted(self._whole | {written})
        self._whole = {*whole[-self._keep :], self._best(whole)}
        for epoch in set(files.epochs_in(self._directory)) - self._whole:
            shutil.rmtree(files.place_of(self._directory, epoch), ignore_errors=True)

    def _best(self, epochs: list[int]) -> int:
        """The one with the best metric: what patience monitors, or the cost where there are no validation data.

        NaN, of an epoch whose steps the optimizer refused, is worse than any number.
        """
        monitor = self._config.monitor if self._config.monitor in self._history else "cost"
        values = self._history.get(monitor, [])
        sign = -1 if monitor.endswith("accuracy") else 1
        known = [epoch for epoch in epochs if 0 < epoch <= len(values)]
        rank = lambda value: (np.isnan(value), sign * value)
        return min(known, key=lambda epoch: rank(values[epoch - 1]), default=epochs[-1])


def _own_position(place: Path, record: dict[str, Any], number: int) -> str | None:
    """Where this process's stream stood; of another number of processes that is not known, which a warning says."""
    positions = record["position"] if isinstance(record["position"], list) else [record["position"]]
    if len(positions) == number:
        return positions[jax.process_index() if number > 1 else 0]
    if any(position is not None for position in positions):
        warn(
            f"{place} has checkpoints of {len(positions)} processes, each with a place in its own stream of batches,"
            f" and now there are {number}: batches begin with what their iterables give now"
        )
    return None


@contextlib.contextmanager
def checkpoints_in(directory: Any, every: Any, keep: Any, resume: Any, team: Team) -> Iterator[NoCheckpoints]:
    """The checkpoints of one training; at the end all are on disk, or what stood in the way is raised.

    Where training ends by an error, a save that fails is a note to that.

    Raises:
        ValueError, TypeError: an argument is out of range; or the directory has checkpoints and resume is not True.
        OSError: the directory cannot be made or written (NotSavedError), or another program trains in it.
        ImportError: Orbax is not installed.
    """
    every, keep = _interval(every), count("keep", keep)
    if directory is None:
        if resume is True:
            raise ValueError("resume is True without checkpoint; give the directory, or the FitResult to go on from")
        for name, value, default in (("every", every, EVERY), ("keep", keep, KEEP)):
            if value != default:
                raise ValueError(
                    f"{name} is {value} without checkpoint, and nothing would be saved; give checkpoint too"
                )
        yield NoCheckpoints()
        return
    place = _directory(directory, "checkpoint")
    with contextlib.ExitStack() as opened:
        with team.together():
            files.orbax()
            if team.is_first:
                opened.enter_context(_for_one_program(place))
            if team.is_first and resume is not True and files.epochs_in(place):
                raise ValueError(
                    f"checkpoint is {str(place)!r}, which has checkpoints of an earlier training, up to epoch"
                    f" {latest(place)}; give resume=True to go on from them, or another directory"
                )
        _check_same_directory(place, team)
        with signals.exit_at_sigterm(team) as exit_if_asked:
            checkpoints = Checkpoints(place, every, keep, exit_if_asked, team)
            try:
                yield checkpoints
            except BaseException as error:
                with noted_in(error):
                    checkpoints.close(error)
                raise
            checkpoints.close()


def _check_same_directory(place: Path, team: Team) -> None:
    """Refuse a directory in which other processes do not see what the first one writes: they could not go on from it.

    Raises:
        ValueError: they do not; in all processes.
    """
    if team.number == 1:
        return
    token = place / f".of-all-{team.gathered(secrets.randbits(31))[0, 0]}"  # as the first has drawn it
    with team.together():
        if team.is_first:
            token.touch()
    try:
        end = time.monotonic() + SHARED_WITHIN
        while not (sees := token.exists()) and time.monotonic() < end:
            time.sleep(0.1)
        blind = np.flatnonzero(team.gathered(not sees)[:, 0]).tolist()
    finally:
        if team.is_first:
            token.unlink(missing_ok=True)
    if blind:
        raise team.raises_in_all(
            ValueError(
                f"checkpoint is {str(place)!r}, where process {', '.join(map(str, blind))} of {team.number} does not"
                " see what process 0 writes, as on machines with disks of their own; give a directory that all share"
            )
        )


@contextlib.contextmanager
def noted_in(error: BaseException) -> Iterator[None]:
    """Make an exception of the block a note to the error that is on its way; status 0 would say that all is saved."""
    try:
        yield
    except Exception as another:
        if isinstance(error, SystemExit):
            raise
        error.add_note(f"jaxnet: and the last checkpoint was not saved: {another}")


def _interval(every: Any) -> int | float:
    """Every so many epochs, as an int, or seconds, as a float."""
    seconds = re.fullmatch(r"(\d+(?:\.\d*)?)\s*s", every) if isinstance(every, str) else None
    if seconds and float(seconds[1]) > 0:
        return float(seconds[1])
    return count("every", every, otherwise=" epochs, or seconds such as '60s'")


def _directory(directory: Any, argument: str) -> Path:
    if not isinstance(directory, str | os.PathLike) or not isinstance(os.fspath(directory), str) or not str(directory):
        got = type_name(directory) if directory != "" else "empty"
        raise TypeError(f"{argument} is {got}; expected the path of a directory, such as 'run'")
    if "\0" in os.fspath(directory) or "://" in os.fspath(directory):
        raise ValueError(
            f"{argument} is {directory!r}; expected the path of a local directory: without null characters, no address"
        )
    return Path(directory).absolute()


@contextlib.contextmanager
def _for_one_program(place: Path) -> Iterator[Path]:
    """Make the directory, lock it, and remove what a program that was killed has left unfinished."""
    with contextlib.ExitStack() as stack:
        try:
            place.mkdir(parents=True, exist_ok=True)
            stack.enter_context(only_user(place))
        except LockedError as error:
            raise LockedError(f"{error}; wait for its end, or give another directory") from None
        except OSError as error:
            raise NotSavedError(f"{place} cannot be written ({error.strerror}); {files.REMEDY}") from error
        for unfinished in place.glob(f"*{UNFINISHED}*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        yield place


def __dir__() -> list[str]:
    """The public names."""
    return __all__
