"""`python -m jaxnet` shows what is there, and its demonstration comes out as it should."""

import re
import subprocess
import sys

import jax
import pytest

import jaxnet
from jaxnet import __main__ as main


@pytest.mark.usefixtures("implicit_promotion")
def test_it_shows_versions_devices_commands_and_a_demonstration(capsys):
    assert main.main([]) == 0
    text = capsys.readouterr().out
    assert f"jaxnet {jaxnet.__version__}, in " in text and f"jax {jax.__version__}" in text
    assert re.search(r"^  8 cpu, where fit trains$", text, re.MULTILINE)
    assert "python -m jaxnet.verify --help" in text and "python -m experiments --help" in text
    assert "FitResult: 2-4-1 in float32, 1000 epochs" in text and "PASS  4 leaves" in text


def test_every_command_that_is_shown_is_there(tmp_path):
    for command in (*main.COMMANDS, *main.IN_THE_REPOSITORY):
        module = re.match(r"python -m (\S+)", command)[1]
        path = main.HERE.parent / module.replace(".", "/")
        assert module == "pytest" or path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
    assert not [line for line in main.commands(tmp_path) if "experiments" in line]  # of what pip has installed


def test_without_a_device_it_says_so(monkeypatch, capsys):
    def none():
        raise RuntimeError("Unable to initialize backend 'tpu'")

    monkeypatch.setattr(jax, "devices", none)
    assert main.main([]) == 1
    assert "JAX finds no device: Unable to initialize backend 'tpu'" in capsys.readouterr().out


@pytest.mark.usefixtures("implicit_promotion")
def test_a_gradient_that_is_wrong_ends_it_with_1(monkeypatch, capsys):
    right = jaxnet.value_and_grad

    def wrong(net, params, X, Y):
        J, grads = right(net, params, X, Y)
        return J, (grads[0]._replace(b=-grads[0].b), grads[1])

    monkeypatch.setattr(jaxnet, "value_and_grad", wrong)
    assert main.main([]) == 1
    assert "FAIL  4 leaves" in capsys.readouterr().out


def test_ctrl_c_ends_it_with_130(monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "demonstration", interrupted)
    assert main.main([]) == 130


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_its_options_touch_no_device(option):
    done = subprocess.run(
        [sys.executable, "-m", "jaxnet", option],
        capture_output=True, text=True, check=True, env={"JAX_PLATFORMS": "none"}, cwd=main.HERE.parent,
    )  # fmt: skip
    assert jaxnet.__version__ in done.stdout or "usage: python -m jaxnet" in done.stdout
