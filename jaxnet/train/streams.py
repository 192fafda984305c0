"""Batches that are read while the network trains: an iterable of the caller's, or arrays that are mapped from a file.

A stream holds one batch, or one window of a file, whatever its length, and checks it as it comes. Where an iterable can
tell how far it has been read, that is the stream's position, and a resumed training reads on from there: iterators with
get_state and set_state, such as Grain's, and iterables with state_dict and load_state_dict, such as torchdata's.

Legend: X (n_x, m), Y (n_y, m), weights (m,): examples as columns, m of them in a batch.
"""

import contextlib
import copy
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from jaxnet import checks
from jaxnet._arguments import type_name
from jaxnet._xla.permutation import random_permutation
from jaxnet.mlp import MLP
from jaxnet.train import inputs
from jaxnet.train.warnings import warn

Columns = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # X, Y, weights

SMALL_FILE = 256 * 2**20  # bytes; what is mapped and not larger is read as any array, for its epochs are one program
WINDOW = 64 * 2**20  # bytes of a file that are in memory at once, in the dtype of training, and shuffled
END = object()
ANEW = "what can be read anew: a list, a loader, or a class with __iter__"
DtypeFor = Callable[[Any], np.dtype]


@runtime_checkable
class Stream(Protocol):
    """A source of batches.

    position: where it stands between two epochs, as text; None where it cannot tell.
    """

    position: str | None

    def begin(self, position: str | None, epochs: int, dtype_for: DtypeFor, undoes: bool = False) -> Columns:
        """Go to where an earlier stream stood, and read the first of so many epochs' batches, which is still to come.

        All are cast to the dtype for its X. undoes: whether epochs may be undone; ValueError where they cannot be.
        """
        ...

    def epoch(self, key: PRNGKeyArray | Array) -> Iterator[Columns]:
        """The batches of the next epoch; its order is the key's to say, where it is not the iterable's."""
        ...

    def undo(self) -> None:
        """Go back to where the last epoch began."""
        ...


def stream(
    net: MLP,
    X: Any,
    Y: Any,
    weights: Any,
    batch_size: Any,
    steps_per_epoch: int | None,
    part: tuple[int, int] = (0, 1),
    is_part: bool = False,
) -> Stream | None:
    """Return a stream where X is an iterable of batches or mapped from a large file; None where X is data in memory.

    part: which of how many parts of each batch this process has to give; an iterable gives that by itself. is_part:
    whether X has this process's examples alone, of which mini-batches are then drawn.
    """
    checks.mlp(net)
    if Y is None:
        _require_batches(X)
        auto = isinstance(batch_size, str) and batch_size == "auto"
        for name, is_given in (("weights", weights is not None), ("batch_size", not auto)):
            if is_given:
                raise ValueError(f"{name} is given beside batches, which bring their own; leave out {name}")
        return Batches(net, X, inputs.steps_per_epoch(steps_per_epoch))
    if steps_per_epoch is not None:
        raise ValueError(
            f"steps_per_epoch is {steps_per_epoch!r} with X and Y, of which an epoch takes all; leave it out, or give"
            " batches: fit(net, batches, steps_per_epoch=...)"
        )
    if is_part and batch_size is not None:
        return Mapped(net, X, Y, weights, _of_one_part(batch_size, X.shape[1], part[1]), is_part=True)
    if is_mapped(X) and batch_size is not None:
        return Mapped(net, X, Y, weights, batch_size, part=part)
    return None


def _of_one_part(batch_size: Any, m: int, parts: int) -> int:
    """The examples of a batch that each process gives."""
    if isinstance(batch_size, str) and batch_size == "auto":
        return max(1, min(inputs.AUTO, m * parts) // parts)
    size = inputs.batch_size(batch_size, m * parts)
    assert size is not None
    if size % parts:
        raise ValueError(
            f"batch_size is {size}, which {parts} processes do not share alike; give a multiple of {parts}"
        )
    return min(size // parts, m)


def validation_stream(net: MLP, validation: Any, part: tuple[int, int] = (0, 1)) -> Stream | None:
    """Return a stream where the validation data are an iterable of batches, or mapped; None for (X, Y) in memory."""
    if not isinstance(validation, tuple):
        _require_batches(validation, "validation")
        if isinstance(validation, Iterator):
            raise TypeError(
                f"validation is {type_name(validation)}, which is read to the end once; expected (X, Y), or batches for"
                f" each epoch anew: give {ANEW}"
            )
        return Batches(net, validation, None, "validation ")
    if len(validation) in (2, 3) and is_mapped(validation[0]):
        X, Y = validation[:2]
        weights = validation[2] if len(validation) == 3 else None
        return Mapped(net, X, Y, weights, "auto", "validation ", part)
    return None


def is_mapped(X: Any) -> bool:
    """Whether X is mapped from a file of a size that is better not read at once."""
    return isinstance(X, np.memmap) and X.filename is not None and X.nbytes > SMALL_FILE


def _require_batches(batches: Any, argument: str = "X") -> None:
    """Refuse what is not an iterable of batches, such as an array, a frame or a mapping."""
    is_data = isinstance(batches, str | bytes | dict | set) or hasattr(batches, "shape") or hasattr(batches, "dtype")
    if batches is None or is_data or not isinstance(batches, Iterable):
        given, expected = f"X is {type_name(batches)} without Y", "Y beside it, or in its place"
        if argument != "X":
            given, expected = f"{argument} is {type_name(batches)}", "a tuple (X, Y) or (X, Y, weights), or"
        raise TypeError(f"{given}; expected {expected} an iterable of batches (X, Y) or (X, Y, weights)")


class Batches:
    """An iterable of (X, Y) or (X, Y, weights); an epoch is a number of them, or a pass."""

    def __init__(self, net: MLP, batches: Iterable, steps_per_epoch: int | None, of: str = ""):
        """Read nothing yet."""
        self._net, self._batches, self._steps_per_epoch, self._of = net, batches, steps_per_epoch, of
        self._iterator: Any = None
        self._ahead: list[Columns] = []
        self._number = 0  # of batches read
        self._of_pass = 0  # of those that this pass has given
        self._warned, self._undoes = False, False
        self._back: Callable[[], None] = lambda: None  # to where the epoch began
        self.position: str | None = None

    def begin(self, position: str | None, epochs: int, dtype_for: DtypeFor, undoes: bool = False) -> Columns:
        """Read the first batch."""
        once = isinstance(self._batches, Iterator) and self._steps_per_epoch is None
        if once and epochs > 1:
            raise ValueError(
                f"batches is {type_name(self._batches)}, which is read to the end once, and there are {epochs} epochs"
                f" to come; give steps_per_epoch, epochs=1, or {ANEW}"
            )
        if epochs < 1:  # a training that is done reads nothing
            self.position = position
            self._dtype = dtype_for(np.zeros((self._net.sizes[0], 1), np.float32))
            return np.zeros((self._net.sizes[0], 1), self._dtype), np.zeros((self._net.sizes[-1], 1), self._dtype), None
        if undoes and isinstance(self._batches, Iterator) and not self._tells():
            raise ValueError(
                f"on_nonfinite is 'rollback' but batches is {type_name(self._batches)}, of which an epoch cannot be"
                f" read again; give {ANEW}, an iterator with get_state and set_state, or on_nonfinite='skip'"
            )
        if position is not None:
            self._seek(position)
        self._undoes = undoes
        self._note_the_way_back()
        first = self._next()
        if first is END and position is not None:  # it stood at the end of a pass
            first = self._next()
        if first is END:
            raise ValueError(f"{self._of}batches is empty; expected an iterable of batches (X, Y) or (X, Y, weights)")
        self._dtype = dtype_for(first[0])
        self._ahead.append(first)
        return self._checked(first, 0)

    def epoch(self, key: PRNGKeyArray | Array) -> Iterator[Columns]:
        """The next batches, in the iterable's own order."""
        if not self._ahead:
            self._note_the_way_back()
        steps = 0
        while steps != self._steps_per_epoch:
            opens = self._iterator is None
            batch = self._next()
            if batch is not END:
                steps += 1
                self._number += 1
                yield self._checked(batch, self._number - 1)
            elif self._steps_per_epoch is None and steps:
                break
            elif opens:
                raise ValueError(
                    f"{self._of}batches ended after {self._number} of them, {steps} in this epoch; expected more: give"
                    f" fewer epochs, fewer steps_per_epoch, or {ANEW}"
                )
        self.position = self._told()

    def _next(self) -> Any:
        """The next batch; `END` at the end of a pass, after which the next one begins."""
        if self._ahead:
            return self._ahead.pop()
        if self._iterator is None:
            self._iterator = iter(self._batches)
        batch = next(self._iterator, END)
        if batch is END:
            self._iterator, self._of_pass = None, 0
            return END
        self._of_pass += 1
        return inputs.parts_of_a_batch(batch, f"{self._of}batch {self._number} ")

    def undo(self) -> None:
        """Go back to where the last epoch began."""
        self._back()

    def _note_the_way_back(self) -> None:
        """Note how to come back to this place, where epochs may be undone.

        That is by a state that the iterable tells; else its pass is read anew, up to here.
        """
        if not self._undoes:
            return
        tells, number, of_pass, position = self._tells(), self._number, self._of_pass, self.position
        state = copy.deepcopy(self._teller()()) if tells else None

        def back() -> None:
            self._ahead, self._iterator, self._of_pass = [], None, 0
            self._number, self.position = number, position
            if tells:
                self._set(state)
            else:
                for _ in range(of_pass):
                    self._next()

        self._back = back

    def _tells(self) -> bool:
        """Whether the iterable tells where it stands, and can be set there."""
        own = hasattr(self._batches, "state_dict")
        sets = getattr(self._batches, "load_state_dict", None) if own else getattr(self._reader(), "set_state", None)
        return callable(self._teller()) and callable(sets)

    def _teller(self) -> Any:
        """What tells where the iterable stands."""
        return getattr(self._batches, "state_dict", None) or getattr(self._reader(), "get_state", None)

    def _reader(self) -> Any:
        """The iterator of this pass; before it begins what is one already, or None."""
        return self._batches if self._iterator is None and isinstance(self._batches, Iterator) else self._iterator

    def _checked(self, batch: Any, number: int) -> Columns:
        return inputs.batch(self._net, batch, self._dtype, f"{self._of}batch {number} ")

    def _seek(self, position: str) -> None:
        """Go to a position that an iterable of this kind has told."""
        self.position = position
        try:
            saved = json.loads(position)
            state = saved["state"].encode() if saved["bytes"] else saved["state"]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"resume.position is {position!r}; expected what an earlier fit returned there") from error
        if not self._set(state):
            raise ValueError(
                f"{self._of}batches is {type_name(self._batches)}, which cannot be set to where those of the earlier"
                " fit stood; resume with an iterable of that kind, or with resume._replace(position=None) to begin"
                " with its next batch"
            )

    def _set(self, state: Any) -> bool:
        """Set the iterable to a state that it has told; False where it cannot be."""
        restore = getattr(self._batches, "load_state_dict", None)
        if not callable(restore):
            self._iterator = iter(self._batches)
            restore = getattr(self._iterator, "set_state", None)
        if callable(restore):
            restore(state)
        return callable(restore)

    def _told(self) -> str | None:
        """Where the iterable stands, as text."""
        tell = self._teller()
        if tell is None:
            return None
        state = tell()
        is_bytes = isinstance(state, bytes)
        with contextlib.suppress(TypeError, ValueError):  # of what JSON, or UTF-8, cannot hold
            text = json.dumps({"state": state.decode() if is_bytes else state, "bytes": is_bytes})
            if is_bytes or json.loads(text)["state"] == state:
                return text
        if not self._warned:
            self._warned = True
            warn(
                f"{self._of}batches tell a position that JSON cannot hold, {str(state)[:100]}: a resumed training would"
                " begin with whatever they then give; let it hold plain numbers, texts, lists and names"
            )
        return None


class Mapped:
    """Arrays of which X is mapped from a file, in mini-batches.

    An epoch takes all examples, in windows of the file: the windows come in a random order, and the examples of one are
    shuffled. So the file is read in long runs, and what is in memory does not grow with it; a file that is sorted, by
    class or by time, should be shuffled once when it is written.
    """

    position: str | None = None  # the key tells the order of each epoch

    def __init__(
        self,
        net: MLP,
        X: np.ndarray,
        Y: Any,
        weights: Any,
        batch_size: Any,
        of: str = "",
        part=(0, 1),
        is_part: bool = False,
    ):
        """Look at shapes alone; part: which of how many parts of each batch to give; is_part: of X there are others."""
        self._part, self._parts = part
        checks.columns(f"{of}X", X, net.sizes[0], "n_x")
        self._net, self._of, self._X = net, of, X
        self._Y = Y if isinstance(Y, np.ndarray) else np.asarray(Y)
        if weights is not None:
            check = partial(inputs.batch_weights, dtype=np.dtype(np.float64)) if is_part else inputs.example_weights
            weights = check(f"{of}weights", weights)
        self._weights = weights
        checks.target_shapes(net, X, self._Y, self._weights, of)
        self._batch_size = inputs.batch_size(batch_size, X.shape[1]) or X.shape[1]

    def begin(self, position: str | None, epochs: int, dtype_for: DtypeFor, undoes: bool = False) -> Columns:
        """The first examples of the file; the key tells the order of each epoch, and no position does."""
        self._dtype = dtype_for(self._X)
        sizes = (max(array.itemsize, self._dtype.itemsize) * array.shape[0] for array in (self._X, self._Y))
        self._window = max(1, WINDOW // sum(sizes) // self._batch_size) * self._batch_size
        X, Y, weights = self._read(0, self._batch_size)
        return X.T, Y.T, weights

    def epoch(self, key: PRNGKeyArray | Array) -> Iterator[Columns]:
        """All examples, in an order that the key tells."""
        m = self._X.shape[1]
        keys = jax.random.split(key, 2)
        for window in np.asarray(_permutation(keys[0], -(-m // self._window))).tolist():
            start, stop = window * self._window, min((window + 1) * self._window, m)
            X, Y, weights = self._read(start, stop)
            order = np.asarray(_permutation(jax.random.fold_in(keys[1], window), stop - start))
            for first in range(0, stop - start, self._batch_size):
                chosen = np.array_split(order[first : first + self._batch_size], self._parts)[self._part]
                yield X[chosen].T, Y[chosen].T, None if weights is None else weights[chosen]

    def undo(self) -> None:
        """Nothing: the state before the epoch has its key."""

    def _read(self, start: int, stop: int) -> Columns:
        """Examples of the file, checked, as rows: of which a batch is gathered faster."""
        part = slice(start, stop)
        of = f"{self._of}columns {start} to {stop - 1} of "
        X, Y = (np.ascontiguousarray(array[:, part].T) for array in (self._X, self._Y))
        X, Y, _ = inputs.examples(self._net, X.T, Y.T, None, self._dtype, of)
        return X.T, Y.T, None if self._weights is None else self._weights[part].astype(self._dtype)


_permutation = jax.jit(random_permutation, static_argnums=1)
