"""What a checkpoint is on disk, and how it is written and read.

DIRECTORY/00000012/ is the training after 12 epochs. Orbax writes it, beside its place and then renamed; what is in it:

- arrays: the leaves of the `LoopState` and of the history, random keys as their bits, named by number;
- record: as JSON the version of this format, the fields of the MLP, the settings of `fit`, where a stream of batches
  stood, the kinds of the random keys, and of each leaf its path, dtype, shape and SHA-256 digest; and the digest of all
  this.

Anybody may have made or damaged a file, and nothing in it is run or imported. Paths, dtypes and shapes are compared
with what the training expects before an array is read, and the digests after it: Orbax itself loads many a flipped bit.
"""

import contextlib
import importlib
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import digests
from jaxnet.array_files import DamagedFileError
from jaxnet.atomic_files import NotSavedError
from jaxnet.initialisers import shapes
from jaxnet.mlp import MLP, described
from jaxnet.train import optimizers
from jaxnet.train.config import METRICS, FitConfig
from jaxnet.train.result import FitResult, result_of
from jaxnet.train.state import TrainState, loop_start
from jaxnet.train.warnings import warn

VERSION = 1
NAME = re.compile(r"\d{8,}")  # of a checkpoint: the number of epochs done
KEYS = ("threefry2x32", "rbg", "unsafe_rbg")  # implementations of JAX's typed keys
MEASURED = (*METRICS, "validation_cost", "validation_accuracy", "skipped", "epsilon")  # what a history may hold
LATE = 0.2  # seconds in which the other reads of a checkpoint end after the first that failed
REMEDY = "give a directory that can be made and written, with room in it"


class NoCheckpointError(DamagedFileError):
    """No checkpoint in the directory can be restored."""


def place_of(place: Path, epoch: int) -> Path:
    """Where in the directory the checkpoint of that epoch is."""
    return place / f"{epoch:08d}"


def epochs_in(place: Path) -> list[int]:
    """The epochs of all checkpoints in the directory, in any order."""
    try:
        return [int(entry.name) for entry in place.iterdir() if NAME.fullmatch(entry.name)]
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise NotADirectoryError(f"{place} is a file; expected a directory of checkpoints") from error


def orbax() -> Any:
    """The library, imported where it is used: it takes half a second."""
    try:
        return importlib.import_module("orbax.checkpoint")
    except ImportError as error:
        raise ImportError(
            'checkpoints need orbax, which is not installed; pip install "jaxnet[checkpoint]" brings it'
        ) from error


def _handlers() -> Any:
    """For a process by itself: of several, each reads alone, and one writes."""
    ocp, own = orbax(), _by_itself()
    return ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=own),
        arrays=ocp.PyTreeCheckpointHandler(multiprocessing_options=own),
        record=ocp.JsonCheckpointHandler(multiprocessing_options=own),
    )


def _by_itself() -> Any:
    index = jax.process_index()
    return orbax().options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"jaxnet{index}"
    )


class Writer:
    """Writes one checkpoint after the other, in the background.

    Orbax counts its operations for the whole process, and two saves in flight would take each other's: so the saves of
    all writers are one at a time.
    """

    _turn = threading.Lock()  # to begin a save, or to wait for one
    _in_flight: ClassVar["Writer | None"] = None  # the one whose save that is

    def __init__(self):
        """Start Orbax's thread."""
        self._checkpointer = orbax().AsyncCheckpointer(_handlers(), multiprocessing_options=_by_itself())
        self._path: Path | None = None  # of the one that is being written
        self._met: Exception | None = None  # what stood in its way

    def begin(
        self, place: Path, net: MLP, settings: dict[str, Any], result: FitResult, positions: Sequence[str | None] = ()
    ) -> Path:
        """Begin to write, after the save of another writer; the arrays are copied before this returns.

        positions: where the stream of each process stands, where there are several.
        """
        args = orbax().args
        arrays, record = _content(net, settings, result)
        record["position"] = list(positions) if len(positions) > 1 else result.position
        record["sha256"] = digests.of_record(record)
        with self._turn:
            if Writer._in_flight:
                Writer._in_flight._finish()
            self._path, Writer._in_flight = place_of(place, int(result.loop.epoch)), self
            with self._saving():
                saved = args.Composite(arrays=args.PyTreeSave(arrays), record=args.JsonSave(record))
                self._checkpointer.save(self._path, args=saved, force=True)  # over one that is damaged
        return self._path

    def wait(self) -> None:
        """Wait until it is on disk, and raise what it met."""
        with self._turn:
            if Writer._in_flight is self:
                self._finish()
        met, self._met = self._met, None
        with self._saving():
            if met:
                raise met

    def close(self) -> None:
        """End the thread."""
        with contextlib.closing(self._checkpointer):
            self.wait()

    def _finish(self) -> None:
        """Wait for the save, whoever asks, and keep what it met."""
        try:
            self._checkpointer.wait_until_finished()
        except Exception as error:
            self._met = error
        Writer._in_flight = None

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


def settings(config: FitConfig) -> dict[str, Any]:
    """What of the settings changes how training goes on: those that are plain, and digests of others."""
    names = "gradient precision batch_size patience monitor min_delta tol on_nonfinite".split()
    values = {name: getattr(config, name) for name in names}
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    plain["privacy"] = None if config.privacy is None else repr(config.privacy)
    init, update = optimizers.digest(config.optimizer, shapes(config.net, np.dtype(np.float32)))
    return plain | {"jax": jax.__version__, "optimizer_init": init, "optimizer": update}


def _content(net: MLP, settings: dict[str, Any], result: FitResult) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays by number and the record that names them."""
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(result.loop)}
    keys = {path: leaf for path, leaf in leaves.items() if optimizers.is_key(leaf)}
    leaves |= {path: jax.random.key_data(key) for path, key in keys.items()}
    leaves |= {f"history.{name}": values for name, values in result.history.items()}
    leaves = {path: np.asarray(jax.device_get(leaf)) for path, leaf in leaves.items()}
    record = {
        "version": VERSION,
        "net": described(net),
        "settings": settings,
        "epoch": int(result.loop.epoch),
        "keys": {path: str(jax.random.key_impl(key)) for path, key in keys.items()},
        "leaves": [[path, str(leaf.dtype), list(leaf.shape), digests.of_array(leaf)] for path, leaf in leaves.items()],
    }
    # Orbax takes no array without entries, and makes Python's numbers of those without axes.
    arrays = {f"{n:04d}": np.array(leaf).reshape(-1) for n, leaf in enumerate(leaves.values()) if leaf.size}
    return arrays, record


class _BadCheckpointError(Exception):
    """What is wrong with one checkpoint."""


def newest(place: Path, net: MLP, optimizer: Any) -> tuple[FitResult, dict[str, Any]] | None:
    """The newest checkpoint that is whole, and its record; None where there is none at all."""
    epochs = sorted(epochs_in(place), reverse=True)
    reasons = []
    for epoch in epochs:
        path = place_of(place, epoch)
        try:
            with contextlib.closing(orbax().Checkpointer(_handlers(), multiprocessing_options=_by_itself())) as reader:
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
    """Whatever Orbax raises of files that somebody has damaged.

    At the first array that it cannot read it closes the event loop in which it waits for the others, and each of these
    would print a traceback.
    """
    given = sys.unraisablehook
    sys.unraisablehook = lambda told: None if str(told.exc_value) == "Event loop is closed" else given(told)
    try:
        yield
    except Exception as error:
        time.sleep(LATE)
        raise _BadCheckpointError(f"its {what} cannot be read ({_reason(error)})") from error
    finally:
        sys.unraisablehook = given


def _record(reader: Any, path: Path, epoch: int) -> dict[str, Any]:
    """The record, with the right digest and types, of this version."""
    args = orbax().args
    with _reading("record"):
        record = reader.restore(path, args=args.Composite(record=args.JsonRestore()))["record"]
        digest = record.pop("sha256")
        right = digest == digests.of_record(record)
        record["sha256"] = digest
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
    if "key" in record:  # of an earlier jaxnet, which knew one key
        record["keys"] = {} if record["key"] is None else {".state.key": record["key"]}
    known = isinstance(keys := record.get("keys"), dict) and all(kind in KEYS for kind in keys.values())
    positions = record.get("position")
    told = positions if isinstance(positions, list) else [positions]
    if not known or not all(isinstance(position, str | None) for position in told):
        raise _BadCheckpointError("its record has an unknown kind of key, or of position")
    return record


def _result(reader: Any, path: Path, record: dict[str, Any], net: MLP, optimizer: Any) -> FitResult:
    """The training, with the right digest of every leaf; ValueError where it is of another network or optimizer."""
    earlier = {"l2": 0.0, "dropout": [0.0] * (len(net.sizes) - 1)}  # what an earlier jaxnet did not have
    there = earlier | record["net"]
    for name, value in described(net).items():
        if there.get(name) != value:
            raise ValueError(
                f"{path} is of another network: net.{name} is {there.get(name)} there; expected {value}: give"
                " that network, or another directory"
            )
    stored = {leaf[0]: (leaf[1], tuple(leaf[2]), leaf[3]) for leaf in record["leaves"]}
    keys = record["keys"]
    kinds = {name: _kind(dtype, shape, keys.get(name)) for name, (dtype, shape, _) in stored.items()}
    loop = _expected_loop(record, stored, net, optimizer)
    shapes_of = {jax.tree_util.keystr(p): (str(s.dtype), s.shape) for p, s in jax.tree_util.tree_leaves_with_path(loop)}
    shapes_of |= {
        name: (dtype, (record["epoch"],))
        for name, (dtype, *_) in stored.items()
        if name.removeprefix("history.") in MEASURED and name.startswith("history.")
    }
    for name in [*shapes_of, *(name for name in stored if name not in shapes_of)]:
        has, wants = (leaves.get(name) and f"{leaves[name][0]}{list(leaves[name][1])}" for leaves in (kinds, shapes_of))
        if has != wants:
            raise ValueError(
                f"{path} is of another network or optimizer: {name} is {has or 'missing'} there; expected"
                f" {wants or 'nothing'}: give those of the training, or another directory"
            )
    leaves = _arrays(reader, path, stored)
    values = {name: jnp.asarray(value) for name, value in leaves.items() if not name.startswith("history.")}
    values |= {name: jax.random.wrap_key_data(values[name], impl=kind) for name, kind in keys.items() if name in values}
    loop = jax.tree_util.tree_map_with_path(lambda path, _: values[jax.tree_util.keystr(path)], loop)
    history = {name.removeprefix("history."): leaves[name] for name in stored if name.startswith("history.")}
    position = record["position"]
    return result_of(loop, history, None if isinstance(position, list) else position)


def _kind(dtype: str, shape: tuple[int, ...], key: str | None) -> tuple[str, tuple[int, ...]]:
    """The dtype and shape of a leaf, or of the typed keys of which these are the bits."""
    if key is None:
        return dtype, shape
    one = jax.eval_shape(lambda: jax.random.key(0, impl=key))
    bits = jax.eval_shape(jax.random.key_data, one)
    fits = (dtype, shape[-1:]) == (str(bits.dtype), bits.shape)
    return (str(one.dtype), shape[:-1]) if fits else (f"{key} of {dtype}", shape)


def _expected_loop(record: dict[str, Any], stored: dict[str, Any], net: MLP, optimizer: Any) -> Any:
    """The shapes of the LoopState of this network and optimizer, in the params' dtype, with that kind of key."""
    first = ".state.params[0].W"
    dtype = stored.get(first, ("float32",))[0]
    if dtype not in ("float32", "float64"):
        raise ValueError(f"{first} is {dtype}; expected float32 or float64")
    if jax.dtypes.canonicalize_dtype(dtype) != np.dtype(dtype):
        raise ValueError(
            "the checkpoint was trained in float64, but 64-bit is off in JAX; go on under jax.enable_x64(True)"
        )
    impl = record["keys"].get(".state.key")
    key = jax.eval_shape(lambda: jax.random.key(0, impl=impl) if impl else jax.random.key_data(jax.random.key(0)))
    params = shapes(net, np.dtype(dtype))
    tracks_best = any(name.startswith(".best_params") for name in stored)

    def loop(params, key):
        return loop_start(TrainState(params, optimizer.init(params), jnp.int32(0), key), tracks_best)

    return jax.eval_shape(loop, params, key)


def _arrays(reader: Any, path: Path, stored: dict[str, Any]) -> dict[str, np.ndarray]:
    """The leaves by path, with the right digests; shapes are compared before anything is allocated."""
    ocp, args = orbax(), orbax().args
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
        if str(array.dtype) != dtype or array.size != np.prod(shape) or digests.of_array(array) != digest:
            raise _BadCheckpointError(f"the values of {name} are not those that were written")
        leaves[name] = array.reshape(shape)
    return leaves
