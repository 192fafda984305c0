"""What was found: a row for each leaf, a sentence for the cause, and the code that shows it again."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from jaxnet.verify.tree import called

WIDTH = 80


@dataclass(frozen=True)
class Statement:
    """One witness: what it is called, what it said, and the seconds it took."""

    name: str
    said: str
    seconds: float


@dataclass(frozen=True)
class LeafReport:
    """One leaf: `score` is error over noise, `ulps` its median, 99th percentile and maximum, `manual` and `reference`
    the two values at `worst_index`, `resolution` the smallest relative error that would have been seen."""

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


class TreeMismatch(GradientMismatch, ValueError):  # noqa: N818
    """The gradient's tree is not the parameters' tree; the message names the first path that differs."""


def _text(report: Report) -> str:
    count = len(report.leaves)
    head = f"{report.verdict}  {count} {'leaf' if count == 1 else 'leaves'}, {report.seconds:.1f} s, seed {report.seed}"
    lines = [head]
    if report.leaves:
        first = min(max(len(leaf.path) for leaf in report.leaves.values()), 11)
        first = max(first, 6 if "" in report.leaves else 4)
        columns = ("leaf".ljust(first), "shape", "norm", "rel.err", "x noise", "worst", "manual", "referen.", "")
        lines.append(_row(columns, first))
        for leaf in report.leaves.values():
            lines += _rows(leaf, first)
    lines += _resolution(report)
    if report.cause:
        lines += ["", *wrap(report.cause)]
    for note in report.notes:
        lines += wrap("note: " + note)
    if report.skipped:
        lines += wrap("skipped: " + ", ".join(f"{called(path)} ({what})" for path, what in report.skipped.items()))
    if report.stripped:
        lines += wrap("custom rules that took no part: " + ", ".join(report.stripped))
    for w in report.witnesses:
        lines += wrap(f"witness {w.name}: {w.said} ({w.seconds:.2f} s)", "  ")
    return "\n".join(line.rstrip() for line in lines)


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


def _resolution(report: Report) -> list[str]:
    finite = [leaf for leaf in report.leaves.values() if math.isfinite(leaf.resolution)]
    seen = [leaf for leaf in finite if leaf.resolution < 1.0] or finite
    if not seen:
        return []
    worst = max(seen, key=lambda leaf: leaf.resolution)
    chosen = any((leaf.note or "").startswith("a subgradient") for leaf in report.leaves.values())
    return wrap(
        f"resolution: an error above {_number(worst.resolution)} of ‖d{called(worst.path)}‖ would have been seen"
        f"{', unless it is another choice at a kink' if chosen else ''} (the coarsest leaf)."
    )


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


def first_line(error) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120] if lines else ''}"


def fields(report: Report) -> dict:
    """A report's fields, to make a changed copy."""
    return {name: getattr(report, name) for name in report.__dataclass_fields__}
