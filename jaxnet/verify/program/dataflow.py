"""What depends on what: read from the program, not from names.

Followed are values that are a parameter, written otherwise (transposed, broadcast, cast), and products of a matrix
with something. That tells for each matrix which of its axes is summed over, what it is multiplied with, and which
parameter is added to the result along its units: the bias.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

import numpy as np

from jaxnet.verify.program import jaxprs
from jaxnet.verify.program.dtypes import dtype_of, is_float
from jaxnet.verify.program.jaxprs import ClosedJaxpr, Literal
from jaxnet.verify.program.primitives import CONTROL, treatment


@dataclass(frozen=True)
class Product:
    """A matrix W times something that depends on the parameters `fed`; the parameter b is added to it (or None).

    columns   W is (n, n_prev) and W A is formed, examples as columns; otherwise W is (n_prev, n). A W of one axis is
              that of a single unit, (n_prev,)
    """

    W: int
    b: int | None
    columns: bool
    fed: frozenset[int]

    @property
    def leaves(self) -> tuple[int, ...]:
        """W and b, as far as present."""
        return (self.W,) if self.b is None else (self.W, self.b)

    def matrix(self, W) -> Any:
        """W, or an array of its shape, as (n, n_prev)."""
        return W[None, :] if W.ndim == 1 else W if self.columns else W.T


@dataclass(frozen=True)
class Flow:
    """What becomes of the first inputs of a program.

    used      the inputs that the output depends on, not counting what passes a stop_gradient
    products  what the inputs that are matrices are multiplied with
    unclear   inputs that are multiplied or added in a way that is not read here (in a loop, over two axes)

    W[2] @ tanh(W[1] @ X + b[1]):   W[1] has the bias b[1] and is fed nothing, W[2] has none and is fed {W[1], b[1]}
    """

    used: frozenset[int]
    products: tuple[Product, ...]
    unclear: frozenset[int]


@dataclass(frozen=True)
class _Value:
    """The parameters that a value depends on and, if it is one of them rearranged (`leaf`) or the product of one
    (`product`, a number), what its axes are: for a leaf the leaf's own, for a product 0 at the units. None: others."""

    depends: frozenset[int] = frozenset()
    leaf: int | None = None
    product: int | None = None
    axes: tuple[int | None, ...] = ()


def flow_of(closed: ClosedJaxpr, count: int) -> Flow:
    """Follows the first `count` inputs."""
    products: list[Product] = []
    unclear: set[int] = set()
    shapes = [v.aval.shape for v in closed.jaxpr.invars[:count]]

    def walk(jaxpr, inputs, wanted):
        values = dict.fromkeys(jaxpr.constvars, _Value())
        values.update(zip(jaxpr.invars, inputs, strict=True))
        of = lambda atom: _Value() if isinstance(atom, Literal) else values[atom]
        for equation, needed in _live(jaxpr, wanted):
            into, inside = [of(atom) for atom in equation.invars], _inside(equation)
            if inside is not None and len(inside.jaxpr.invars) == len(into):
                outs = walk(inside.jaxpr, into, needed)
            else:
                outs = [step(equation, into)] * len(equation.outvars)
            values.update(zip(equation.outvars, outs, strict=True))
        return [of(atom) if need else _Value() for atom, need in zip(jaxpr.outvars, wanted, strict=True)]

    def step(equation, into) -> _Value:
        name, mixture = equation.primitive.name, _Value(frozenset().union(*(v.depends for v in into)))
        if name == "stop_gradient":
            return _Value()
        if name == "dot_general":
            return multiplied(equation, into) or mixture
        if name in ("add", "add_any"):
            for Z, b in (into, into[::-1]):
                biased(Z, b)
        elif treatment(equation).structure in (*CONTROL, "shard_map"):
            unclear.update(v.leaf for v in into if v.leaf is not None)
        elif into and (into[0].leaf is not None or into[0].product is not None):
            axes = _rearranged(equation, into[0].axes)
            return mixture if axes is None else replace(into[0], axes=axes)
        return mixture

    def multiplied(equation, into) -> _Value | None:
        contracted, batched = jaxprs.multiplied_axes(equation)
        out = None
        for side, (W, other) in enumerate((into, into[::-1])):
            if W.leaf is None:
                continue
            whole = len(shapes[W.leaf]) in (1, 2) and sorted(W.axes, key=str) == [*range(len(shapes[W.leaf]))]
            if batched[side] or len(contracted[side]) != 1 or not whole:
                unclear.add(W.leaf)
                continue
            columns = W.axes[contracted[side][0]] == 1
            products.append(Product(W.leaf, None, columns, other.depends))
            rank = len(equation.outvars[0].aval.shape)
            units = None if len(W.axes) == 1 else rank - 1 if side else 0
            axes = tuple(0 if k == units else None for k in range(rank))
            out = _Value(W.depends | other.depends, product=len(products) - 1, axes=axes)
        return out if into[0].leaf is None or into[1].leaf is None else None

    def biased(Z: _Value, b: _Value):
        if b.leaf is None:
            return
        if Z.product is not None:
            found, shape = products[Z.product], shapes[b.leaf]
            n = found.matrix(np.empty(shapes[found.W], bool)).shape[0]
            along = [Z.axes[place] for place, axis in enumerate(b.axes) if axis is not None and shape[axis] > 1]
            if found.b is None and prod(shape) == n and along == [0] * (n > 1):
                products[Z.product] = replace(found, b=b.leaf)
                return
        unclear.add(b.leaf)

    first = [
        _Value(frozenset({i}), leaf=i, axes=tuple(range(len(shapes[i])))) if i < count else _Value()
        for i in range(len(closed.jaxpr.invars))
    ]
    outs = walk(closed.jaxpr, first, [True] * len(closed.jaxpr.outvars))
    return Flow(frozenset().union(*(v.depends for v in outs)), tuple(products), frozenset(unclear))


def cast_to_integers(jaxpr) -> list[bool]:
    """Of the constants, then of the inputs of a program: whether they are made integers as they are, or rearranged."""
    cast = set()
    for equation in reversed(jaxpr.eqns):
        inside = _inside(equation)
        if inside is not None and len(inside.jaxpr.invars) == len(equation.invars):
            flags = cast_to_integers(inside.jaxpr)[len(inside.consts) :]
            labels = [v for v, flag in zip(equation.invars, flags, strict=True) if flag]
        else:
            kind = treatment(equation)
            moved = (kind.moves or kind.in_place) and not cast.isdisjoint(equation.outvars)
            labels = equation.invars[:1] if moved or _is_cast_to_integers(equation) else []
        cast.update(v for v in labels if not isinstance(v, Literal))
    return [v in cast for v in jaxprs.variables(jaxpr)]


def _is_cast_to_integers(equation) -> bool:
    return equation.primitive.name == "convert_element_type" and np.dtype(jaxprs.cast_dtype(equation)).kind in "iub"


def _rearranged(equation, axes) -> tuple[int | None, ...] | None:
    """What the axes of a value are after an equation that only writes it otherwise; None for any other equation."""
    name = equation.primitive.name
    if treatment(equation).in_place:
        return axes
    if name == "transpose":
        return tuple(axes[k] for k in jaxprs.permutation_of(equation))
    old, new = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    if name == "broadcast_in_dim":
        places = dict(zip(jaxprs.broadcast_axes(equation), axes, strict=True))
        return tuple(places.get(k) for k in range(len(new)))
    if name in ("reshape", "squeeze"):  # an axis stays one if as much lies before it and along it
        places = {(prod(old[:k]), old[k]): axis for k, axis in enumerate(axes) if axis is not None}
        return tuple(places.get((prod(new[:k]), new[k])) for k in range(len(new)))
    return None


def dependent(closed: ClosedJaxpr, count: int) -> list[bool]:
    """Which outputs of a program depend on any of its first `count` inputs, as far as its own equations tell."""
    moving = set(closed.jaxpr.invars[:count])
    of = lambda atom: not isinstance(atom, Literal) and atom in moving
    for equation in closed.jaxpr.eqns:
        if any(map(of, equation.invars)):
            moving.update(equation.outvars)
    return list(map(of, closed.jaxpr.outvars))


IN_A_ROW = 8  # choices, each by a comparison of what the one before has chosen: a search has more, most networks fewer


def searches(closed: ClosedJaxpr) -> bool:
    """Whether numbers are chosen by comparing what was chosen by comparing, on and on: by bisection, say.

    The derivative of each step of a search is that of what it chooses among, and not of what is found.
    """
    return max((row.length for row in _rows(closed.jaxpr, [_Row()] * len(closed.jaxpr.invars))), default=0) >= IN_A_ROW


class _Row(NamedTuple):
    """How many choices in a row a value is behind, and whether it tells of a comparison."""

    length: int = 0
    compared: bool = False


def _rows(jaxpr, inputs: list[_Row]) -> list[_Row]:
    """The rows that the outputs are behind. A loop that makes a choice makes any number of them."""
    rows = dict.fromkeys(jaxpr.constvars, _Row()) | dict(zip(jaxpr.invars, inputs, strict=True))
    of = lambda atom: _Row() if isinstance(atom, Literal) else rows[atom]
    for equation in jaxpr.eqns:
        into, inside = list(map(of, equation.invars)), _inside(equation)
        if inside is not None and len(inside.jaxpr.invars) == len(into):
            rows.update(zip(equation.outvars, _rows(inside.jaxpr, into), strict=True))
            continue
        length, compared = max((row.length for row in into), default=0), any(row.compared for row in into)
        if equation.primitive.name in ("select_n", "cond") and into[0].compared:
            length = max(length, into[0].length + 1)
        elif treatment(equation).structure in CONTROL:
            bodies = (jaxprs.closed(program).jaxpr for program in jaxprs.programs_within(equation))
            made = (row.length for body in bodies for row in _rows(body, [_Row()] * len(body.invars)))
            length += IN_A_ROW * any(made)
        compared = compared or (treatment(equation).decides and any(is_float(dtype_of(v)) for v in equation.invars))
        rows.update(dict.fromkeys(equation.outvars, _Row(length, compared)))
    return list(map(of, jaxpr.outvars))


def _live(jaxpr, wanted: list[bool]) -> list[tuple[Any, list[bool]]]:
    """The equations that the wanted outputs depend on, in order, each with which of its outputs are needed."""
    alive = {v for v, w in zip(jaxpr.outvars, wanted, strict=True) if w and not isinstance(v, Literal)}
    kept = []
    for equation in reversed(jaxpr.eqns):
        needed = [v in alive for v in equation.outvars]
        if any(needed):
            kept.append((equation, needed))
            alive.update(v for v in equation.invars if not isinstance(v, Literal))
    return kept[::-1]


def _inside(equation) -> ClosedJaxpr | None:
    """The program that an equation calls with its own inputs."""
    if jaxprs.is_custom_rule(equation):
        return jaxprs.primal_of(equation)
    return jaxprs.called_program(equation) if treatment(equation).structure in ("call", "remat") else None
