"""What `fit` is given to train and to validate on: checked on the host, placed, and made the source of its epochs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from jaxnet import checks
from jaxnet._arguments import type_name
from jaxnet.mlp import MLP
from jaxnet.parallel import placing
from jaxnet.parallel.processes import Team
from jaxnet.train import inputs
from jaxnet.train.batches import Data, Place
from jaxnet.train.config import FitConfig
from jaxnet.train.in_memory import InMemory, full_batch
from jaxnet.train.inputs import HostData
from jaxnet.train.iterables import ANEW, IteratedBatches, require_batches
from jaxnet.train.result import FitResult
from jaxnet.train.state import digest_of
from jaxnet.train.streamed import Streamed
from jaxnet.train.streams import DtypeFor, Stream
from jaxnet.train.windows import Windows, is_mapped


class Examples(NamedTuple):
    """All that `fit` is given to train on and to validate on, checked.

    host: the arrays; where X is a stream its first batch.
    stream, validation_stream: what is read while the network trains; None of what is held in memory.
    is_part, validation_is_part: whether the arrays are those of one process, and others have theirs.
    """

    host: HostData
    stream: Stream | None
    validation_stream: Stream | None
    is_part: bool
    validation_is_part: bool

    @classmethod
    def checked(
        cls,
        net: MLP,
        X: Any,
        Y: Any,
        weights: Any,
        validation: Any,
        dtype_for: DtypeFor,
        *,
        batch_size: Any,
        steps_per_epoch: int | None,
        epochs: int,
        earlier: FitResult | None,
        mesh: Mesh | None,
        undoes: bool,
    ) -> Examples:
        """Check all values in memory, and the first batch of a stream, which goes on where the earlier fit's stood.

        undoes: whether epochs may be undone.
        """
        is_part = placing.spans_processes(X)
        if is_part:
            X, Y, weights = inputs.own_parts(X, Y, weights)
        validation_is_part = isinstance(validation, tuple) and any(map(placing.spans_processes, validation))
        if validation_is_part:
            validation = inputs.own_parts(*(*validation, None)[:3])
        part = placing.part(mesh)
        stream = _stream(net, X, Y, weights, batch_size, steps_per_epoch, part, is_part)
        if stream is None:
            goes_on = earlier is not None
            host = inputs.dataset(net, X, Y, weights, validation, dtype_for(X), is_part, validation_is_part, goes_on)
            return cls(host, None, None, is_part, validation_is_part)
        validation_stream = None if validation is None else _validation_stream(net, validation, part)
        done, position = (0, None) if earlier is None else (int(earlier.loop.epoch), earlier.position)
        host = HostData(*stream.begin(position, epochs - done, dtype_for, undoes), None)
        if validation_stream is not None:
            validation_stream.begin(None, 1, lambda X: host.X.dtype)
        elif validation is not None:
            checked = inputs.validation_examples(net, validation, host.X.dtype, validation_is_part)
            host = host._replace(validation=checked)
        return cls(host, stream, validation_stream, is_part, validation_is_part)

    def in_words(self) -> dict[str, str]:
        """What has to be the same in all processes, by its name; of arrays that each has whole their digests."""
        X, Y, weights, validation = self.host
        words = {"the dtype of X": str(X.dtype)}
        if self.is_part or isinstance(self.stream, IteratedBatches):
            words |= dict.fromkeys(("the shape of X", "X", "Y", "weights"), "its own")
        else:
            whole = self.stream.shape if isinstance(self.stream, Windows) else X.shape
            words |= {"the shape of X": str(whole), "X": _digest(X), "Y": _digest(Y), "weights": _digest(weights)}
        return words | {"validation": "its own" if self.validation_is_part else _digest(validation)}

    def source(self, config: FitConfig, place: Place, team: Team, one_by_one: bool) -> InMemory | Streamed:
        """The epochs over these examples, which are sent to the device where they are held in memory.

        one_by_one: whether callbacks are called after each epoch.
        """
        X, Y, weights, validation = self.host
        if validation is None:
            validation_data = None
        elif self.validation_is_part:
            validation_data = full_batch(*validation, config.mesh, place, team, is_part=True)
        else:
            validation_data = Data.by_columns(*validation, place)
        if self.stream is not None:
            jax.block_until_ready(validation_data)
            return Streamed(config, self.stream, self.validation_stream or validation_data, place, team)
        if config.batch_size is None:
            data = full_batch(X, Y, weights, config.mesh, place, team, self.is_part)
        else:
            data = Data.by_rows(X, Y, weights, place)
        jax.block_until_ready((data, validation_data))
        return InMemory(config, data, validation_data, one_by_one, team)


def _digest(arrays: Any) -> str:
    return f"of digest {digest_of(arrays)}"


def _stream(
    net: MLP,
    X: Any,
    Y: Any,
    weights: Any,
    batch_size: Any,
    steps_per_epoch: int | None,
    part: tuple[int, int],
    is_part: bool,
) -> Stream | None:
    """Return a stream where X is an iterable of batches or mapped from a large file; None where X is data in memory.

    part: which of how many parts of each batch this process has to give; an iterable gives that by itself. is_part:
    whether X has this process's examples alone, of which mini-batches are then drawn.
    """
    checks.mlp(net)
    if Y is None:
        require_batches(X)
        auto = isinstance(batch_size, str) and batch_size == "auto"
        for name, is_given in (("weights", weights is not None), ("batch_size", not auto)):
            if is_given:
                raise ValueError(f"{name} is given beside batches, which bring their own; leave out {name}")
        return IteratedBatches(net, X, inputs.steps_per_epoch(steps_per_epoch))
    if steps_per_epoch is not None:
        raise ValueError(
            f"steps_per_epoch is {steps_per_epoch!r} with X and Y, of which an epoch takes all; leave it out, or give"
            " batches: fit(net, batches, steps_per_epoch=...)"
        )
    if is_part and batch_size is not None:
        return Windows(net, X, Y, weights, _of_one_part(batch_size, X.shape[1], part[1]), is_part=True)
    if is_mapped(X) and batch_size is not None:
        return Windows(net, X, Y, weights, batch_size, part=part)
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


def _validation_stream(net: MLP, validation: Any, part: tuple[int, int]) -> Stream | None:
    """Return a stream where the validation data are an iterable of batches, or mapped; None for (X, Y) in memory."""
    if not isinstance(validation, tuple):
        require_batches(validation, "validation")
        if isinstance(validation, Iterator):
            raise TypeError(
                f"validation is {type_name(validation)}, which is read to the end once; expected (X, Y), or batches for"
                f" each epoch anew: give {ANEW}"
            )
        return IteratedBatches(net, validation, None, "validation ")
    if len(validation) in (2, 3) and is_mapped(validation[0]):
        X, Y = validation[:2]
        weights = validation[2] if len(validation) == 3 else None
        return Windows(net, X, Y, weights, "auto", "validation ", part)
    return None
