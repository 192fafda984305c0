"""The main job reaches its target, proves its gradients, and fails when it should."""

import json
import subprocess
import sys

import numpy as np
import pytest

from experiments import digits
from experiments.runner import experiment


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The command as a user runs it, in a process of its own."""
    results = tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "experiments.digits", "--results", str(results)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300), results / "digits"


@pytest.mark.slow
def test_it_reads_digits_as_promised(finished):
    process, directory = finished
    assert process.returncode == 0, process.stdout + process.stderr
    record = json.loads((directory / "metrics.json").read_text())
    accuracies = record["metrics"]["test_accuracy"]
    assert len(accuracies) == 10 and np.mean(accuracies) >= 0.97 and record["held"]
    assert record["seconds"] < 30
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "tpu"], "device is 'tpu', but JAX finds only cpu"),
        (["--learning-rate", "-1"], "learning_rate is -1.0; expected a finite number above 0"),
        (["--batch-size", "100000"], "batch_size is 100000 but X has 1437 examples"),
        (["--results", "/proc/nowhere"], "--results: /proc/nowhere/digits cannot be written"),
    ],
)
def test_bad_settings_end_it_before_training(arguments, message, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["digits", "--results", str(tmp_path), *arguments])
    with pytest.raises(SystemExit, match=message):
        experiment.main("digits")
    assert "gradient" not in capsys.readouterr().out


@pytest.mark.usefixtures("implicit_promotion")
def test_a_missed_target_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(
        sys, "argv", ["digits", "--results", str(tmp_path), "--epochs", "1", "--seeds", "1", "--target", "1"]
    )
    with pytest.raises(SystemExit) as caught:
        experiment.main("digits")
    assert caught.value.code == 1
    assert json.loads((tmp_path / "digits" / "metrics.json").read_text())["held"] is False


@pytest.mark.usefixtures("implicit_promotion")
def test_a_wrong_gradient_fails(monkeypatch, tmp_path):
    """A backward pass off by one part in a million: training would never show it, the check does."""
    right = digits.jaxnet.value_and_grad

    def wrong(*arguments):
        J, grads = right(*arguments)
        return J, (grads[0]._replace(W=grads[0].W * (1 + 1e-6)), *grads[1:])

    monkeypatch.setattr(digits.jaxnet, "value_and_grad", wrong)
    result = digits.run(digits.Config(epochs=1, seeds=1, target=0.0, results=tmp_path))
    checks = result.metrics["gradient_check"]
    assert not result.held and checks["float64"]["leaves"]["[0].W"]["verdict"] == "FAIL"
    assert checks["float64"]["leaves"]["[1].W"]["verdict"] == "PASS"
