"""Make calls and print a table of their outcomes: one line a function, one column a class.

A seed and an index are one call, whatever was called before it.
"""

import argparse
import sys
from collections import Counter

from tests.fuzz.outcomes import CLASSES
from tests.fuzz.process import run

ENOUGH = 0.97  # of all calls RIGHT or OURS


class Tally:
    """Outcomes, counted by function and class."""

    def __init__(self):
        """Nothing is counted yet."""
        self.of: dict[str, Counter] = {}

    def add(self, outcome) -> int:
        """Count one more; how many of its function and class there are now."""
        count = self.of.setdefault(outcome.function, Counter())
        count[outcome.name] += 1
        return count[outcome.name]

    @property
    def all(self) -> Counter:
        """The outcomes of all functions."""
        return sum(self.of.values(), Counter())

    @property
    def good(self) -> float:
        """The share of calls that were RIGHT or OURS."""
        return (self.all["RIGHT"] + self.all["OURS"]) / max(1, self.all.total())

    @property
    def passes(self) -> bool:
        """Whether no call was answered wrongly or by a bare error, and nearly all by the reference or by our words."""
        return not self.all["SILENT"] and not self.all["BARE"] and self.good >= ENOUGH

    def table(self) -> str:
        """One line a function, one column a class."""
        row = lambda name, cells: f"{name:24}" + "".join(f"{cell:>9}" for cell in cells)
        lines = [row("function", ("calls", *CLASSES))]
        for function, count in [*sorted(self.of.items()), ("all", self.all)]:
            lines.append(row(function, (count.total(), *(count[name] for name in CLASSES))))
        return "\n".join([*lines, f"{100 * self.good:.1f} % RIGHT or OURS"])


def line(seed: int, index: int, text: str, outcome) -> str:
    """A call and its outcome in words; the first half makes the call again."""
    return f"{outcome.name} {outcome.function} --seed {seed} --only {index}: {text}\n    {outcome.text}"


def main() -> int:
    """Exit with 1 where the calls do not pass."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="INDEX", help="make this one call")
    parser.add_argument("--examples", type=int, default=3, help="to print of each function and class")
    options = parser.parse_args()
    one, tally = options.only is not None, Tally()
    for index, text, outcome in run(options.seed, [options.only] if one else range(options.calls)):
        count = tally.add(outcome)
        if one or (outcome.name not in ("RIGHT", "OURS") and count <= options.examples):
            print(line(options.seed, index, text, outcome), flush=True)
    if not one:
        print(tally.table())
    return int(not tally.passes)


if __name__ == "__main__":
    sys.exit(main())
