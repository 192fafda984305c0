"""Batches that are read while the network trains: an iterable of the caller's, or arrays that are mapped from a file.

A stream holds one batch, or one window of a file, whatever its length, and checks it as it comes. Where an iterable can
tell how far it has been read, that is the stream's position, and a resumed training reads on from there: iterators with
get_state and set_state, such as Grain's, and iterables with state_dict and load_state_dict, such as torchdata's.

Legend: X (n_x, m), Y (n_y, m), weights (m,): examples as columns, m of them in a batch.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from jaxnet import checks
from jaxnet._arguments import type_name
from jaxnet._xla.permutation import random_permutation
from jaxnet.mlp import MLP
from jaxnet.train import inputs

Columns = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # X, Y, weights

SMALL_FILE = 256 * 2**20  # bytes; what is mapped and not larger is read as any array, for its epochs are one program
WINDOW = 64 * 2**20  # bytes of a file that are in memory at once, and shuffled
END = object()
ANEW = "what can be read anew: a list, a loader, or a class with __iter__"
DtypeFor = Callable[[Any], np.dtype]


@runtime_checkable
class Stream(Protocol):
    """A source of batches.

    position: where it stands between two epochs, as text; None where it cannot tell.
    """

    position: str | None

    def begin(self, position: str | None, epochs: int, dtype_for: DtypeFor) -> Columns:
        """Go to where an earlier stream stood, and read the first of so many epochs' batches, which is still to come.

        All are cast to the dtype for its X.
        """
        ...

    def epoch(self, key: PRNGKeyArray | Array) -> Iterator[Columns]:
        """The batches of the next epoch; its order is the key's to say, where it is not the iterable's."""
        ...


def stream(net: MLP, X: Any, Y: Any, weights: Any, batch_size: Any, steps_per_epoch: int | None) -> Stream | None:
    """Return a stream where X is an iterable of batches or mapped from a large file; None where X is data in memory."""
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
    if is_mapped(X) and batch_size is not None:
        return Mapped(net, X, Y, weights, batch_size)
    return None


def validation_stream(net: MLP, validation: Any) -> Stream | None:
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
        return Mapped(
            net, validation[0], validation[1], validation[2] if len(validation) == 3 else None, "auto", "validation "
        )
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
        self.position: str | None = None

    def begin(self, position: str | None, epochs: int, dtype_for: DtypeFor) -> Columns:
        """Read the first batch."""
        once = isinstance(self._batches, Iterator) and self._steps_per_epoch is None
        if once and epochs > 1:
            raise ValueError(
                f"batches is {type_name(self._batches)}, which is read to the end once, and there are {epochs} epochs"
                f" to come; give steps_per_epoch, epochs=1, or {ANEW}"
            )
        if epochs < 1:  # a training that is done reads nothing
            self._dtype = dtype_for(np.zeros((self._net.sizes[0], 1), np.float32))
            return np.zeros((self._net.sizes[0], 1), self._dtype), np.zeros((self._net.sizes[-1], 1), self._dtype), None
        if position is not None:
            self._seek(position)
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
            self._iterator = None
            return END
        return inputs.parts_of_a_batch(batch, f"{self._of}batch {self._number} ")

    def _checked(self, batch: Any, number: int) -> Columns:
        return inputs.batch(self._net, batch, self._dtype, f"{self._of}batch {number} ")

    def _seek(self, position: str) -> None:
        """Go to a position that an iterable of this kind has told."""
        self.position = position
        saved = json.loads(position)
        state = saved["state"].encode() if saved["bytes"] else saved["state"]
        if callable(restore := getattr(self._batches, "load_state_dict", None)):
            restore(state)
            return
        self._iterator = iter(self._batches)
        if not callable(restore := getattr(self._iterator, "set_state", None)):
            raise ValueError(
                f"{self._of}batches is {type_name(self._batches)}, which cannot be set to where those of the earlier"
                " fit stood; resume with an iterable of that kind, or with resume._replace(position=None) to begin"
                " with its next batch"
            )
        restore(state)

    def _told(self) -> str | None:
        """Where the iterable stands, as text."""
        tell = getattr(self._batches, "state_dict", None) or getattr(self._iterator, "get_state", None)
        if tell is None:
            return None
        state = tell()
        is_bytes = isinstance(state, bytes)
        try:
            text = json.dumps({"state": state.decode() if is_bytes else state, "bytes": is_bytes})
        except (TypeError, ValueError):
            return None
        return text if is_bytes or json.loads(text)["state"] == state else None


class Mapped:
    """Arrays of which X is mapped from a file, in mini-batches.

    An epoch takes all examples, in windows of the file: the windows come in a random order, and the examples of one are
    shuffled. So the file is read in long runs, and what is in memory does not grow with it; a file that is sorted, by
    class or by time, should be shuffled once when it is written.
    """

    position: str | None = None  # the key tells the order of each epoch

    def __init__(self, net: MLP, X: np.ndarray, Y: Any, weights: Any, batch_size: Any, of: str = ""):
        """Look at shapes alone."""
        checks.columns(f"{of}X", X, net.sizes[0], "n_x")
        self._net, self._of, self._X = net, of, X
        self._Y = Y if isinstance(Y, np.ndarray) else np.asarray(Y)
        self._weights = None if weights is None else inputs.example_weights(f"{of}weights", weights)
        checks.target_shapes(net, X, self._Y, self._weights, of)
        self._batch_size = inputs.batch_size(batch_size, X.shape[1]) or X.shape[1]
        per_example = sum(array.dtype.itemsize * array.shape[0] for array in (X, self._Y))
        self._window = max(1, WINDOW // per_example // self._batch_size) * self._batch_size

    def begin(self, position: str | None, epochs: int, dtype_for: DtypeFor) -> Columns:
        """The first examples of the file; the key tells the order of each epoch, and no position does."""
        self._dtype = dtype_for(self._X)
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
                chosen = order[first : first + self._batch_size]
                yield X[chosen].T, Y[chosen].T, None if weights is None else weights[chosen]

    def _read(self, start: int, stop: int) -> Columns:
        """Examples of the file, checked, as rows: of which a batch is gathered faster."""
        part = slice(start, stop)
        of = f"{self._of}columns {start} to {stop - 1} of "
        X, Y = (np.ascontiguousarray(array[:, part].T) for array in (self._X, self._Y))
        X, Y, _ = inputs.examples(self._net, X.T, Y.T, None, self._dtype, of)
        return X.T, Y.T, None if self._weights is None else self._weights[part].astype(self._dtype)


_permutation = jax.jit(random_permutation, static_argnums=1)
