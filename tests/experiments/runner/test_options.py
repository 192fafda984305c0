"""Constraints in the types of a Config's fields: refused by name, shown by --help."""

import dataclasses
import re
from typing import Annotated

import pytest

from experiments.runner import experiment, options
from experiments.runner.options import NonNegative, Positive, Range, Rising, Share


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """One field of each kind."""

    steps: Positive[int] = 10
    """Steps."""
    layers: Annotated[int, Range(2)] = 3
    """Layers."""
    learning_rate: Positive[float] = 0.1
    """The rate."""
    decay: NonNegative[float] = 0.0
    """Weight decay."""
    target: Share = 0.9
    """Least accuracy."""
    widths: tuple[Positive[int], ...] = (4, 8)
    """Hidden units."""
    scales: Annotated[tuple[NonNegative[float], ...], Rising(first=0)] = (0.0, 1.0)
    """Scales."""
    name: str = "free"
    """Without a constraint."""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "--steps is 0; expected an integer of at least 1, such as --steps 10"),
        ({"steps": 1.5}, "--steps is 1.5; expected an integer of at least 1, such as --steps 10"),
        ({"steps": True}, "--steps is True; expected an integer"),
        ({"steps": "3"}, "--steps is 3; expected an integer"),
        ({"layers": 1}, "--layers is 1; expected an integer of at least 2, such as --layers 3"),
        ({"learning_rate": 0.0}, "--learning-rate is 0.0; expected a finite number above 0, such as --learning"),
        ({"learning_rate": float("nan")}, "--learning-rate is nan; expected a finite number above 0"),
        ({"learning_rate": float("inf")}, "--learning-rate is inf; expected a finite number above 0"),
        ({"decay": -0.1}, "--decay is -0.1; expected a finite number of at least 0, such as --decay 0.0"),
        ({"target": 1.1}, "--target is 1.1; expected a finite number from 0 to 1, such as --target 0.9"),
        ({"widths": (4, 0)}, "--widths is 0; expected an integer of at least 1, such as --widths 4 8"),
        ({"widths": 4}, "--widths 4: expected a tuple of values, such as --widths 4 8"),
        ({"widths": ()}, "--widths has no value; expected one or more, such as --widths 4 8"),
        ({"widths": (4, 5, 4)}, "--widths 4 5 4 names a value twice; expected each once, such as --widths 4 8"),
        ({"scales": (0.0, 2.0, 1.0)}, "--scales 0.0 2.0 1.0: expected values that rise from 0, such as --scales"),
        ({"scales": (1.0, 2.0)}, "--scales 1.0 2.0: expected values that rise from 0"),
        ({"scales": (0.0, -1.0)}, "--scales is -1.0; expected a finite number of at least 0"),
        ({"seed": -1}, "--seed is -1; expected an integer from 0 to 2147483647, such as --seed 0"),
        ({"seed": 2**31}, "--seed is 2147483648; expected an integer from 0"),
    ],
)  # fmt: skip
def test_a_value_that_its_type_excludes_is_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Config(**settings)


def test_values_at_the_limits_are_taken():
    Config(steps=1, layers=2, learning_rate=1e-30, decay=0, target=1, widths=(1,), scales=(0,), seed=2**31 - 1)


def test_help_shows_the_constraints(capsys):
    with pytest.raises(SystemExit):
        options.parse(Config, "program", "What it does.", ["--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", "").split())
    for text in (
        "--steps INT>0 Steps. (default: 10)",
        "--layers INT≥2",
        "--learning-rate FLOAT>0",
        "--decay FLOAT≥0",
        "--target FLOAT 0..1",
        "--widths INT>0 ... Hidden units. (default: 4 8)",
        "--scales FLOAT≥0 ...",
        "--name STR",
        "--seed INT 0..2147483647",
    ):
        assert text in shown


def test_the_command_line_makes_the_config_itself():
    config = options.parse(Config, "program", "", ["--widths", "1", "2", "--steps", "3", "--quick"])
    assert config == Config(widths=(1, 2), steps=3, quick=True) and type(config) is Config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--widths"], "--widths has no value"),
        (["--learning-rate", "-1"], "--learning-rate is -1.0; expected a finite"),
    ],
)
def test_a_bad_option_is_named_on_the_command_line(arguments, message, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        options.parse(Config, "program", "", arguments)
    assert message in " ".join("".join(capsys.readouterr()).replace("│", "").split())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("representation", {"scale": 0.0}, "--scale is 0.0; expected a finite number above 0"),
        ("vectorization", {"largest": 0}, "--largest is 0"),
        ("activations", {"deep": 1}, "--deep is 1; expected an integer of at least 2"),
        ("activations", {"seeds": 0}, "--seeds is 0"),
        ("linearity", {"depths": (0,)}, "--depths is 0"),
        ("linearity", {"depths": ()}, "--depths has no value; expected one or more, such as --depths 1 2 4 8"),
        ("linearity", {"learning_rate": -1.0}, "--learning-rate is -1.0"),
        ("house_prices", {"splits": 0}, "--splits is 0"),
        ("house_prices", {"houses": 99}, "--houses is 99; expected an integer of at least 100"),
        ("backpropagation", {"steps": 1}, "--steps is 1; expected an integer of at least 2"),
        ("digits", {"learning_rate": -1.0}, "--learning-rate is -1.0; expected a finite number above 0"),
        ("digits", {"weight_decay": -1.0}, "--weight-decay is -1.0"),
        ("planar", {"learning_rate": -1.0}, "--learning-rate is -1.0; expected a finite number above 0"),
        ("planar", {"hidden": (0,)}, "--hidden is 0; expected an integer of at least 1"),
        ("planar", {"hidden": (1, 2)}, "--hidden 1 2: expected 4 units or more in one net"),
        ("planar", {"hidden": (4, 5, 4)}, "--hidden 4 5 4 names a value twice; expected each once"),
        ("planar", {"init_scale": 0.0}, "--init-scale is 0.0"),
        ("symmetry", {"steps": 0}, "--steps is 0"),
        ("symmetry", {"init_scale": -1.0}, "--init-scale is -1.0"),
        ("gradient_check", {"init_scale": 0.0}, "--init-scale is 0.0"),
        ("init_scale", {"scales": (1.0, 0.1)}, "--scales 1.0 0.1: expected values that rise, such as --scales 0.0001"),
        ("init_scale", {"scales": (-1.0, 1.0)}, "--scales is -1.0"),
        ("mnist", {"seeds": 0}, "--seeds is 0"),
        ("mnist", {"learning_rates": (0.0,)}, "--learning-rates is 0.0"),
        ("mnist", {"learning_rates": ()}, "--learning-rates has no value; expected one or more, such as"),
        ("mnist", {"weight_decay": float("nan")}, "--weight-decay is nan"),
        ("privacy", {"noise": (1.0, 2.0)}, "--noise 1.0 2.0: expected values that rise from 0"),
        ("privacy", {"noise": (0.0, 1.0, 1.0)}, "--noise 0.0 1.0 1.0 names a value twice"),
        ("privacy", {"noise": (0.0, float("inf"))}, "--noise is inf; expected a finite number"),
        ("sweep", {"rates": 2}, "--rates is 2; expected an integer of at least 3"),
        ("sweep", {"slowest": -1.0}, "--slowest is -1.0; expected a finite number from 1e-30 to 1e+30"),
        ("sweep", {"slowest": 1.0, "fastest": 0.1}, "--slowest 1.0 --fastest 0.1: expected rates that rise"),
        ("sweep", {"fastest": float("nan")}, "--fastest is nan"),
        ("verifier", {"seeds": 0}, "--seeds is 0"),
        ("verifier", {"patience": -1.0}, "--patience is -1.0"),
    ],
)
def test_every_experiment_refuses_bad_settings(name, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        experiment.load(name).Config(**settings)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mnist", {"path": "/nowhere"}, "expected an .npz file, or a directory"),
        ("verifier", {"cases": ("x_1.001", "nonsense")}, "--cases nonsense: expected one of"),
    ],
)
def test_what_only_a_measurement_can_see_is_refused_there(name, settings, message):
    module = experiment.load(name)
    with pytest.raises(ValueError, match=message):
        module.measure(module.Config(**settings))


def test_quick_replaces_defaults_and_keeps_what_is_chosen():
    planar = experiment.load("planar")
    config = planar.Config(quick=True, steps=10)
    assert (config.hidden, config.steps) == ((1, 4), 10)
    assert planar.Config(steps=10).hidden == (1, 2, 3, 4, 5, 20, 50)
    assert planar.Config(quick=True).steps == 5000
