"""What is written of numbers, of names and of many."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Shown(NamedTuple):
    """So many of a kind are shown all; of more, the first and the last."""

    most: int
    first: int
    last: int

    def of(self, n: int) -> list[int | None]:
        """The numbers, from 0, of those of n that are shown; None stands for those that are not."""
        if n <= self.most:
            return list(range(n))
        return [*range(self.first), None, *range(n - self.last, n)]


def form_of(numbers: np.ndarray) -> str:
    """How to write them: three decimals, or where those would tell little or take much room a power of ten."""
    largest = np.abs(numbers[np.isfinite(numbers)]).max(initial=0)
    return "+.3f" if largest == 0 or 0.01 <= largest < 100 else "+.1e"


def short(name: str, most: int = 12) -> str:
    """A name, cut where it is long."""
    return name if len(name) <= most else f"{name[: most - 1]}…"
