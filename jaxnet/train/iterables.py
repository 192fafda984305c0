"""A stream of an iterable that the caller gives: a list, a generator, a loader.

Where an iterable can tell how far it has been read, that is the stream's position, and a resumed training reads on from
there: iterators with get_state and set_state, such as Grain's, and iterables with state_dict and load_state_dict, such
as torchdata's.
"""

import contextlib
import copy
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Array, PRNGKeyArray

from jaxnet._arguments import type_name
from jaxnet.mlp import MLP
from jaxnet.train import inputs
from jaxnet.train.streams import Columns, DtypeFor
from jaxnet.train.warnings import warn

END = object()
ANEW = "what can be read anew: a list, a loader, or a class with __iter__"


def require_batches(batches: Any, argument: str = "X") -> None:
    """Refuse what is not an iterable of batches, such as an array, a frame or a mapping."""
    is_data = isinstance(batches, str | bytes | dict | set) or hasattr(batches, "shape") or hasattr(batches, "dtype")
    if batches is None or is_data or not isinstance(batches, Iterable):
        given, expected = f"X is {type_name(batches)} without Y", "Y beside it, or in its place"
        if argument != "X":
            given, expected = f"{argument} is {type_name(batches)}", "a tuple (X, Y) or (X, Y, weights), or"
        raise TypeError(f"{given}; expected {expected} an iterable of batches (X, Y) or (X, Y, weights)")


class IteratedBatches:
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
