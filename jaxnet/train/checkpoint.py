"""Checkpoints: all that a training needs to go on, on disk, so that one that is killed loses what came since the last.

DIRECTORY/00000012/ is the training after 12 epochs. Orbax writes it, beside its place and then renamed; what is in it:

- arrays: the leaves of the `LoopState` and of the history, random keys as their bits, named by number;
- record: as JSON the version of this format, the fields of the MLP, the settings of `fit`, where a stream of batches
  stood, and of each leaf its path, dtype, shape and SHA-256 digest; and the digest of all this.

Anybody may have made or damaged a file, and nothing in it is run or imported. Paths, dtypes and shapes are compared
with what the training expects before an array is read, and the digests after it: Orbax itself loads many a flipped bit.
What is wrong with a checkpoint is told in a warning, and the newest one before it is taken.
"""

import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnet import checks
from jaxnet._arguments import count, type_name
from jaxnet.array_files import DamagedFileError
from jaxnet.atomic_files import NotSavedError
from jaxnet.initialisers import shapes
from jaxnet.lock import LockedError, only_user
from jaxnet.mlp import MLP
from jaxnet.train import optimizers, signals
from jaxnet.train.config import METRICS, FitConfig
from jaxnet.train.history import History
from jaxnet.train.result import FitResult, result_of
from jaxnet.train.state import LoopState, TrainState, loop_start
from jaxnet.train.warnings import warn

VERSION = 1
NAME = re.compile(r"\d{8,}")  # of a checkpoint: the number of epochs done
UNFINISHED = ".orbax-checkpoint-tmp"  # what Orbax is writing, or was when its program ended
KEYS = ("threefry2x32", "rbg", "unsafe_rbg")  # implementations of JAX's typed keys
MEASURED = (*METRICS, "validation_cost", "validation_accuracy", "skipped")  # what a history may hold
REMEDY = "give a directory that can be made and written, with room in it"


class NoCheckpointError(DamagedFileError):
    """No checkpoint in the directory can be restored."""


def save(directory: str | os.PathLike, net: MLP, result: FitResult) -> Path:
    """Save a training, such as `fit` returns or an error holds as its result, and return the checkpoint's path.

    Raises:
        OSError: the directory cannot be made or written (NotSavedError), or another program trains in it.
        ImportError: Orbax is not installed.
        TypeError: net is not an MLP, or result is not a FitResult.
        ValueError: result is of another network.
    """
    checks.mlp(net)
    if not isinstance(result, FitResult):
        raise TypeError(f"result is {type_name(result)}; expected the FitResult of a fit")
    checks.params(net, result.loop.params, "result.loop.params")
    with contextlib.ExitStack() as opened:
        place = opened.enter_context(_for_one_program(_directory(directory)))
        writer = opened.enter_context(contextlib.closing(_Writer()))
        path = writer.begin(place, net, {}, result)
        writer.wait()
    return path


def restore(directory: str | os.PathLike, net: MLP, optimizer: optax.GradientTransformation | None = None) -> FitResult:
    """Return the training of the newest checkpoint that is whole, for `fit(..., resume=result)`.

    A `TrainingWarning` tells of those that are damaged. The optimizer is that of the training; None is fit's own.

    Raises:
        ValueError: there is no checkpoint, none is whole, or it is of another network, optimizer or version.
        OSError: the directory cannot be read.
        ImportError: Orbax is not installed.
    """
    checks.mlp(net)
    place = _directory(directory)
    found = _newest(place, net, optimizers.optimizer(optimizers.DEFAULT if optimizer is None else optimizer))
    if found is None:
        raise NoCheckpointError(f"{place} has no checkpoint; expected a directory that fit(..., checkpoint=) wrote")
    return found[0]


def latest(directory: str | os.PathLike) -> int | None:
    """The number of epochs of the newest checkpoint in a directory, whole or not; None where there is none."""
    return max(_epochs_in(_directory(directory)), default=None)


class NoCheckpoints:
    """What `fit` does without a directory for checkpoints: nothing."""

    def restored(self, net: MLP, optimizer: Any) -> FitResult | None:
        """No training."""

    def begin(self, config: FitConfig) -> None:
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

    def __init__(self, directory: Path, every: int | float, keep: int, exit_if_asked: Callable[[], None]):
        """Take the directory; every: a number of epochs, an int, or of seconds, a float."""
        self._directory, self._every, self._keep, self._exit_if_asked = directory, every, keep, exit_if_asked
        self._saved: int | None = None  # the epoch of the last one that was begun
        self._unfinished: int | None = None  # the same, while it is being written
        self._whole: set[int] = set()  # epochs of those that can be gone on from
        self._history: dict[str, np.ndarray] = {}  # until the last
        self._record: dict[str, Any] = {"settings": {}}  # of the one that was restored
        self._writer, self._began = _Writer(), time.monotonic()

    def restored(self, net: MLP, optimizer: Any) -> FitResult | None:
        """The training of the newest checkpoint that is whole; None where there is none at all."""
        found = _newest(self._directory, net, optimizer)
        if found is None:
            return None
        result, self._record = found
        self._saved, self._history = int(result.loop.epoch), result.history
        self._whole = {epoch for epoch in _epochs_in(self._directory) if epoch <= self._saved}
        return result

    def begin(self, config: FitConfig) -> None:
        """Warn where the training that was restored had other settings; note those of now."""
        self._config, self._settings = config, _settings(config)
        before = self._record["settings"]
        changed = [
            f"{name} {before[name]!r}, now {now!r}"
            for name, now in self._settings.items()
            if before.get(name, now) != now
        ]
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
            due = time.monotonic() - self._began >= self._every
        if due:
            self.save(loop, history, position)

    def save(self, loop: LoopState, history: History, position: str | None) -> None:
        """Begin to save what is not saved yet; it is on disk when the next one begins, or at the end.

        What a chunk has taken, which an error or a second Ctrl-C has cut short, is not there any more.
        """
        if any(leaf.is_deleted() for leaf in jax.tree.leaves(loop)) or (epoch := int(loop.epoch)) == self._saved:
            return
        self._wait()
        result = result_of(loop, history.arrays(), position)
        self._writer.begin(self._directory, self._config.net, self._settings, result)
        self._saved = self._unfinished = epoch
        self._history, self._began = result.history, time.monotonic()

    def exit_if_asked(self) -> None:
        """Exit with status 0 where a SIGTERM has come: what is there is saved on the way out."""
        self._exit_if_asked()

    def close(self) -> None:
        """Wait for the last save, and raise what it met."""
        with contextlib.closing(self._writer):
            self._wait()

    def _wait(self) -> None:
        """Wait for the one that is being written, raise what it met, and remove those that are not to be kept."""
        written, self._unfinished = self._unfinished, None
        self._writer.wait()
        if written is None:
            return
        whole = sorted(self._whole | {written})
        self._whole = {*whole[-self._keep :], self._best(whole)}
        for epoch in set(_epochs_in(self._directory)) - self._whole:
            shutil.rmtree(_path(self._directory, epoch), ignore_errors=True)

    def _best(self, epochs: list[int]) -> int:
        """The one with the best metric: what patience monitors, or the cost where there are no validation data."""
        monitor = self._config.monitor if self._config.monitor in self._history else "cost"
        values = self._history.get(monitor, [])
        sign = -1 if monitor.endswith("accuracy") else 1
        known = [epoch for epoch in epochs if 0 < epoch <= len(values)]
        return min(known, key=lambda epoch: sign * values[epoch - 1], default=epochs[-1])


@contextlib.contextmanager
def opened(directory: Any, every: Any, keep: Any, resume: Any) -> Iterator[NoCheckpoints]:
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
        yield NoCheckpoints()
        return
    place = _directory(directory)
    _orbax()
    with _for_one_program(place):
        if resume is not True and any(_epochs_in(place)):
            raise ValueError(
                f"checkpoint is {str(place)!r}, which has checkpoints of an earlier training, up to epoch"
                f" {latest(place)}; give resume=True to go on from them, or another directory"
            )
        with signals.exit_at_sigterm() as exit_if_asked:
            checkpoints = Checkpoints(place, every, keep, exit_if_asked)
            try:
                yield checkpoints
            except BaseException as error:
                with noted_in(error):
                    checkpoints.close()
                raise
            checkpoints.close()


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


def _directory(directory: Any) -> Path:
    if not isinstance(directory, str | os.PathLike) or not isinstance(os.fspath(directory), str) or not str(directory):
        got = type_name(directory) if directory != "" else "empty"
        raise TypeError(f"checkpoint is {got}; expected the path of a directory, such as 'run'")
    if "\0" in os.fspath(directory):
        raise ValueError(f"checkpoint is {directory!r}; expected the path of a directory: without null characters")
    return Path(directory).absolute()


@contextlib.contextmanager
def _for_one_program(place: Path) -> Iterator[Path]:
    """Make the directory, lock it, and remove what a program that was killed has left unfinished."""
    with contextlib.ExitStack() as stack:
        try:
            place.mkdir(parents=True, exist_ok=True)
            stack.enter_context(only_user(place))
        except LockedError as error:
            raise LockedError(f"{error}; wait for its end, or give checkpoint another directory") from None
        except OSError as error:
            raise NotSavedError(f"{place} cannot be written ({error.strerror}); {REMEDY}") from error
        for unfinished in place.glob(f"*{UNFINISHED}*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        yield place


def _path(place: Path, epoch: int) -> Path:
    return place / f"{epoch:08d}"


def _epochs_in(place: Path) -> list[int]:
    """The epochs of all checkpoints in the directory, in any order."""
    try:
        return [int(entry.name) for entry in place.iterdir() if NAME.fullmatch(entry.name)]
    except FileNotFoundError:
        return []


def _orbax() -> Any:
    """The library, imported where it is used: it takes half a second."""
    try:
        return importlib.import_module("orbax.checkpoint")
    except ImportError as error:
        raise ImportError(
            'checkpoints need orbax, which is not installed; pip install "jaxnet[checkpoint]" brings it'
        ) from error


def _handlers() -> Any:
    ocp = _orbax()
    return ocp.CompositeCheckpointHandler(arrays=ocp.PyTreeCheckpointHandler(), record=ocp.JsonCheckpointHandler())


class _Writer:
    """Writes one checkpoint after the other, in the background."""

    def __init__(self):
        """Start Orbax's thread."""
        self._checkpointer = _orbax().AsyncCheckpointer(_handlers())
        self._path: Path | None = None  # of the one that is being written

    def begin(self, place: Path, net: MLP, settings: dict[str, Any], result: FitResult) -> Path:
        """Begin to write; the arrays are copied before this returns."""
        args = _orbax().args
        arrays, record = _content(net, settings, result)
        self._path = _path(place, int(result.loop.epoch))
        with self._saving():
            saved = args.Composite(arrays=args.PyTreeSave(arrays), record=args.JsonSave(record))
            self._checkpointer.save(self._path, args=saved, force=True)  # over one that is damaged
        return self._path

    def wait(self) -> None:
        """Wait until it is on disk."""
        with self._saving():
            self._checkpointer.wait_until_finished()

    def close(self) -> None:
        """End the thread."""
        self._checkpointer.close()

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        """Name the checkpoint that cannot be saved."""
        try:
            yield
        except Exception as error:
            raise NotSavedError(
                f"{self._path} cannot be saved ({_reason(error)}), those before it are as they were; {REMEDY}"
            ) from error


def _reason(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _settings(config: FitConfig) -> dict[str, Any]:
    """What of the settings is plain, and changes how training goes on."""
    names = "gradient precision batch_size patience monitor min_delta tol on_nonfinite".split()
    values = {name: getattr(config, name) for name in names}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}


def _content(net: MLP, settings: dict[str, Any], result: FitResult) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays by number and the record that names them."""
    leaves = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(result.loop):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        leaves[jax.tree_util.keystr(path)] = jax.random.key_data(leaf) if is_key else leaf
    leaves |= {f"history.{name}": values for name, values in result.history.items()}
    leaves = {path: np.asarray(jax.device_get(leaf)) for path, leaf in leaves.items()}
    key = result.loop.state.key
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    record = {
        "version": VERSION,
        "net": {field.name: getattr(net, field.name) for field in dataclasses.fields(net)},
        "settings": settings,
        "epoch": int(result.loop.epoch),
        "key": str(jax.random.key_impl(key)) if typed else None,
        "position": result.position,
        "leaves": [[path, str(leaf.dtype), list(leaf.shape), _digest(leaf)] for path, leaf in leaves.items()],
    }
    # Orbax takes no array without entries, and makes Python's numbers of those without axes.
    arrays = {f"{n:04d}": np.array(leaf).reshape(-1) for n, leaf in enumerate(leaves.values()) if leaf.size}
    return arrays, record | {"sha256": _digest_of_record(record)}


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _digest_of_record(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


class _BadCheckpointError(Exception):
    """What is wrong with one checkpoint."""


def _newest(place: Path, net: MLP, optimizer: Any) -> tuple[FitResult, dict[str, Any]] | None:
    """The newest checkpoint that is whole, and its record; None where there is none at all."""
    epochs = sorted(_epochs_in(place), reverse=True)
    reasons = []
    for epoch in epochs:
        path = _path(place, epoch)
        try:
            with contextlib.closing(_orbax().Checkpointer(_handlers())) as reader:
                record = _record(reader, path, epoch)
                result = _result(reader, path, record, net, optimizer)
        except _BadCheckpointError as bad:
            reasons.append(f"{path} is damaged: {bad}")
            continue
        if reasons:
            warn(
                f"{'; '.join(reasons)}; training goes on from {path}, the newest checkpoint that is whole", stacklevel=5
            )
        return result, record
    if reasons:
        raise NoCheckpointError(
            f"{place} has no checkpoint that is whole ({'; '.join(reasons)}); begin anew in another directory"
        )
    return None


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """Whatever Orbax raises of files that somebody has damaged."""
    try:
        yield
    except Exception as error:
        raise _BadCheckpointError(f"its {what} cannot be read ({_reason(error)})") from error


def _record(reader: Any, path: Path, epoch: int) -> dict[str, Any]:
    """The record, with the right digest and types, of this version."""
    args = _orbax().args
    with _reading("record"):
        record = reader.restore(path, args=args.Composite(record=args.JsonRestore()))["record"]
        digest = record.pop("sha256")
        right = digest == _digest_of_record(record)
    if not right:
        raise _BadCheckpointError("its record is not what was written")
    if record["version"] != VERSION:
        raise DamagedFileError(
            f"{path} is of version {record['version']} of the format; this jaxnet reads version {VERSION}: update"
            " jaxnet"
        )
    kinds = {"net": dict, "settings": dict, "epoch": int, "leaves": list}
    if not all(isinstance(record.get(name), kind) for name, kind in kinds.items()) or record["epoch"] != epoch:
        raise _BadCheckpointError(f"its record is not one of epoch {epoch}")
    if record.get("key") not in (None, *KEYS) or not isinstance(record.get("position"), str | None):
        raise _BadCheckpointError("its record has an unknown kind of key, or of position")
    return record


def _result(reader: Any, path: Path, record: dict[str, Any], net: MLP, optimizer: Any) -> FitResult:
    """The training, with the right digest of every leaf; ValueError where it is of another network or optimizer."""
    fields = json.loads(json.dumps({field.name: getattr(net, field.name) for field in dataclasses.fields(net)}))
    for name, value in fields.items():
        if record["net"].get(name) != value:
            raise ValueError(
                f"{path} is of another network: net.{name} is {record['net'].get(name)} there; expected {value}: give"
                " that network, or another directory"
            )
    stored = {leaf[0]: (leaf[1], tuple(leaf[2]), leaf[3]) for leaf in record["leaves"]}
    loop = _expected_loop(record, stored, net, optimizer)
    shapes_of = {jax.tree_util.keystr(p): (str(s.dtype), s.shape) for p, s in jax.tree_util.tree_leaves_with_path(loop)}
    shapes_of |= {
        name: (dtype, (record["epoch"],))
        for name, (dtype, *_) in stored.items()
        if name.removeprefix("history.") in MEASURED and name.startswith("history.")
    }
    for name in [*shapes_of, *(name for name in stored if name not in shapes_of)]:
        has, wants = (
            leaves.get(name) and f"{leaves[name][0]}{list(leaves[name][1])}" for leaves in (stored, shapes_of)
        )
        if has != wants:
            raise ValueError(
                f"{path} is of another network or optimizer: {name} is {has or 'missing'} there; expected"
                f" {wants or 'nothing'}: give those of the training, or another directory"
            )
    leaves = _arrays(reader, path, stored)
    values = [leaves[jax.tree_util.keystr(p)] for p, _ in jax.tree_util.tree_leaves_with_path(loop)]
    loop = jax.tree.unflatten(jax.tree.structure(loop), [jnp.asarray(value) for value in values])
    if record["key"] is not None:
        key = jax.random.wrap_key_data(loop.state.key, impl=record["key"])
        loop = loop._replace(state=loop.state._replace(key=key))
    history = {name.removeprefix("history."): leaves[name] for name in stored if name.startswith("history.")}
    return result_of(loop, history, record["position"])


def _expected_loop(record: dict[str, Any], stored: dict[str, Any], net: MLP, optimizer: Any) -> Any:
    """The shapes of the LoopState of this network and optimizer, in the params' dtype, with its key as bits."""
    first = ".state.params[0].W"
    dtype = stored.get(first, ("float32",))[0]
    if dtype not in ("float32", "float64"):
        raise ValueError(f"{first} is {dtype}; expected float32 or float64")
    if jax.dtypes.canonicalize_dtype(dtype) != np.dtype(dtype):
        raise ValueError(
            "the checkpoint was trained in float64, but 64-bit is off in JAX; go on under jax.enable_x64(True)"
        )
    bits = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=record["key"])))
    params = shapes(net, np.dtype(dtype))
    tracks_best = any(name.startswith(".best_params") for name in stored)

    def loop(params, key):
        return loop_start(TrainState(params, optimizer.init(params), jnp.int32(0), key), tracks_best)

    return jax.eval_shape(loop, params, bits)


def _arrays(reader: Any, path: Path, stored: dict[str, Any]) -> dict[str, np.ndarray]:
    """The leaves by path, with the right digests; shapes are compared before anything is allocated."""
    ocp, args = _orbax(), _orbax().args
    numbers = {name: f"{n:04d}" for n, name in enumerate(stored) if 0 not in stored[name][1]}
    with _reading("arrays"):
        found = {n: (str(np.dtype(m.dtype)), m.shape) for n, m in reader.metadata(path).item_metadata["arrays"].items()}
    wanted = {number: (stored[name][0], (int(np.prod(stored[name][1])),)) for name, number in numbers.items()}
    if found != wanted:
        raise _BadCheckpointError("its arrays are not those of its record")
    with _reading("arrays"):
        how = {number: ocp.RestoreArgs(restore_type=np.ndarray) for number in numbers.values()}
        read = reader.restore(path, args=args.Composite(arrays=args.PyTreeRestore(how, restore_args=how)))["arrays"]
    leaves = {}
    for name, (dtype, shape, digest) in stored.items():
        array = read[numbers[name]] if name in numbers else np.zeros(shape, dtype)
        if str(array.dtype) != dtype or array.size != np.prod(shape) or _digest(array) != digest:
            raise _BadCheckpointError(f"the values of {name} are not those that were written")
        leaves[name] = array.reshape(shape)
    return leaves
