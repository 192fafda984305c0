"""Which branches of a gradient did the inputs take?

A check at a point cannot see a bug whose branch that point never takes. For every `where`, `cond` and comparison-driven
selection in the gradient as written, this says when one side was never chosen.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify.interpret import Reader
from jaxnet.verify.jaxprs import branch_count, called_name
from jaxnet.verify.strip import place_of

WRITTEN_AS_CALLS = frozenset({"_where", "where", "select"})


class _Branches(Reader):
    def __init__(self):
        super().__init__()
        self.places, self.taken, self.place = [], [], ""

    def inner(self, parameter):
        return parameter

    def step(self, equation, inputs):
        name, before = equation.primitive.name, self.place
        place = place_of(equation) or before
        if name in {"select_n", "cond"} and inputs[0].size and place:
            which = inputs[0].astype(np.int32)
            count = len(inputs) - 1 if name == "select_n" else branch_count(equation)
            self.places.append(place)
            self.taken.append((jnp.min(which), jnp.max(which), count))
        if name in {"jit", "pjit"}:
            # jnp.where is a jitted select: the line is the caller's. Selections in JAX's softmax are nobody's branch.
            self.place = place if called_name(equation) in WRITTEN_AS_CALLS else ""
        try:
            return super().step(equation, inputs)
        finally:
            self.place = before


def branches_not_taken(problem, manual) -> list[str]:
    """One line for each branch of the manual gradient that the inputs never take; empty if it cannot be traced."""
    trace = manual.trace()
    if trace is None:
        return []
    places: list[str] = []

    def run(inputs):
        reader = _Branches()
        reader.function(trace)(*inputs)
        places[:] = reader.places
        return reader.taken

    inputs = [*problem.own(problem.params.values), *problem.given.values]
    found: dict[str, set] = {}
    for place, (low, high, count) in zip(places, jax.jit(run)(inputs), strict=False):
        found.setdefault(place, set()).update(range(int(low), int(high) + 1))
        found[place].add(("of", int(count)))
    lines = []
    for place, seen in found.items():
        count = max(s[1] for s in seen if isinstance(s, tuple))
        missing = [i for i in range(count) if i not in seen]
        if missing:
            what = (
                {0: "false", 1: "true"}.get(missing[0], f"number {missing[0]}")
                if count == 2
                else f"number {missing[0]}"
            )
            lines.append(f"the branch at {place} was never {what} on these inputs; a bug in it cannot be seen")
    return lines
