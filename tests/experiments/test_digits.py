"""The main job reaches its target, proves its gradients, and fails when it should."""

import json
import subprocess
import sys

import numpy as np
import pytest

from experiments import digits
from experiments.runner import experiment
from tests.experiments.claims import assert_each_clause_can_fail, assert_it_runs, measure


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The command as a user runs it, in a process of its own."""
    results = tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "experiments.digits", "--results", str(results)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300), results / "digits"


@pytest.fixture(scope="module")
def found():
    return measure(digits, quick=True, epochs=1, seeds=1, target=0.5)


@pytest.mark.slow
def test_it_reads_digits_as_promised(finished):
    process, directory = finished
    assert process.returncode == 0, process.stdout + process.stderr
    record = json.loads((directory / "metrics.json").read_text())
    accuracies = record["metrics"]["test_accuracy"]
    assert len(accuracies) == 10 and np.mean(accuracies) >= 0.97 and record["held"]
    assert (directory / "digits.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_it_says_what_it_does(finished):
    process, directory = finished
    lines = process.stdout.splitlines()
    assert lines[0] == "The hand-written gradient in float64"  # first of all
    for leaf in ("[0].W", "[0].b", "[1].W", "[1].b"):
        assert len([line for line in lines if line.startswith(leaf) and line.endswith("PASS")]) == 2  # and in float32
    checks = json.loads((directory / "metrics.json").read_text())["metrics"]["gradient_check"]
    assert checks["float64"]["verdict"] == checks["float32"]["verdict"] == "PASS"
    assert any("test accuracy" in line for line in lines) and lines[-2].startswith("HELD")
    assert process.stderr == ""  # no bar in a pipe


def test_a_small_run(found):
    result = assert_it_runs(digits, found)
    assert result.held and 0.5 < result.metrics["test_accuracy_mean"] < 1
    assert len(result.metrics["history"]["validation_cost"]) == 1


def test_each_clause_can_fail(found):
    report = digits.jaxnet.Report(verdict="FAIL", leaves={})
    assert_each_clause_can_fail(
        digits,
        found,
        {
            "the_hand_written_gradients_pass": {"reports": {"float32": report}},
            "mean_test_accuracy": {"test accuracy": np.array([0.6, 0.3])},
        },
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "tpu"], "device is 'tpu', but JAX finds only cpu"),
        (["--batch-size", "100000"], "--batch-size is 100000; expected at most the 1437 training examples"),
        (["--results", "/proc/nowhere"], "--results: /proc/nowhere cannot be written"),
    ],
)
def test_bad_settings_end_it_before_training(arguments, message, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["digits", "--results", str(tmp_path), *arguments])
    with pytest.raises(SystemExit, match=message):
        experiment.main("digits")
    assert "gradient" not in capsys.readouterr().out


def test_a_missed_target_fails(found, monkeypatch, tmp_path):
    monkeypatch.setattr(digits, "measure", lambda config: found | {"config": config})
    monkeypatch.setattr(sys, "argv", ["digits", "--results", str(tmp_path), "--target", "1"])
    with pytest.raises(SystemExit) as caught:
        experiment.main("digits")
    assert caught.value.code == 1
    record = json.loads((tmp_path / "digits" / "metrics.json").read_text())
    assert record["held"] is False and record["metrics"]["clauses"]["mean_test_accuracy"] is False


def test_a_wrong_gradient_is_seen(monkeypatch):
    """A backward pass off by one part in a million: training would never show it, the check does."""
    right = digits.jaxnet.value_and_grad

    def wrong(*arguments):
        J, grads = right(*arguments)
        return J, (grads[0]._replace(W=grads[0].W * (1 + 1e-6)), *grads[1:])

    monkeypatch.setattr(digits.jaxnet, "value_and_grad", wrong)
    net = digits.jaxnet.MLP((64, 64, 10), ("relu", "softmax"))
    report = digits.check_own_gradient(net, digits.datasets.digits(), 0, "float64")
    assert not report and report.leaves["[0].W"].verdict == "FAIL" and report.leaves["[1].W"].verdict == "PASS"
