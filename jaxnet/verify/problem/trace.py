"""What a trace shows of a loss: the program that all estimators read, and what in it limits what they can tell."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax

from jaxnet.verify.program.cache import Program, program_of
from jaxnet.verify.program.jaxprs import ClosedJaxpr
from jaxnet.verify.program.rules import (
    equations,
    is_stated,
    opaque_operations,
    places_of_stops,
    readable,
    rules_left_out,
    rules_that_stay,
)


@dataclass(frozen=True, eq=False)
class Trace:
    """A loss as it was traced, once; empty of one that was not, or is no JAX function.

    closed     the program, without the user's rules
    stripped   these rules, which their primals stand in for
    opaque     operations that hide their inside
    untrusted  the user's rules that no primal can stand in for
    stops      places at which the loss's author stops gradients
    stated     whether it is the loss of a rule that is stated
    """

    closed: ClosedJaxpr | Any = None
    stripped: tuple[str, ...] = ()
    opaque: tuple[str, ...] = ()
    untrusted: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    stated: bool = False

    @cached_property
    def program(self) -> Program:
        """What is compiled of it, shared with every check of an equal loss."""
        return program_of(self.closed)


def trace_of(loss: Callable, values: list, given: list) -> Trace:
    """The trace of a function of leaves and fixed arrays. Raises what the function raises."""
    closed = jax.make_jaxpr(loss)(values, given)
    return Trace(
        readable(closed),
        tuple(rules_left_out(closed)),
        tuple(opaque_operations(closed)),
        tuple(rules_that_stay(closed)),
        tuple(places_of_stops(closed)),
        any(map(is_stated, equations(closed))),
    )
