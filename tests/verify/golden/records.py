"""What the golden file keeps of a report, and whether it is right."""

import json
import re
from pathlib import Path

from jaxnet.verify import Report
from tests.verify.golden.cases import KINDS, Case

FOLDER = Path(__file__).parent
# An index such as [2,1] stays; a number in a sentence may be another on another processor.
INDEX_OR_NUMBER = re.compile(r"(\[\d+(?:,\d+)*\])|(?<![\w.])\d+(?:\.\d+)*(?:e[+-]?\d+)?")


def worded(sentence: str | None) -> str | None:
    """A sentence without its numbers."""
    return sentence and INDEX_OR_NUMBER.sub(lambda found: found[1] or "#", sentence)


def record(report: Report) -> dict:
    """A report without times and numbers: what it says of the gradient and of each leaf, [verdict, cause, note]."""
    leaves = {path: [leaf.verdict, worded(leaf.cause), worded(leaf.note)] for path, leaf in report.leaves.items()}
    return {
        "verdict": report.verdict,
        "cause": worded(report.cause),
        "starts_at": report.starts_at,
        "notes": [worded(note) for note in report.notes],
        "leaves": leaves,
    }


def raised(error: Exception) -> dict:
    """What is kept of a check that raises in place of a report."""
    text = worded(f"{type(error).__name__}: {error}")
    return {"verdict": "ERROR", "cause": text, "starts_at": None, "notes": [], "leaves": {}}


def mistake(case: Case, said: dict) -> str | None:
    """What is wrong in a record, in words: the verdict, the leaves that fail, or a crash; None if it is right."""
    failed = {path for path, (verdict, *_) in said["leaves"].items() if verdict == "FAIL"}
    if said["verdict"] not in case.verdicts:
        return f"it is {said['verdict']}, expected {' or '.join(case.verdicts)}"
    paths = [*said["leaves"]]  # a rule's leaves have the names of its arguments: "[1]" is the second of them
    named = dict(zip((f"[{k}]" for k in range(len(paths))), paths, strict=True))
    expected = {path if path in paths else named.get(path, path) for path in case.failed()}
    if failed != expected:
        return f"{sorted(failed)} fail, expected {sorted(expected)}"
    crashes = [note for note in said["notes"] if "crashed:" in note]
    return crashes[0] if crashes else None


def misnamed(case: Case, report: Report) -> str | None:
    """What is wrong in a report's words: a witness that stumbles, another cause than the case's, no reason; or None."""
    if "cannot: Type" in str(report):
        return f"a witness stumbles over its own code: {report}"
    if case.cause and report.verdict == "FAIL" and not re.search(case.cause, str(report.cause), re.IGNORECASE):
        return f"the cause is {report.cause!r}, expected {case.cause!r}"
    if case.reason and report.verdict == "INCONCLUSIVE" and not re.search(case.reason, str(report), re.IGNORECASE):
        return f"expected {case.reason!r} in {report}"
    return None


def read() -> dict[str, dict]:
    """All records of the golden file by their cases' names."""
    files = {kind: FOLDER / f"{kind}.json" for kind in KINDS}
    found = {kind: json.loads(path.read_text()) for kind, path in files.items() if path.exists()}
    return {f"{kind}: {name}": said for kind, records in found.items() for name, said in records.items()}


def write(records: dict[str, dict]):
    """Writes the golden file: one file a kind, one line a field or leaf, so that a difference is a line."""
    for kind in KINDS:
        prefix = f"{kind}: "
        of_kind = {name[len(prefix) :]: said for name, said in records.items() if name.startswith(prefix)}
        (FOLDER / f"{kind}.json").write_text(text(of_kind))


def text(records: dict[str, dict]) -> str:
    """JSON with a line for each field and for each leaf."""
    line = lambda indent, key, value: f"{' ' * indent}{dumped(key)}: {value}"
    block = lambda indent, lines: "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"
    written = []
    for name, said in records.items():
        leaves = block(2, [line(3, path, dumped(told)) for path, told in said["leaves"].items()])
        fields = [line(2, key, dumped(value)) for key, value in said.items() if key != "leaves"]
        written.append(line(1, name, block(1, [*fields, line(2, "leaves", leaves)])))
    return block(0, written) + "\n"


def dumped(value) -> str:
    """A value as JSON in one line."""
    return json.dumps(value, ensure_ascii=False)


def differences(before: dict | None, now: dict) -> list[str]:
    """What a record says otherwise than before, a line for each field or leaf."""
    if before is None:
        return ["new"]
    old, new = ({**said, **{f"leaf {path}": told for path, told in said["leaves"].items()}} for said in (before, now))
    fields = [key for key in {**old, **new} if key != "leaves"]
    return [
        f"{key}: {dumped(old.get(key))} -> {dumped(new.get(key))}" for key in fields if old.get(key) != new.get(key)
    ]
