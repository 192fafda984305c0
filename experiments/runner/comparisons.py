"""Clauses that compare a number with its limit, so that a report can say by how much a claim holds.

Of several numbers the one nearest to the limit counts, and a NaN among them makes the clause false.
"""

import operator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

RELATIONS = {"<": operator.lt, "≤": operator.le, ">": operator.gt, "≥": operator.ge}


class Comparison(NamedTuple):
    """A measured number, its relation to the limit, and the limit; true where the relation holds."""

    measured: float
    relation: str
    limit: float

    def __bool__(self) -> bool:
        """Whether the relation holds."""
        return RELATIONS[self.relation](self.measured, self.limit)


def below(measured: ArrayLike, limit: float) -> Comparison:
    """Every number is smaller than the limit."""
    return Comparison(float(np.max(measured)), "<", float(limit))


def at_most(measured: ArrayLike, limit: float) -> Comparison:
    """No number is larger than the limit."""
    return Comparison(float(np.max(measured)), "≤", float(limit))


def above(measured: ArrayLike, limit: float) -> Comparison:
    """Every number is larger than the limit."""
    return Comparison(float(np.min(measured)), ">", float(limit))


def at_least(measured: ArrayLike, limit: float) -> Comparison:
    """No number is smaller than the limit."""
    return Comparison(float(np.min(measured)), "≥", float(limit))
