"""Which branches of a gradient did the inputs take?

A check at a point cannot see a bug whose branch that point never takes. For every `where`, `cond` and comparison-driven
selection in the gradient as written, in loops and branches as well, this says when one side was never chosen.

The gradient is read once with one more array, which goes through every program and every turn of every loop:

    seen[k]  whether alternative k was ever chosen, of all alternatives of all selections
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify.program import jaxprs
from jaxnet.verify.program.interpreter import number_of
from jaxnet.verify.program.jaxprs import ClosedJaxpr, Literal
from jaxnet.verify.program.primitives import treatment
from jaxnet.verify.program.rules import equations, is_declared_selection, place_of

WRITTEN_AS_CALLS = frozenset({"_where", "where", "select"})  # jnp.where is a jitted select: the line is the caller's


def branches_not_taken(problem, manual) -> list[str]:
    """One line for each branch of the manual gradient that the inputs never take; empty if it cannot be traced."""
    trace = manual.trace()
    if trace is None:
        return []
    slots: dict[tuple[str, int], int] = {}  # of each alternative at each place
    unseen = jnp.zeros(sum(map(_alternatives, equations(trace))), np.int32)
    inputs = [*problem.own(problem.params.values), *problem.given.values]
    seen = np.asarray(jax.jit(lambda *inputs: _function(trace, slots)(unseen, *inputs)[0])(*inputs))
    lines = []
    for place in dict.fromkeys(place for place, _ in slots):
        chosen = [bool(seen[slot]) for (where, _), slot in slots.items() if where == place]
        if not all(chosen):
            side = ("false", "true")[chosen.index(False)] if len(chosen) == 2 else f"number {chosen.index(False)}"
            what = f"never {side}" if any(chosen) else "never reached"
            lines.append(f"the branch at {place} was {what} on these inputs; a bug in it cannot be seen")
    return lines


def _alternatives(equation) -> int:
    """How many alternatives an equation selects among; 0 if it selects nothing, or nothing that the user wrote."""
    if equation.primitive.name == "select_n" and np.prod(equation.invars[0].aval.shape):
        return len(equation.invars) - 1
    return jaxprs.branch_count(equation) if equation.primitive.name == "cond" else 0


def _function(program: ClosedJaxpr, slots: dict, call=None):
    """The function that a program denotes, with what was seen before as first input and after it as first output.

    call   the call that the user wrote, if the program is the inside of one
    """

    def run(seen, *args):
        jaxpr = program.jaxpr
        values = dict(zip(jaxprs.variables(jaxpr), [*program.consts, *args], strict=True))
        value = lambda atom: number_of(atom) if isinstance(atom, Literal) else values[atom]
        for equation in jaxpr.eqns:
            inputs = list(map(value, equation.invars))
            if _alternatives(equation) and is_declared_selection(call or equation):
                seen = _marked(seen, slots, place_of(call or equation), inputs[0], _alternatives(equation))
            with jaxprs.in_context_of(equation):
                seen, *outs = _step(equation, inputs, slots, seen)
            values.update(zip(equation.outvars, outs, strict=True))
        return [seen, *map(value, jaxpr.outvars)]

    return run


def _step(equation, inputs, slots, seen) -> list:
    """What was seen after one equation, and its outputs."""
    if jaxprs.is_custom_rule(equation):
        return _function(jaxprs.primal_of(equation), slots)(seen, *inputs)
    structure = treatment(equation).structure
    if not structure:
        return [seen, *jaxprs.bind(equation, inputs, equation.params)]
    call = equation if jaxprs.called_name(equation) in WRITTEN_AS_CALLS else None
    return list(jaxprs.STRUCTURES[structure](equation, inputs, lambda program: _function(program, slots, call), [seen]))


def _marked(seen, slots, place, which, count):
    """What was seen, and the alternatives that are chosen here."""
    chosen = jnp.clip(which.astype(np.int32), 0, count - 1)
    at = [slots.setdefault((place, k), len(slots)) for k in range(count)]
    return seen.at[np.array(at)].max(jnp.stack([jnp.any(chosen == k) for k in range(count)]).astype(np.int32))
