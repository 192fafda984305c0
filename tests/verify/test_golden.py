"""The verifier says of each case what the golden file holds, and what it holds is right."""

import pytest

from tests.verify.golden.process import every, report_of
from tests.verify.golden.records import differences, misnamed, mistake, read, record, worded

CASES, GOLDEN = every(), read()
FAST = [
    "mutants: dW_zero float32 x1",
    "mutants: g_of_layer_above float32 x1",
    "mutants: wrong_only_under_jit float32 x1",
    "mutants: rare_branch float32 x1",
    "tricky: absolute_value_at_zero seed 0",
    "tricky: saturated_sigmoid seed 0",
    "tricky: empty_batch seed 0",
    "operations: embedding",
    "operations: embedding set_for_add",
    "rules: fwd of another value: 5 % more",
    "rules: a fused loss ignores its cotangent",
    "black_boxes: tanh in NumPy, one entry x 1.01",
    "black_boxes: tanh in io, x 1.1",
]


LONG = [pytest.param(name, marks=() if name in FAST else pytest.mark.long) for name in CASES]


@pytest.mark.parametrize("name", LONG)
def test_a_case_is_right_and_is_told_as_in_the_golden_file(name):
    """Where a difference is meant, `python -m tests.verify.golden --write` writes the file anew."""
    report = report_of(name)
    said = record(report)
    assert mistake(CASES[name], said) is None and misnamed(CASES[name], report) is None, str(report)
    assert differences(GOLDEN.get(name), said) == []


def test_the_golden_file_holds_every_case_and_nothing_that_is_wrong():
    assert list(GOLDEN) == list(CASES)
    assert {name: fault for name, case in CASES.items() if (fault := mistake(case, GOLDEN[name]))} == {}


def test_numbers_in_sentences_are_left_out_and_indices_are_not():
    assert worded("x[2,1] in float32 is off by 1.5e-07 x noise, in [0.1, 24]") == (
        "x[2,1] in float32 is off by # x noise, in [#, #]"
    )


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"verdict": "PASS"}, "it is PASS, expected FAIL"),
        ({"leaves": {}}, "[] fail, expected ['[0].W']"),
        ({"notes": ["kinks crashed: a fault of the verifier itself"]}, "kinks crashed: a fault of the verifier itself"),
    ],
)
def test_a_record_that_is_wrong_is_seen(change, fault):
    name = "mutants: dW_zero float32 x1"
    wrong = {**GOLDEN[name], **change}
    assert mistake(CASES[name], wrong) == fault
    assert len(differences(GOLDEN[name], wrong)) == (4 if "leaves" in change else 1)
