"""What moves between devices: read from a compiled program, and what the hand-written pair of passes has to move.

Bytes are what a device sends when g of them pass b bytes around in a ring:

    all-reduce 2 b (g - 1)/g      all-gather b (g - 1)/g, b gathered      reduce-scatter b (g - 1), b what is left
"""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
WIDTHS = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}


class Collective(NamedTuple):
    """One collective of a compiled program: the bytes of its result, and how many devices take part in each group."""

    kind: str
    bytes: int
    group: int

    @property
    def ring(self) -> float:
        """The bytes that a device sends."""
        b, g = self.bytes, self.group
        if self.kind == "all-reduce":
            return 2 * b * (g - 1) / g
        if self.kind == "reduce-scatter":
            return b * (g - 1)
        return b * (g - 1) / g if self.kind in ("all-gather", "all-to-all") else b


def collectives(compiled: Any, devices: int) -> list[Collective]:
    """The collectives of a program that was compiled for so many devices, in the order of its text."""
    return collectives_of_text(compiled.as_text(), devices)


def collectives_of_text(text: str, devices: int) -> list[Collective]:
    """The same of the text of its HLO: one that is asynchronous counts where it starts, and not where it is done.

    A collective within a computation that an async-start calls stands there as one that is not asynchronous.
    """
    found = re.finditer(rf'= ([^%"\n]*?) ({"|".join(KINDS)})(-start)?\((.*)', text)
    results = ((m[2], _result(m[1], m[2]) if m[3] else m[1], m[4]) for m in found)
    return [Collective(kind, _bytes(shapes), group_size(rest, devices)) for kind, shapes, rest in results]


def _result(shapes: str, kind: str) -> str:
    """What is there in the end, of the shapes of a start: (what is given, what results, states of the run).

    An all-reduce of XLA's older form has what results alone.
    """
    if not shapes.startswith("("):
        return shapes
    parts, depth = [""], 0
    for character in shapes[1:-1]:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    given, *others = map(str.strip, parts)
    return shapes if kind == "all-reduce" and not given.startswith("(") else others[0]


def _bytes(shapes: str) -> int:
    parts = re.findall(r"(\w+)\[([\d,]*)\]", shapes)
    return sum(WIDTHS[kind] * math.prod(int(n) for n in shape.split(",") if n) for kind, shape in parts)


def group_size(operation: str, devices: int) -> int:
    """How many devices are in a group of replica_groups, in any of the forms that XLA writes."""
    if m := re.search(r"replica_groups=\[(\d+),(\d+)\]", operation):  # groups, devices of each
        return int(m[2])
    if m := re.search(r"replica_groups=\{\{([\d,]*)\}", operation):  # the first of them
        return len(m[1].split(","))
    if m := re.search(r"replica_groups=mesh\[([^\]]*)\](?:, ?device_ids=\(.*?\)+)? ?\{([^}]*)\}", operation):
        sizes = {name: int(n) for name, n in re.findall(r"'([^']+)'=(\d+)", m[1])}
        return math.prod(sizes[name] for name in re.findall(r"'([^']+)'", m[2]))
    if "replica_groups={}" in operation or "replica_groups" not in operation:
        return devices
    raise ValueError(f"replica_groups of a form that is not known: {operation[:200]}")


def ideal(net: Any, specs: Any, mesh: Any, m: int, itemsize: int) -> Iterator[Collective]:
    """What value_and_grad has to move, but for the cost: m examples, split over the axis "data"."""
    return (collective for _, collective in ideal_by_axis(net, specs, mesh, m, itemsize))


def ideal_by_axis(net: Any, specs: Any, mesh: Any, m: int, itemsize: int) -> Iterator[tuple[str, Collective]]:
    """The same, each with the axis of the mesh along which it moves.

    See jaxnet/_xla/split.py: an axis of W that splits the batch too is gathered in each pass (in the first layer not in
    the backward one, which needs no dX) and scattered after it; one that does not is summed over.
    """
    sizes = dict(mesh.shape)
    count = lambda axes: math.prod(sizes[axis] for axis in axes)
    axes_of = lambda entry: () if entry is None else (entry,)
    along = lambda axis, kind, size: (axis, Collective(kind, size, sizes[axis]))
    for l, (W, b) in enumerate(specs, start=1):
        n, n_prev = net.sizes[l], net.sizes[l - 1]
        rows, columns = (axes_of(entry) for entry in W)
        local = n * n_prev * itemsize // count([*rows, *columns])
        examples = m // sizes["data"]
        if "data" in (*rows, *columns):
            gathers = 1 if l == 1 else 2
            yield from [along("data", "all-gather", local * sizes["data"])] * gathers
            yield along("data", "reduce-scatter", local)
        elif sizes["data"] > 1:
            yield along("data", "all-reduce", local)
        if sizes["data"] > 1:
            yield along("data", "all-reduce", n * itemsize // count(axes_of(b[0])))
        if "model" in columns:  # Z is a sum over the units before
            yield along("model", "all-reduce", n * examples * itemsize)
        if "model" in rows and l > 1:  # and dA_prev one over these
            yield along("model", "all-reduce", n_prev * examples * itemsize)
