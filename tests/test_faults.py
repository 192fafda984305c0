"""The table of faults in the README: every fault has a row, and every row tests that are there."""

import ast
import functools
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
README = (TESTS / "README.md").read_text()
FAULTS = {
    "Data": (
        "NaN/Inf in X or Y", "empty X", "no features", "one example where a validation split is asked",
        "len(X) != len(y)", "X transposed", "1-D X", "ragged or object dtype", "strings in X", "complex", "sparse",
        "values that overflow float32 or int32", "label -1 or >= k", "labels 1..k", "one class only",
        "a class seen only in validation", "class_weight for an unknown class", "negative, NaN or all-zero weights",
        "predict with another number of features or renamed columns", "a constant feature", "batch_size 0 or > m",
        "a last partial batch", "data not divisible by the devices",
    ),
    "Config": (
        "a size <= 0, no layers, a float size", "unknown activation, loss, scheme, optimizer", "rate <= 0 or NaN",
        "dropout outside [0, 1)", "softmax with one output, sigmoid with one-hot targets of several classes",
        "softmax in a hidden layer", "x64 asked for but off", "an accelerator asked for but absent",
    ),
    "Numerics": ("cost or gradient not finite", "exploding gradient", "saturated outputs", "dead ReLU net"),
    "Process": (
        "Ctrl-C", "SIGTERM", "kill -9 in a step", "kill -9 in a save", "out of device memory", "a user callback raises",
        "two runs in one directory",
    ),
    "Disk": (
        "directory missing or read-only", "disk full in a save", "a failed or asynchronous save",
        "a file truncated, a bit flipped, a part deleted, empty metadata",
        "checkpoint of another architecture or dtype", "a newer format",
        "no pickle, no code or import path in any file we read", "names from a closed table",
        "sizes checked before allocating", "no path outside the directory", "compilation cache corrupt",
    ),
    "Cluster": (
        "a worker dies", "the coordinator dies", "a peer alive but stuck", "SIGTERM or Ctrl-C in one process",
        "an error in one process", "a process missing at the start", "a launcher that is half set",
        "different config or data per process", "a directory for checkpoints that processes do not share",
        "another number of devices or processes at resume",
        "port taken, address wrong", "who can reach the coordinator",
    ),
}  # fmt: skip
WITHOUT_TEST = ("not built yet", "not in the notes")  # what a row says that has none


def rows(text):
    """The faults of each part in their order, and of each fault the cell that says what it gets and that of its tests.

    A part is a table under "## Faults", whose first heading is the part's name.
    """
    section = text.partition("\n## Faults\n")[2].partition("\n## ")[0]
    cells = [re.split(r" *(?<!\\)\| *", line.strip("| ")) for line in section.splitlines() if line.startswith("|")]
    found, part = {}, None
    for row in cells:
        assert len(row) == 3, row
        if row[1] == "what it gets":
            part = found.setdefault(row[0], {})
        elif not set(row[0]) <= set("-: "):
            assert row[0] not in part, f"{row[0]!r} has two rows"
            part[row[0]] = row[1:]
    return found


@functools.cache
def names_and_texts(path):
    """The names of the tests in a file, and all texts in it, among which are the names of their cases."""
    tree = ast.parse(path.read_text())
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, texts


def is_there(file, name, case):
    """Whether the file has a test of that name, and, where a case is named, that case."""
    if not (TESTS / file).is_file():
        return False
    names, texts = names_and_texts(TESTS / file)
    return name in names and (not case or case in texts)


def problems(text):
    """What the table lacks, has beside the faults, or says of tests that are not there."""
    found = rows(text)
    for part in FAULTS.keys() | found.keys():
        faults, table = FAULTS.get(part, ()), found.get(part, {})
        yield from (f"{fault!r} has no row" for fault in faults if fault not in table)
        yield from (f"{fault!r} is not a fault of {part}" for fault in table if fault not in faults)
        if set(faults) == set(table) and list(faults) != list(table):
            yield f"{part} is not in the order of its faults"
        for fault, (answer, tests) in table.items():
            named = re.findall(r"`([\w/]+\.py)::(test_\w+)(?:\[([^`]+)\])?`", tests)
            if not named and not any(reason in answer + tests for reason in WITHOUT_TEST):
                yield f"{fault!r} has no test, and no reason for having none"
            yield from (
                f"{' '.join(filter(None, test))} of {fault!r} is not there" for test in named if not is_there(*test)
            )
            if len(named) != tests.count("::"):
                yield f"{fault!r} has a test that is not spelt `file.py::test_name[case]`"


def test_every_fault_has_a_row_and_every_row_its_tests():
    assert list(problems(README)) == []


ROW, NEXT = re.search(r"^(\| 1-D X \|.*\n)(.*\n)", README, re.MULTILINE).groups()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (ROW, "", "'1-D X' has no row"),
        (ROW, ROW + ROW.replace("1-D", "0-D"), "'0-D X' is not a fault of Data"),
        (ROW + NEXT, NEXT + ROW, "Data is not in the order of its faults"),
        (ROW, "| 1-D X | E | a look |\n", "'1-D X' has no test, and no reason"),
        ("test_fit_refuses[1-D X]", "test_fit_accepts[1-D X]", "test_fit_accepts 1-D X of '1-D X' is not there"),
        ("test_fit_refuses[1-D X]", "test_fit_refuses[5-D X]", "test_fit_refuses 5-D X of '1-D X' is not there"),
        ("test_labels.py::test_", "test_label.py::test_", "test_label.py test_one_hot_refuses of 'labels 1..k' is not"),
        ("`test_checks.py::test_fit_refuses[1-D X]`", "test_checks.py::test_fit_refuses", "'1-D X' has a test that is"),
        ("| Numerics |", "| Sums |", "'dead ReLU net' is not a fault of Sums"),
    ],
)
def test_what_is_wrong_with_the_table_is_seen(old, new, problem):
    assert old in README
    assert any(problem in found for found in problems(README.replace(old, new)))
