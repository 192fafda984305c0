"""Why is it wrong? Causes, each named only when a test of its own confirms it: no cause is better than a wrong one.

First what a leaf shows by itself (shape, NaN, zero, a factor, transposed, swapped, few entries, a regulariser, lost
precision), then, for layered parameters, where in the backward pass the error starts (chain.py).
"""

from functools import cached_property

import numpy as np

from jaxnet.verify.batch import Batch, candidates, find_batch, restricted
from jaxnet.verify.chain import explain
from jaxnet.verify.layers import Dense, find_layers, start_of_error
from jaxnet.verify.noise import largest, norm
from jaxnet.verify.rounding import OwnRounding
from jaxnet.verify.strip import operations
from jaxnet.verify.tree import called, wide
from jaxnet.verify.trouble import tolerated

FEW = 8  # so many wrong entries can be listed
COARSE = 1e-2  # above this relative tolerance a relation between entries proves nothing
SWEPT = 16  # single examples that are tried one by one


def diagnose(problem, manual, findings, rng) -> tuple[str | None, str | None]:
    """The cause in a sentence or two and where the error starts; None where nothing could be confirmed.

    Also writes each leaf's own cause into its finding.
    """
    return Diagnosis(problem, manual, findings, rng).run()


class Diagnosis:
    """The evidence: the findings, and whatever has to be run again, run once and only if asked for."""

    def __init__(self, problem, manual, findings, rng):
        """Nothing is run yet."""
        self.problem, self.manual, self.findings, self.rng = problem, manual, findings, rng
        shapes = [np.shape(v) for v in problem.params.values]
        self.layers: list[Dense] | None = find_layers(problem.params.names, shapes) if problem.layered else None

    # ---- evidence ----------------------------------------------------------------------------------------------------
    @cached_property
    def batch(self) -> Batch | None:
        """The examples among the arguments."""
        return find_batch(self.problem) if self.problem.trace is not None else None

    @cached_property
    def second(self) -> tuple[int, list, list] | None:
        """Another batch size, with the manual and the true gradient there."""
        if self.batch is None:
            return None
        m = self.batch.half_m
        with tolerated(self.problem, "the diagnosis"):  # a gradient that insists on its batch size
            return m, self._manual_at(self.batch.take(np.arange(m))), self.batch.half.double()[1]
        return None

    @cached_property
    def moved(self) -> tuple[list, list] | None:
        """The manual and the true gradient at other parameters."""
        with tolerated(self.problem, "the diagnosis"):
            values = [wide(v) * (1 + 0.1 * self.rng.uniform(-1, 1, np.shape(v))) for v in self.problem.params.values]
            values = [np.asarray(v, d) for v, d in zip(values, self.problem.own_dtypes, strict=True)]
            return [_wide(x) for x in self.manual.eager(values).leaves], self.problem.double(values)[1]
        return None

    def example(self, k: int) -> tuple[list, list]:
        """Manual and true gradient of example k alone."""
        given = self.batch.take([k])
        return self._manual_at(given), self.batch.single.double(given=given)[1]

    def _manual_at(self, given):
        return [_wide(x) for x in self.manual.eager(given=given).leaves]

    @cached_property
    def exact(self) -> list | None:
        """The manual gradient as written, in float64."""
        with tolerated(self.problem, "the diagnosis"):
            own = OwnRounding(self.problem, self.manual, 0)
            return own.exact() if own.traceable else None
        return None

    # ---- conclusions -------------------------------------------------------------------------------------------------
    def run(self):
        """Leaf by leaf, then together."""
        wrong = [i for i, f in enumerate(self.findings) if f.wrong]
        told = self.told_already(wrong)
        if told is not None:
            return told, None
        together = self.one_factor(wrong)
        if together is None:
            for i in wrong:
                if self.findings[i].cause is None:
                    self.findings[i].cause = self.leaf(i)
            swapped = self.reversed_order(wrong)
            if swapped is not None:
                return swapped, None
        return self.story(wrong, together)

    def told_already(self, wrong) -> str | None:
        """One cause that the run itself has shown for all wrong leaves (a variant, a second call)."""
        causes = {self.findings[i].cause for i in wrong}
        if len(causes) == 1 and None not in causes:
            return f"{next(iter(causes))}."
        kinds = {c.split(" by ")[0].split(":")[0].split(" differs")[0] for c in causes if c}
        return f"{next(iter(causes))}." if len(kinds) == 1 and None not in causes else None

    def story(self, wrong, together):
        """The sentence of cause, the start, and which leaves inherit."""
        named = {i: self.findings[i].cause for i in wrong if self.findings[i].cause}
        if self.layers is None:
            if together:
                return together, None
            lines = [f"{called(self.findings[i].path)}: {text}." for i, text in named.items()]
            return " ".join(lines) or None, None
        starts = start_of_error(self.layers, set(wrong))
        if not starts:
            return together, None
        if together:
            return together, f"{starts[0][0]}[{starts[0][1]}]"
        sentences, first = [], None
        for kind, number, leaves in starts:
            where = f"{kind}[{number}]"
            first = first or where
            if not all(self.findings[i].comparable for i in leaves):
                sentences += [f"{self._name(i)}: {named[i]}." for i in leaves if i in named]
                continue
            told = {named.get(i) for i in leaves}
            if kind == "dZ" and None not in told and len({_kind(t) for t in told}) > 1:
                # Two leaves of one layer, two different faults: not one dZ.
                sentences += [f"{self._name(i)}: {named[i]}." for i in leaves]
                continue
            if None not in told:
                sentences.append(
                    self._start(kind, number, wrong)
                    + " "
                    + _joined(f"{self._name(i)}: {named[i]}" for i in leaves)
                    + "."
                )
                continue
            for i in leaves:  # half a name for one dZ is no name
                if kind == "dZ":
                    self.findings[i].cause = None
            ratio = self._explained(kind, number)
            sentences.append(f"{self._start(kind, number, wrong)} {ratio or ''}".strip())
        if starts[-1][0] == "dZ":
            below = {i for layer in self.layers[: starts[-1][1] - 1] for i in layer.leaves if i in wrong}
            for i in below:
                self.findings[i].cause = None
                self.findings[i].note = f"inherits the error of dZ[{starts[-1][1]}]"
        return " ".join(sentences) or None, first

    def _start(self, kind, number, wrong) -> str:
        """The error starts at ...; above is right; below follows."""
        layer = self.layers[number - 1]
        above = (
            f" dZ[{number + 1}] is right;"
            if number < len(self.layers) and not set(self.layers[number].leaves) & set(wrong)
            else ""
        )
        if kind == "dZ":
            follows = [f"dW[{number}]", f"db[{number}]"]
            below = [n for n in range(1, number) if set(self.layers[n - 1].leaves) & set(wrong)]
            rest = (
                f" and the layer{'s' if len(below) > 1 else ''} below ({', '.join(map(str, below))})" if below else ""
            )
            return f"The error starts at dZ[{number}];{above} {' and '.join(follows)}{rest} follow from it."
        if kind == "dW":
            right = f"; db[{number}] is right, so dZ[{number}] is" if layer.b is not None else ""
            return f"The error starts at dW[{number}]{right}."
        return f"The error starts at db[{number}]; dW[{number}] is right, so dZ[{number}] is."

    def _explained(self, kind, number) -> str | None:
        if self.batch is None:
            return None
        with tolerated(self.problem, "the diagnosis"):  # evidence that could not be had names nothing
            return explain(self, kind, number)
        return None

    def _name(self, i) -> str:
        for number, layer in enumerate(self.layers or (), start=1):
            if i == layer.W:
                return f"dW[{number}]"
            if i == layer.b:
                return f"db[{number}]"
        return called(self.findings[i].path)

    # ---- one leaf ----------------------------------------------------------------------------------------------------
    def leaf(self, i: int) -> str | None:
        """The cause that a leaf shows by itself."""
        f = self.findings[i]
        if f.raw is None or f.r is None:
            return None
        if np.shape(f.g) != np.shape(f.r):
            return _shape_cause(f.g, f.r)
        if not np.isfinite(f.g).all():
            return self.not_finite(f)
        if largest(f.g) == 0.0:
            return "the leaf is zero: frozen, or never filled in"
        for test in (
            self.conjugate,
            self.factor,
            self.transposed,
            self.another_leaf,
            self.few_entries,
            self.regulariser,
            self.precision,
            self.clipped_entries,
            self.row_or_column,
            self.wrong_axis,
            self.example_left_out,
            self.extra_examples,
        ):
            text = test(i, f)
            if text:
                return text
        return None

    def tolerance(self, f) -> float:
        """How far a confirmed relation may be off, relative to the leaf."""
        return max(8 * f.noise.norm / max(norm(f.r), 1e-300), 16 * f.unit)

    def not_finite(self, f) -> str:
        """NaN or Inf, where and from which example."""
        bad = ~np.isfinite(f.g)
        first = ",".join(str(int(k)) for k in np.unravel_index(int(np.argmax(bad)), bad.shape))
        text = f"NaN or Inf in {int(bad.sum())} of {bad.size} entries, first at [{first}]"
        if self.batch is not None and self.batch.m <= 64:
            with tolerated(self.problem, "the diagnosis"):
                guilty = [
                    k
                    for k in range(self.batch.m)
                    if not all(np.isfinite(x).all() for x in self._manual_at(self.batch.take([k])))
                ]
                if 0 < len(guilty) <= 3:
                    text += f"; it comes from example {', '.join(map(str, guilty))} alone"
        return text

    def factor(self, i, f) -> str | None:
        """g = α r, α explained and confirmed by another batch size or other parameters."""
        alpha = self._alpha(f.g, f.r, self.tolerance(f))
        if alpha is None or f.r.size < 2:
            return None
        n = self._units(i)
        return self.explained_factor(
            alpha, self.tolerance(f), n, lambda g, r: self._alpha(g[i], r[i], self.tolerance(f))
        )

    def explained_factor(self, alpha, tolerance, n, again) -> str | None:
        """The name of a factor α; `again(manual, true)` measures it on other evidence."""
        if self.may_follow_the_batch(alpha, tolerance, n):
            if self.batch is None or self.second is None:
                return None
            m, (m2, g2, r2) = self.batch.m, self.second
            alpha2 = again(g2, r2)
            if alpha2 is None:
                return None
            names = [(name, value(m), value(m2)) for name, value in _factors(n, self.batch.total)]
            fits = [name for name, a, a2 in names if _near(alpha, a, tolerance) and _near(alpha2, a2, tolerance)]
            if len(fits) == 1:
                return fits[0].replace("{m}", str(m))
            if fits or not _near(alpha, alpha2, tolerance):
                return None
        elif self.moved is None or not _near(alpha, again(*self.moved) or np.nan, 4 * tolerance):
            return None
        if _near(alpha, -1.0, tolerance):
            return "the sign is wrong (factor -1)"
        return f"a factor {alpha:.4g} on every entry"

    def may_follow_the_batch(self, alpha, tolerance, n) -> bool:
        """Whether a factor could be made of m, or of m and n: then only another batch size can tell."""
        sizes = {m for _, m in candidates(self.problem)}
        return any(_near(alpha, f(m), max(tolerance, 1e-6)) for m in sizes for _, f in _factors(n, "mean"))

    def conjugate(self, i, f) -> str | None:
        """g = conj(r): the other convention."""
        if np.iscomplexobj(f.r) and self._equal(f.g, np.conj(f.r), f) and largest(f.r.imag) > 16 * f.noise.entry:
            return "the complex conjugate of JAX's gradient (its convention is dJ = Re(Σ g v))"
        return None

    def transposed(self, i, f) -> str | None:
        """g = rᵀ on a square leaf."""
        if f.r.ndim == 2 and f.r.shape[0] == f.r.shape[1] > 1 and self._equal(f.g, f.r.T, f):
            return "transposed: it equals the true gradient's transpose"
        return None

    def another_leaf(self, i, f) -> str | None:
        """g = the true gradient of another leaf."""
        for j, other in enumerate(self.findings):
            if (
                j != i
                and other.r is not None
                and other.r.shape == f.r.shape
                and f.r.size > 1
                and self._equal(f.g, other.r, other)
            ):
                return f"it equals the gradient of another leaf, {called(other.path)}"
        return None

    def few_entries(self, i, f) -> str | None:
        """Only a handful of entries differ."""
        error = np.abs(f.g - f.r)
        off = error > 16 * f.noise.entry
        rest = float(np.max(error[~off], initial=0.0))
        # The others have to be right for certain, not just below the noise.
        if rest > 1e-2 * float(np.min(error[off], initial=np.inf)) or self.tolerance(f) > COARSE:
            return None
        count = int(off.sum())
        if not 0 < count <= min(FEW, max(1, f.r.size // 8)):
            return None
        places = np.argwhere(off)[:FEW]
        listed = "; ".join(f"[{','.join(map(str, p))}]{_times(f.g[tuple(p)], f.r[tuple(p)])}" for p in places)
        return f"{'only one entry differs' if count == 1 else f'only {count} entries differ'}: {listed}"

    def regulariser(self, i, f) -> str | None:
        """g = r ± λ θ with one λ, the same at other parameters."""
        theta = wide(self.problem.params.values[i])
        amount = self._alpha(f.g - f.r, theta, 0.05)
        if amount is None or f.r.size < 3 or self.tolerance(f) > COARSE or self.moved is None:
            return None
        error = f.g - f.r
        if norm(error - amount * theta) > max(16 * f.noise.norm, 1e-3 * norm(error)):
            return None
        g2, r2 = self.moved
        values = theta  # at the other parameters the error has to follow θ, which moved by 10 %
        error2 = g2[i] - r2[i]
        amount2 = float(np.real(np.vdot(values, error2)) / norm(values) ** 2)
        if not _near(amount2, amount, 0.2) or norm(error2 - amount * theta) < 1e-6 * norm(error2):
            return None
        if amount < 0:
            return f"a regulariser is missing: {-amount:.3g} times the parameter (weight decay)"
        return f"a regulariser too much: {amount:.3g} times the parameter (weight decay) that the loss has not"

    def precision(self, i, f) -> str | None:
        """The formula is right in float64 and loses digits in its own dtypes."""
        if self.exact is None or not norm(self.exact[i] - f.r) <= 1e-3 * norm(f.g - f.r):
            return None
        size = norm(f.g - f.r) / norm(f.r)
        if not size < 0.3:
            return None
        trace = self.manual.trace()
        low = [name for name in ("bfloat16", "float16") if name in _cast_dtypes(trace)]
        if low:
            return f"precision: right in float64, {low[0]} operands lose 2^{np.log2(size):.1f} of it"
        if {"scan", "while"} & operations(trace):
            return f"precision: right in float64, an accumulation in {f.dtype} loses 2^{np.log2(size):.1f} of it"
        return f"precision: right in float64, as written it loses 2^{np.log2(size):.1f} of it"

    def clipped_entries(self, i, f) -> str | None:
        """g = r clipped entry by entry."""
        top = largest(f.g)
        if (
            np.iscomplexobj(f.g)
            or int((np.abs(f.g) == top).sum()) < 2
            or not self._equal(f.g, np.clip(f.r, -top, top), f)
        ):
            return None
        return f"clipped: it equals the true gradient with entries cut off at ±{top:.4g}"

    def row_or_column(self, i, f) -> str | None:
        """A factor for each row, or for each column."""
        if f.r.ndim != 2 or min(f.r.shape) < 3 or self.tolerance(f) > COARSE:
            return None
        for axis, word in ((1, "row"), (0, "column")):
            factors = np.sum(f.g * np.conj(f.r), axis=axis, keepdims=True) / np.maximum(
                np.sum(np.abs(f.r) ** 2, axis=axis, keepdims=True), 1e-300
            )
            if self._equal(f.g, factors * f.r, f):
                plain = np.real(factors.ravel())
                listed = ", ".join(f"{x:.3g}" for x in plain[:6])
                return f"a factor for each {word}: {listed}{', ...' if plain.size > 6 else ''}"
        return None

    def wrong_axis(self, i, f) -> str | None:
        """A bias summed over the units in place of the examples: possible when m = n."""
        if self.batch is None or f.r.size != self.batch.m or self.batch.m > 64 or f.r.ndim > 2:
            return None
        each = np.stack(
            [self.batch.single.double(given=self.batch.take([k]))[1][i].ravel() for k in range(self.batch.m)], axis=1
        )
        total = each.sum(axis=0) / (self.batch.m if self.batch.total == "mean" else 1)
        if self._equal(f.g.ravel(), total, f):
            return "summed over axis 0, the units, in place of axis 1, the examples (silent because m = n)"
        return None

    def example_left_out(self, i, f) -> str | None:
        """g = r without one example's share."""
        if self.batch is None or self.batch.m < 2 or self.tolerance(f) > COARSE:
            return None
        m = self.batch.m
        error = _sample(f.g - f.r)
        for k, samples in self.shares.items():
            if largest(np.abs(error) - np.abs(samples[i])) > 2 * self.tolerance(f) * norm(f.r):
                continue  # neither left out nor twice: a few entries tell
            share = self.batch.single.double(given=self.batch.take([k]))[1][i] / (
                m if self.batch.total == "mean" else 1
            )
            if norm(share) > 32 * f.noise.norm and self._equal(f.g, f.r - share, f):
                return f"example {k} is left out"
            if norm(share) > 32 * f.noise.norm and self._equal(f.g, f.r + share, f):
                return f"example {k} is counted twice"
        return None

    @cached_property
    def shares(self) -> dict[int, list[np.ndarray]]:
        """A few entries of what single examples add to each leaf."""
        m = self.batch.m
        over = m if self.batch.total == "mean" else 1
        return {
            k: [_sample(x) / over for x in self.batch.single.double(given=self.batch.take([k]))[1]]
            for k in dict.fromkeys([m - 1, 0, *range(min(m, SWEPT))])
        }

    def extra_examples(self, i, f) -> str | None:
        """Examples that the loss ignores (padding) enter the gradient."""
        if self.batch is None or self.batch.m > 4096:
            return None
        ignored = self.ignored
        if not ignored:
            return None
        doubled = self.batch.take([*range(self.batch.m), *ignored])
        alone = restricted(self.problem, doubled)
        if norm(alone.double()[1][i] - f.r) > 16 * f.noise.norm:
            return None
        there = self._manual_at(doubled)[i]
        kept = self._manual_at(self.batch.take([k for k in range(self.batch.m) if k not in ignored]))[i]
        if self._equal(kept, f.r, f) and norm(there - f.g) > 32 * f.noise.norm:
            listed = ", ".join(map(str, ignored[:4])) + (", ..." if len(ignored) > 4 else "")
            return f"example {listed}: the loss ignores it (padding or weight 0), the gradient does not"
        return None

    @cached_property
    def ignored(self) -> list[int]:
        """Examples without which the loss is what it was."""
        found = []
        base = self.problem.double()[0]
        m = self.batch.m
        for k in dict.fromkeys([m - 1, m - 2, 0, *range(min(m, SWEPT))]):
            if not 0 <= k < m:
                continue
            without = self._without(k)
            if abs(without - base) <= 1e-9 * abs(base):
                found.append(k)
        return sorted(found)

    def _without(self, k) -> float:
        keep = [j for j in range(self.batch.m) if j != k]
        self.one_fewer.traced()
        return self.one_fewer.value(self.problem.params.values, self.batch.take(keep))

    @cached_property
    def one_fewer(self):
        """The problem on all examples but one."""
        return restricted(self.problem, self.batch.take(np.arange(self.batch.m - 1)))

    # ---- all leaves --------------------------------------------------------------------------------------------------
    def one_factor(self, wrong) -> str | None:
        """The same factor on every leaf, all of them wrong."""
        judged = [i for i, f in enumerate(self.findings) if not f.frozen and f.verdict != "INCONCLUSIVE"]
        if len(judged) < 2 or set(judged) != set(wrong) or not all(self.findings[i].comparable for i in wrong):
            return None
        if any(self.findings[i].cause for i in wrong) or not all(np.isfinite(self.findings[i].g).all() for i in wrong):
            return None
        tolerance = max(self.tolerance(self.findings[i]) for i in wrong)

        def measure(g, r):
            alphas = [self._alpha(g[i], r[i], tolerance) for i in wrong]
            if None in alphas or not all(_near(a, alphas[0], tolerance) for a in alphas):
                return None
            return alphas[0]

        alpha = measure([f.g for f in self.findings], [f.r for f in self.findings])
        if alpha is None:
            return None
        size = float(np.sqrt(sum(norm(self.findings[i].g) ** 2 for i in wrong)))
        if self.second is not None:
            size2 = float(np.sqrt(sum(norm(self.second[1][i]) ** 2 for i in wrong)))
            alpha2 = measure(self.second[1], self.second[2])
            if alpha2 is not None and _near(size, size2, 1e-3) and not _near(alpha, alpha2, 1e-2):
                return f"Clipped: every leaf has the same factor {alpha:.3g}, and the norm is {size:.4g} for any batch."
        text = self.explained_factor(alpha, tolerance, None, measure)
        return f"Every leaf: {text}." if text else None

    def reversed_order(self, wrong) -> str | None:
        """The leaves are right and in another order."""
        source = {}
        for i in wrong:
            f = self.findings[i]
            for j, other in enumerate(self.findings):
                if (
                    f.comparable
                    and j != i
                    and other.r is not None
                    and other.r.shape == f.g.shape
                    and self._equal(f.g, other.r, other)
                ):
                    source[i] = j
        if len(source) < 2 or set(source) != set(wrong) or set(source.values()) != set(wrong):
            return None
        names = ", ".join(
            f"{self.findings[i].path} holds {self.findings[j].path}'s" for i, j in list(source.items())[:4]
        )
        return f"The leaves are swapped, in another order: {names}."

    # ---- arithmetic --------------------------------------------------------------------------------------------------
    def _units(self, i) -> tuple[str, int] | None:
        for number, layer in enumerate(self.layers or (), start=1):
            if i in layer.leaves:
                shape = np.shape(self.problem.params.values[layer.W])
                return f"n[{number}]", shape[0 if layer.columns else 1]
        return None

    def _equal(self, g, other, f) -> bool:
        if g.shape != other.shape:
            return False
        limit = self.tolerance(f) * max(norm(other), 1e-300)
        few = _sample(g) - _sample(other)  # already too far? then the millions need not be compared
        return not norm(few) > limit and bool(norm(g - other) <= limit)

    @staticmethod
    def _alpha(g, r, tolerance) -> float | None:
        """α with g = α r, if there is one."""
        if g is None or r is None or g.shape != r.shape or norm(r) == 0.0 or not np.isfinite(g).all():
            return None
        unit = r / norm(r)
        alpha = complex(np.vdot(unit, g)) / norm(r)
        if abs(alpha.imag) > tolerance * abs(alpha) or norm(g - alpha.real * r) > tolerance * norm(g):
            return None
        return alpha.real


def _factors(n, total):
    """Names of factors that follow the batch size, each as a function of m."""
    twice = "1/m applied twice" if total == "mean" else "1/m too much: the loss is a sum, the gradient that of a mean"
    yield ("1/m is missing (factor m = {m})", lambda m: m)
    yield (twice, lambda m: 1 / m)
    yield ("1/(m-1) in place of 1/m (factor m/(m-1))", lambda m: m / (m - 1) if m > 1 else np.inf)
    yield ("1/m is missing and the sign is wrong", lambda m: -m)
    if n is not None:
        name, units = n
        yield (f"1/{name} in place of 1/m", lambda m: m / units)


def _sample(x):
    """At most a thousand entries, evenly spread."""
    flat = np.ravel(x)
    return flat[:: max(1, flat.size // 1000) | 1]


def _near(a, b, tolerance) -> bool:
    return bool(np.isfinite([a, b]).all() and abs(a - b) <= tolerance * max(abs(a), abs(b))) or a == b


def _shape_cause(g, r) -> str:
    shapes = f"it has shape {np.shape(g)}, the parameter {np.shape(r)}"
    for axis in range(np.ndim(g)):
        total = g.sum(axis=axis, keepdims=True)
        for sums in (total, np.squeeze(total, axis)):
            if sums.shape == r.shape and np.allclose(sums, r, rtol=1e-2, atol=1e-2 * largest(r)):
                return f"the sum over axis {axis} is missing; {shapes}"
    if g.size == r.size and np.allclose(g.reshape(r.shape), r, rtol=1e-2, atol=1e-2 * largest(r)):
        return f"keepdims: the values are right, the shape is not; {shapes}"
    if g.ndim == 2 and g.T.shape == r.shape and np.allclose(g.T, r, rtol=1e-2, atol=1e-2 * largest(r)):
        return f"transposed; {shapes}"
    return f"wrong shape: {shapes}"


def _times(g, r) -> str:
    if g == 0:
        return " is zero"
    return f" x {np.real(g / r):.4g}" if r != 0 else f" is {g:.3g} and should be 0"


def _cast_dtypes(trace) -> set[str]:
    from jaxnet.verify.strip import equations

    return {str(v.aval.dtype) for e in equations(trace) for v in e.outvars if hasattr(v.aval, "dtype")}


def _kind(text: str) -> str:
    return text.split(":")[0].split("(")[0].split(" in ")[0].strip()


def _joined(parts) -> str:
    return "; ".join(parts)


def _wide(leaf):
    return None if leaf is None else wide(leaf)
