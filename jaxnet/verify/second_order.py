"""The derivative of a gradient, by the machinery of the first order (order=2).

    ⟨∇J(x), v⟩   the slope of the loss along a fixed random v, by forward mode and without the user's rules
    ⟨g(x), v⟩    the same through the gradient under test, or through the rule

If g is right these are one function of x. So the first is a loss, and the derivative of the second, by autodiff through
the user's own code, is a gradient of it that the pipeline judges like any other; its leaves are called "x, order 2". To
the x of a rule belongs its cotangent, which depends on x where the rule stands inside of a larger function.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.verify import errors
from jaxnet.verify.errors import UnreadableError, call_user
from jaxnet.verify.journal import first_line
from jaxnet.verify.options import Options, accuracies, excluded
from jaxnet.verify.pipeline import run
from jaxnet.verify.problem.gradient import Manual
from jaxnet.verify.problem.loss import Problem, direction
from jaxnet.verify.problem.rule import inner
from jaxnet.verify.problem.trees import called, wide
from jaxnet.verify.program.jaxprs import function_of
from jaxnet.verify.program.rules import readable
from jaxnet.verify.report import Report

ORDER = "order 2"
VERDICTS = ("FAIL", "INCONCLUSIVE", "PASS")  # the first of two is that of both
FLAT = "zero, as it is all around the point"
CONSTANT = "What stands behind stop_gradient, or was made a number, is constant to autodiff."


@dataclass(frozen=True, eq=False)
class FirstOrder:
    """A gradient g of a loss J whose derivative is in question. All its leaves and fixed arrays stand in a row.

    what        what a reader calls g
    cotangents  how many of the fixed arrays, the last ones, vary too: those of a rule
    meant       (values, given): the leaves that g should have, where that is not ∇J
    """

    problem: Problem
    grad_fn: Callable
    options: Options
    seed: int
    what: str = "gradient"
    cotangents: int = 0
    meant: Callable | None = None

    @cached_property
    def frozen(self) -> list[bool]:
        """The leaves that are not judged: their gradient may be anything, so its derivative may."""
        return excluded(self.options.trainable, self.problem.params)

    @cached_property
    def varied(self) -> list[int]:
        """The places of what varies in the row."""
        count = len(self.frozen) + len(self.problem.given.values)
        return [*np.flatnonzero(~np.array(self.frozen)).tolist(), *range(count - self.cotangents, count)]

    @cached_property
    def v(self) -> list[np.ndarray]:
        """A step in each leaf, none in the frozen ones."""
        rng, problem = np.random.default_rng([self.seed, 2]), self.problem
        steps = [direction(rng, wide(x)) for x in problem.params.values]
        leaves = zip(steps, problem.own_dtypes, self.frozen, strict=True)
        return [np.asarray(step * (not frozen), dtype) for step, dtype, frozen in leaves]

    def slope(self, *row):
        """⟨∇J, v⟩."""
        values, given = row[: len(self.v)], row[len(self.v) :]
        if self.meant is not None:
            return self._along(self.meant(values, given))
        loss = function_of(readable(jax.make_jaxpr(self.problem.scalar)(values, given)))
        return jax.jvp(lambda *x: loss(*x, *given)[0], values, tuple(map(jnp.asarray, self.v)))[1]

    def derivative(self, *row):
        """The derivative of ⟨g, v⟩, a tuple with a leaf for each that varies."""
        gradient = Manual(self.problem, self.grad_fn)

        def slope(varying):
            there = dict(enumerate(row)) | dict(zip(self.varied, varying, strict=True))
            leaves = list(there.values())
            return self._along(gradient.leaves(leaves[: len(self.v)], leaves[len(self.v) :]))

        return tuple(call_user(jax.grad(slope), [row[k] for k in self.varied]))

    def _along(self, gradient):
        leaves = zip(self.v, gradient, self.frozen, strict=True)
        pairs = [(v, jnp.asarray(g)) for v, g, frozen in leaves if g is not None and not frozen]
        return inner([v for v, _ in pairs], [g for _, g in pairs])

    def second(self) -> Problem:
        """The slope as a loss, at the same point. Raises where it is not to be had."""
        first, k = self.problem, self.cotangents
        if self.meant is None and first.valued_only:
            raise UnreadableError("its inside is hidden: pass reference=, the same function in plain jax.numpy")
        names = [*first.params.names, *first.given.names]
        its = "cotangent" if not any(name.startswith("cotangent") for name in names) else "the cotangent"
        names[len(names) - k :] = [its] if k == 1 else [f"{its}[{i}]" for i in range(k)]
        row = [*first.own(first.params.values), *first.given.values]
        names = [f"{called(name)}, {ORDER}" for name in names]
        return Problem.of(self.slope, row[0], row[1:], self.varied, False, names, "the slope").traced()

    def judged(self, second: Problem) -> Report:
        """The report on the derivative. Its code is compiled whole, so that jit tells nothing more."""
        variants = [variant for variant in self.options.variants if variant != "jit"]
        accuracy = max(accuracies(self.options.accuracy, self.problem.params)) or None
        asked = {"variants": variants, "accuracy": accuracy, "expected_zero": _flat(second, self.seed) or None}
        report, _ = run(second, jax.jit(self.derivative), self.seed, replace(self.options, trainable=None, **asked))
        flat = {
            leaf.path: replace(leaf, note=FLAT if leaf.verdict == "PASS" else leaf.note, expected_zero=False)
            for leaf in report.leaves.values()
            if leaf.expected_zero
        }
        return replace(report, leaves={**report.leaves, **flat})


def _flat(problem: Problem, seed: int) -> list[str]:
    """The leaves whose derivative is exactly zero, here and at another point: of a linear function, or a relu."""
    rng, here = np.random.default_rng([seed, 3]), [wide(x) for x in problem.params.values]
    try:
        there = problem.double([x + direction(rng, x) / 2 for x in here])[1]
        leaves = zip(problem.params.names, problem.double(here)[1], there, strict=True)
        return [name for name, *gradients in leaves if not np.any(gradients)]
    except Exception as error:  # what cannot be reversed, which the check will tell
        errors.note(problem.journal, error, "where the second order is zero")
        return []


def with_second_order(report: Report, first: FirstOrder) -> Report:
    """The report with what is found of the second order; one that fails at the first is left as it is."""
    if report.verdict == "FAIL":
        return replace(report, notes=(*report.notes, f"{ORDER} was not asked: the first order is wrong"))
    refused = f"{first.problem.function} cannot be differentiated twice"
    try:
        second = first.second()
        refused = f"the {first.what} under test cannot be differentiated"
        found = first.judged(second)
    except Exception as error:  # whatever has no derivative
        crash = errors.mistake(error, ORDER)
        why = str(error) if isinstance(error, UnreadableError) else first_line(error)
        cause = f"{ORDER.capitalize()} was not judged: {crash or f'{refused} ({why})'}."
        return _with(report, Report("INCONCLUSIVE", {}, cause, notes=(crash,) if crash else ()))
    if found.verdict != "FAIL":
        return _with(report, found)
    said = (
        f"At the first order the {first.what} is {'right' if report.passed else 'open'}, its own derivative is wrong."
    )
    failed = [leaf for leaf in found.leaves.values() if leaf.verdict == "FAIL"]
    hint = CONSTANT if any(leaf.manual == 0 and leaf.relative_error == 1 for leaf in failed) else None
    return _with(report, replace(found, cause=" ".join(filter(None, [said, found.cause, hint]))))


def _with(report: Report, found: Report) -> Report:
    """Both reports in one."""
    return replace(
        report,
        verdict=min(report.verdict, found.verdict, key=VERDICTS.index),
        leaves={**report.leaves, **found.leaves},
        cause=" ".join(filter(None, [report.cause, found.cause])) or None,
        witnesses=(*report.witnesses, *(replace(w, name=f"{w.name}, {ORDER}") for w in found.witnesses)),
        notes=(*report.notes, *(f"{ORDER}: {note}" for note in found.notes if note not in report.notes)),
    )
