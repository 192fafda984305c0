"""What depends on what: read from the program, not from names."""

from dataclasses import dataclass
from typing import Any

from jax.extend.core import ClosedJaxpr, Literal

from jaxnet.verify.strip import is_custom_rule, primal_of

INLINED = frozenset({"jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint"})
# What leaves an array the same parameter, written otherwise.
SAME = frozenset({"transpose", "reshape", "squeeze", "broadcast_in_dim", "convert_element_type", "copy", "copy_p"})


@dataclass(frozen=True)
class Flow:
    """What becomes of the first inputs of a program.

    used    the inputs that the output depends on
    fed     for each input, those that what it is multiplied with depends on; None if it is unknown

    W[2] @ tanh(W[1] @ X + b[1]):   fed[W[1]] is empty, fed[W[2]] is {W[1], b[1]}, fed[b[1]] is None
    """

    used: frozenset[int]
    fed: tuple[frozenset[int] | None, ...]


def flow_of(closed: ClosedJaxpr, count: int) -> Flow:
    """Follows the first `count` inputs."""
    fed: list[frozenset[int] | None] = [None] * count
    hidden: set[int] = set()  # multiplied inside of a loop or branch, where this reading does not go

    def walk(jaxpr, inputs, wanted):
        """`inputs` are pairs: the parameters that a value depends on, and which one it is (None: a mixture)."""
        values = {v: (frozenset(), None) for v in jaxpr.constvars}
        values.update(zip(jaxpr.invars, inputs, strict=True))
        of = lambda atom: (frozenset(), None) if isinstance(atom, Literal) else values.get(atom)  # noqa: E731
        for equation, needed in _live(jaxpr, wanted):
            name, into = equation.primitive.name, [of(atom) for atom in equation.invars]
            inside = _inside(equation)
            if inside is not None and len(inside.jaxpr.invars) == len(into):
                outs = walk(inside.jaxpr, into, needed)
            else:
                mixture = frozenset().union(*(depends for depends, _ in into))
                outs = [(mixture, into[0][1] if name in SAME else None)] * len(equation.outvars)
                if name == "dot_general":
                    for (_, itself), (depends, _) in (into[:2], into[1::-1]):
                        if itself is not None:
                            fed[itself] = (fed[itself] or frozenset()) | depends
                elif name in ("scan", "while", "cond", "shard_map"):
                    hidden.update(itself for _, itself in into if itself is not None)
            values.update(zip(equation.outvars, outs, strict=True))
        return [of(atom) for atom in jaxpr.outvars]

    first = [(frozenset({i}), i) if i < count else (frozenset(), None) for i in range(len(closed.jaxpr.invars))]
    outs = walk(closed.jaxpr, first, [True] * len(closed.jaxpr.outvars))
    used = frozenset().union(*(depends for depends, _ in outs))
    return Flow(used, tuple(None if i in hidden else f for i, f in enumerate(fed)))


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
    if is_custom_rule(equation):
        return primal_of(equation)
    if equation.primitive.name not in INLINED:
        return None
    inside = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    return inside if isinstance(inside, ClosedJaxpr) else ClosedJaxpr(inside, ())
