"""What was found: a row for each leaf, a sentence for the cause, and the code that shows it again."""

import dataclasses
import html
import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxnet.verify.evidence.noise import resolution, ulps
from jaxnet.verify.journal import Statement
from jaxnet.verify.judge.reasons import Note, Reason
from jaxnet.verify.judge.verdict import LeafJudgement, in_float64
from jaxnet.verify.problem.trees import called
from jaxnet.verify.sizes import norm, ratio

WIDTH = 80
MOST_ROWS = 60  # of the table in a notebook
COLOURS = {"PASS": "#2e8b57", "FAIL": "#d1344b", "INCONCLUSIVE": "#c77700"}  # read on white and on black
SMALL, TINY = 1e-2, 1e-4  # relative errors that may be meant: without a cause that is known, and with one


@dataclass(frozen=True)
class LeafReport:
    """One leaf: `score` is error over noise, `ulps` its median, 99th percentile and maximum, `manual` and `reference`
    the two values at `worst_index`, `resolution` the smallest relative error that would have been seen.

    `accuracy` and `expected_zero` are what was declared of the leaf; `resolution` is that of the noise alone.
    `convention`: it passes as a subgradient, another one than autodiff's.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    verdict: str
    norm: float = 0.0
    relative_error: float = 0.0
    score: float = 0.0
    ulps: tuple[float, float, float] = (0.0, 0.0, 0.0)
    worst_index: tuple[int, ...] | None = None
    manual: Any = None
    reference: Any = None
    cause: str | None = None
    resolution: float = float("inf")
    note: str | None = None
    accuracy: float = 0.0
    expected_zero: bool = False
    convention: bool = False


@dataclass(frozen=True)
class Report:
    """The verdict on a gradient: true when passed. `leaves` by path; `cause` and `starts_at` name a proved bug."""

    verdict: str
    leaves: dict[str, LeafReport]
    cause: str | None = None
    starts_at: str | None = None
    witnesses: tuple[Statement, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    stripped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seed: int = 0
    seconds: float = 0.0
    case: Any = field(default=None, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether the gradient is right: checked on every leaf and found equal."""
        return self.verdict == "PASS"

    def __bool__(self) -> bool:
        """passed."""
        return self.passed

    def __str__(self) -> str:
        """The table and the cause, at most 80 columns wide."""
        return _text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The table in colour, for a notebook; of many leaves first those that did not pass."""
        return _html(self)

    def to_json(self) -> str:
        """The report as JSON; numbers that JSON has not are strings ("inf", "nan")."""
        content = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "case"}
        content["leaves"] = {path: dataclasses.asdict(leaf) for path, leaf in self.leaves.items()}
        content["witnesses"] = [dataclasses.asdict(w) for w in self.witnesses]
        content["passed"] = self.passed
        return json.dumps(_plain(content), indent=1)

    def to_markdown(self) -> str:
        """The report as a Markdown table and the cause below it."""
        rows = [
            "| leaf | shape | norm | relative error | x noise | worst | manual | reference | resolution | verdict |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for leaf in self.leaves.values():
            cells = [f"`{called(leaf.path)}`", str(leaf.shape), _number(leaf.norm), _number(leaf.relative_error)]
            cells += [_number(leaf.score), _index(leaf.worst_index), _number(leaf.manual), _number(leaf.reference)]
            cells += [_number(leaf.resolution), f"{leaf.verdict}{': ' + leaf.cause if leaf.cause else ''}"]
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        return "\n".join([f"**{self.verdict}** {self.cause or ''}".rstrip(), "", *rows])

    def reproduce(self) -> str:
        """Python code that runs the same check again; arrays of up to 1,000 entries are written out in it."""
        return (
            self.case.code(self) if self.case is not None else "# this report was read from a file: no inputs to repeat"
        )


class GradientMismatch(AssertionError):  # noqa: N818 - the name in the specification
    """A gradient is wrong. `report` says where and why; the message is its table."""

    def __init__(self, report: Report, message: str | None = None):
        """An error that carries `report`."""
        super().__init__(message or str(report))
        self.report = report


class GradientInconclusive(AssertionError):  # noqa: N818 - as GradientMismatch
    """Nothing was proved of a gradient. `report` and the message say of which leaves, why, and what would help."""

    def __init__(self, report: Report):
        """An error that carries `report`."""
        super().__init__(str(report))
        self.report = report


class TreeMismatch(GradientMismatch, ValueError):  # noqa: N818
    """The gradient's tree is not the parameters' tree; the message names the first path that differs."""


def row(f: LeafJudgement) -> LeafReport:
    """One judgement as a row; its numbers are those that a call of the user's function gave."""
    row: dict[str, Any] = dict(
        path=f.path,
        shape=f.shape,
        dtype=str(f.dtype),
        verdict=f.verdict,
        cause=f.cause and f.cause.text,
        note=f.note and str(f.note),
        score=float(f.score),
        accuracy=f.accuracy,
        expected_zero=f.expected_zero,
        convention=isinstance(f.note, Note) and f.note.reason is Reason.CONVENTION,
    )
    told: dict[str, Any] = {}
    if f.slopes is not None:
        told = {
            "norm": f.slopes.norm,
            "relative_error": ratio(f.slopes.error, f.slopes.norm),
            "resolution": f.slopes.resolution,
        }
    if not f.comparable or not f.r.size:
        size = f.r_norm if f.r is not None else norm(f.g) if f.raw is not None else 0.0
        return LeafReport(**row, **(told or {"norm": size}))
    g = in_float64(f.raw, f.shape) if f.numbers == "formula" else f.g
    error = g - f.r
    at = f.worst or np.unravel_index(int(np.nanargmax(_magnitude(error))), error.shape)
    known = ... if f.known is None else f.known
    size = norm(f.r[known])
    return LeafReport(
        **row,
        norm=size,
        relative_error=ratio(norm(error[known]), size),
        ulps=ulps(g[known], f.r[known], f.dtype),
        worst_index=tuple(int(k) for k in at),
        manual=_item(g[tuple(at)]),
        reference=_item(f.r[tuple(at)]),
        resolution=0.0 if f.unused else min(resolution(f.r[known], f.noise), told.get("resolution", np.inf)),
    )


def _magnitude(x):
    size = np.abs(x)
    return np.where(np.isnan(size), np.inf, size)


def _item(x):
    return complex(x) if np.iscomplexobj(x) else float(x)


def _text(report: Report) -> str:
    count = len(report.leaves)
    head = f"{report.verdict}  {count} {'leaf' if count == 1 else 'leaves'}, {report.seconds:.1f} s, seed {report.seed}"
    lines = [head]
    if report.leaves:
        first = min(max(len(leaf.path) for leaf in report.leaves.values()), 11)
        first = max(first, 6 if "" in report.leaves else 4)
        columns = ("leaf".ljust(first), "shape", "norm", "rel.err", "x noise", "worst", "manual", "reference", "")
        lines.append(_row(columns, first))
        for leaf in report.leaves.values():
            lines += _rows(leaf, first)
    lines += _resolution(report)
    lines += _declared(report)
    if report.cause:
        lines += ["", *wrap(report.cause)]
    if report.verdict == "INCONCLUSIVE":
        lines += ["", *wrap(unproved(report))]
    failed = [leaf for leaf in report.leaves.values() if leaf.verdict == "FAIL"]
    if failed and all(map(_may_be_meant, failed)):
        lines += ["", *wrap("An error of this size that is meant (a solver's, a truncated series') is for accuracy=.")]
    for note in report.notes:
        lines += wrap("note: " + note)
    if report.skipped:
        lines += wrap("skipped: " + ", ".join(f"{called(path)} ({what})" for path, what in report.skipped.items()))
    if report.stripped:
        lines += wrap("custom rules that the reference was taken without: " + ", ".join(report.stripped))
    for w in report.witnesses:
        lines += wrap(f"witness {w.name}: {w.said} ({w.seconds:.2f} s)", "  ")
    return "\n".join(line.rstrip() for line in lines)


def _html(report: Report) -> str:
    leaves = list(report.leaves.values())
    shown = sorted(leaves, key=lambda leaf: leaf.verdict == "PASS") if len(leaves) > MOST_ROWS else leaves
    columns = ("leaf", "shape", "norm", "relative error", "x noise", "worst", "manual", "reference", "verdict")
    rows = ["".join(f"<th>{name}</th>" for name in columns)]
    for leaf in shown[:MOST_ROWS]:
        cells = [called(leaf.path)[:WIDTH], _shape(leaf.shape), _number(leaf.norm), _number(leaf.relative_error)]
        cells += [_number(leaf.score), _index(leaf.worst_index), _number(leaf.manual, 4), _number(leaf.reference, 4)]
        said = ": ".join(filter(None, (leaf.verdict, leaf.cause or leaf.note)))
        rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + f"<td>{_coloured(said, leaf)}</td>")
    table = "".join(f"<tr>{row}</tr>" for row in rows)
    text = [report.cause or "", unproved(report) if report.verdict == "INCONCLUSIVE" else ""]
    text += [f"and {len(leaves) - MOST_ROWS} more leaves"] if len(leaves) > MOST_ROWS else []
    text += [f"note: {note}" for note in report.notes]
    said = "".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in text if paragraph)
    head = f"{_coloured(report.verdict, report)}, {report.seconds:.1f} s, seed {report.seed}"
    return f"<div><p>{head}</p>{f'<table>{table}</table>' if leaves else ''}{said}</div>"


def _coloured(text: str, judged: Report | LeafReport) -> str:
    return f'<b style="color:{COLOURS.get(judged.verdict, "gray")}">{html.escape(text[: 4 * WIDTH])}</b>'


def _rows(leaf: LeafReport, first: int) -> list[str]:
    mark = {"INCONCLUSIVE": "????", "FROZEN": "----", "EMPTY": "----"}.get(leaf.verdict, leaf.verdict)
    numbers = [_number(x) for x in (leaf.norm, leaf.relative_error, leaf.score)]
    if leaf.verdict == "FROZEN":
        numbers = [numbers[0], "", ""]
    values = [_number(x, 4) if not isinstance(x, complex) else _number(x) for x in (leaf.manual, leaf.reference)]
    lines = [leaf.path[:WIDTH]] if len(leaf.path) > first else []
    path = "" if lines else called(leaf.path)
    lines.append(_row((path, _shape(leaf.shape), *numbers, _index(leaf.worst_index), *values, mark), first))
    for text in (leaf.cause, leaf.note):
        if text:
            lines += wrap(text, "  ")
    return lines


def _row(cells, first: int) -> str:
    path, shape, size, relative, score, worst, manual, reference, verdict = cells
    numbers = f"{size:>7} {relative:>7} {score:>7}"
    return f"{path:<{first}} {shape:<9} {numbers} {worst:<10}{manual:>9} {reference:>9} {verdict}"[:WIDTH]


def _may_be_meant(leaf: LeafReport) -> bool:
    """Whether an error, at its worst entry too, is so small that it may be a solver's; beside NaN none is."""
    small = SMALL if not leaf.cause else TINY
    if leaf.reference is None or leaf.manual is None:
        return leaf.relative_error < small
    return leaf.relative_error < small and bool(abs(leaf.manual - leaf.reference) <= small * abs(leaf.reference))


def _resolution(report: Report) -> list[str]:
    shown = {leaf.path: max(leaf.resolution, leaf.accuracy) for leaf in report.leaves.values()}
    finite = [leaf for leaf in report.leaves.values() if math.isfinite(leaf.resolution)]
    seen = [leaf for leaf in finite if leaf.resolution < 1.0] or finite
    if not seen:
        return []
    worst = max(seen, key=lambda leaf: shown[leaf.path])
    chosen = any(leaf.convention for leaf in report.leaves.values())
    return wrap(
        f"resolution: an error above {_number(shown[worst.path])} of ‖d{called(worst.path)}‖ would have been seen"
        f"{', unless it is another choice at a kink' if chosen else ''} (the coarsest leaf)."
    )


def _declared(report: Report) -> list[str]:
    """The accuracy that was declared, beside what the noise alone would have shown."""
    widened = [leaf for leaf in report.leaves.values() if leaf.accuracy > leaf.resolution]
    if not widened:
        return []
    finest = min(widened, key=lambda leaf: leaf.resolution)
    ends = dict.fromkeys(_number(end(leaf.accuracy for leaf in widened)) for end in (min, max))
    return wrap(
        f"accuracy: {' to '.join(ends)} of the norm was declared right for {_listed(widened)}; the noise alone would "
        f"have shown {_number(finest.resolution)} of ‖d{called(finest.path)}‖."
    )


def _listed(leaves, most: int = 6) -> str:
    return ", ".join(called(leaf.path) for leaf in leaves[:most]) + (", ..." if len(leaves) > most else "")


def unproved(report: Report) -> str:
    """Of an inconclusive report: why nothing is proved, and what would help."""
    if not report.stripped and report.case is not None and report.case.compares_with_itself:
        return (
            "Nothing is proved: decorate f with jax.custom_vjp or jax.custom_jvp; a plain gradient function is for "
            "check_gradients."
        )
    if report.cause:
        return "Nothing is proved, for this reason."
    open_: dict[str, list[LeafReport]] = {}
    for leaf in report.leaves.values():
        if leaf.verdict == "INCONCLUSIVE":
            open_.setdefault(leaf.note or "nothing is known of it", []).append(leaf)
    if not open_:
        judged = any(leaf.verdict == "PASS" for leaf in report.leaves.values())
        remedy = "the notes say why" if judged else "no leaf was judged; name one that has entries with trainable="
        return f"Nothing is proved: {remedy}."
    lines = [f"Nothing is proved of {_listed(leaves)}: {note}." for note, leaves in open_.items()]
    dead = any(leaf.norm == 0.0 for leaves in open_.values() for leaf in leaves)
    remedy = "Other inputs may tell, or float64" + (
        ", or expected_zero= for what is dead on purpose." if dead else ", or reference=, a plain form of the function."
    )
    return " ".join([*lines, remedy])


def wrap(text: str, indent: str = "") -> list[str]:
    """A paragraph in lines of at most 80 columns."""
    import textwrap

    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ") or [""]


def _shape(shape) -> str:
    return "x".join(map(str, shape)) or "()"


def _index(index) -> str:
    return "" if index is None else "[" + ",".join(map(str, index)) + "]"


def _number(value, digits: int = 2) -> str:
    if value is None:
        return ""
    if isinstance(value, complex):
        return f"{value.real:.{digits}g}{value.imag:+.{digits}g}j"
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    if value != 0 and (abs(value) >= 10 ** max(digits + 1, 4) or abs(value) < 1e-3):
        return f"{value:.{max(digits - 1, 1)}e}".replace("e-0", "e-").replace("e+0", "e+")
    return f"{value:.{max(digits, 3)}g}"


def _plain(value):
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, complex):
        return {"real": _plain(value.real), "imag": _plain(value.imag)}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
