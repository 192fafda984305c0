"""The command line's exit statuses and messages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify.__main__ import main

HERE = __name__
TEXT = "a name that is not a function"
make_params = np.ones((3, 2), np.float32)


def loss(x, y):
    return jnp.sum(jnp.sin(x) * y)


def right(x, y):
    return jnp.cos(x) * y


def wrong(x, y):
    return 2 * jnp.cos(x) * y


def make_args(key):
    return (np.full((3, 2), 2.0, np.float32),)


def dead_loss(x, y):
    return 0 * jnp.sum(x * y)


def dead_gradient(x, y):
    return 0 * x


def two_arguments(a, b):
    return a


def run(*arguments):
    return main([a.replace("@", f"{HERE}:") for a in arguments])


POINT = ("--params", "@make_params", "--args", "@make_args")


@pytest.mark.parametrize(
    ("loss", "grad", "status"), [("@loss", "@right", 0), ("@loss", "@wrong", 1), ("@dead_loss", "@dead_gradient", 3)]
)
def test_the_exit_status_is_the_verdict(loss, grad, status, capsys):
    assert run(loss, grad, *POINT) == status
    assert "witness" in capsys.readouterr().out


def test_json_is_written(tmp_path):
    assert run("@loss", "@wrong", *POINT, "--json", str(tmp_path / "out.json")) == 1
    assert json.loads((tmp_path / "out.json").read_text())["verdict"] == "FAIL"


def another_tree(x, y):
    return {"x": right(x, y)}


def test_an_older_report_is_not_taken_for_this_one(tmp_path, capsys):
    out = tmp_path / "out.json"
    assert run("@loss", "@right", *POINT, "--json", str(out)) == 0
    assert run("@loss", "@broken", *POINT, "--json", str(out)) == 2
    assert out.read_text() == ""
    assert run("@loss", "@another_tree", *POINT, "--json", str(out)) == 1
    assert json.loads(out.read_text())["verdict"] == "FAIL" and "trees differ" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("@loss", "@right", "--params", "no.such:thing"), "--params is 'no.such:thing': cannot import 'no.such'"),
        (("@loss", "@right", "--params", "@nothing"), "has no 'nothing'"),
        (("@loss", "@right", "--params", "json"), "expected pkg.mod:name"),
        (("@loss", "@right", "--params", "@two_arguments"), "takes 2 arguments"),
        (("@loss",), "expected LOSS GRADIENT --params"),
        (("@loss", "--vjp"), "--vjp needs --args"),
        (("@loss", "@TEXT", *POINT), f"the gradient is '{HERE}:TEXT': that is a str; expected a function"),
        (("@TEXT", "@right", *POINT), f"the loss is '{HERE}:TEXT': that is a str; expected a function"),
        (("@loss", "@right", *POINT, "--reference", "@TEXT"), "--reference is"),
        (("@TEXT", "--vjp", "--args", "@make_args"), "the function is"),
        (("@right_rule", "--vjp", "--args", "@make_args", "--reference", "@TEXT"), "--reference is"),
        (("@right_rule", "--vjp", "--args", "@make_args", "--intended", "@TEXT"), "--intended is"),
        (("@right_rule", "--vjp", "--args", "@make_args", "--kwargs", "@TEXT"), "expected a dictionary of keyword"),
        (("@loss", "@right", *POINT, "--intended", "@right"), "--intended is for --vjp"),
        (("@loss", "@right", *POINT, "--kwargs", "@right"), "--kwargs is for --vjp"),
        (("@loss", "@right", *POINT, "--accuracy", "2"), "accuracy=2.0: give a number"),
        (("@loss", "@right", *POINT, "--expected-zero", "W"), "expected_zero names 'W', but the leaves are params"),
    ],
)
def test_bad_use_exits_2_and_says_what(arguments, message, capsys):
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


def with_rule(factor):
    sine = jax.custom_vjp(jnp.sin)
    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, c: (factor * c * jnp.cos(x),))
    return sine


right_rule, wrong_rule = with_rule(1.0), with_rule(1.01)


def test_vjp_checks_a_rule():
    assert run("@right_rule", "--vjp", "--args", "@make_args") == 0
    assert run("@wrong_rule", "--vjp", "--args", "@make_args") == 1
    assert run("@right", "--vjp", "--args", "@make_pair") == 3  # no rule: nothing is proved


def straight(x, *, scale=1.0):
    return with_straight_through(x) * scale


with_straight_through = jax.custom_vjp(lambda x: jnp.round(x))
with_straight_through.defvjp(lambda x: (jnp.round(x), None), lambda _, c: (c,))


def meant(x, c, *, scale=1.0):
    return c * scale


def sine_of_host(x):
    return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x), x.size


hidden_rule = jax.custom_vjp(sine_of_host)
hidden_rule.defvjp(lambda x: (sine_of_host(x), x), lambda x, c: (c[0] * jnp.cos(x),))


def sine_in_jax(x):
    return jnp.sin(x), x.size


make_keywords = {"scale": 2.0}


def test_vjp_takes_what_is_meant_a_reference_and_keywords(capsys):
    at = ("--vjp", "--args", "@make_args")
    assert run("@straight", *at) == 1
    assert run("@straight", *at, "--intended", "@meant", "--kwargs", "@make_keywords") == 0
    capsys.readouterr()
    assert run("@hidden_rule", *at, "--reference", "@sine_in_jax", "--has-aux") == 0
    assert "autodiff was taken of reference=" in capsys.readouterr().out
    assert run("@wrong_rule", *at, "--accuracy", "0.02") == 0
    assert run("@dead_loss", "@dead_gradient", *POINT, "--expected-zero", "") == 0


def make_pair():
    return make_params, make_params


def broken(x, y):
    raise KeyError("weights")


def test_what_is_no_verdict_is_usage(capsys, tmp_path):
    """A gradient that raises, or a report that can't be written, is not a wrong gradient."""
    arguments = ("--params", "@make_params", "--args", "@make_args")
    assert run("@loss", "@broken", *arguments) == 2
    assert "KeyError: 'weights'" in capsys.readouterr().err
    assert run("@loss", "@right", *arguments, "--json", str(tmp_path / "no" / "x.json")) == 2


# ---- whoever ends the interpreter, no verdict is read off it ---------------------------------------------------------
def leaves(*arguments):
    sys.exit(0)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("@loss", "@leaves", *POINT), "SystemExit(0) was raised by leaves (test_cli.py:"),
        (("@leaves", "@right", *POINT), "SystemExit(0) was raised by leaves (test_cli.py:"),
        (("@loss", "@right", "--params", "@leaves_without_params"), "--params is"),
        (("leaving:loss", "@right", *POINT), "the loss is 'leaving:loss': cannot import 'leaving': SystemExit(0)"),
    ],
)
def test_an_exit_of_the_users_is_usage(arguments, named, capsys, tmp_path, monkeypatch):
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert run(*arguments) == 2
    told = capsys.readouterr().err
    assert named in told and "SystemExit(0) was raised by" in told


def leaves_without_params():
    sys.exit(0)


class Odd(BaseException):
    """What no `except Exception` sees."""


def raises_odd(x, y):
    raise Odd("not an Exception")


def test_what_is_no_exception_is_usage(capsys):
    assert run("@loss", "@raises_odd", *POINT) == 2
    assert "Odd: not an Exception" in capsys.readouterr().err


def interrupts(x, y):
    raise KeyboardInterrupt


def test_an_interrupt_is_one_line_and_130(capsys):
    assert run("@loss", "@interrupts", *POINT) == 130
    assert capsys.readouterr() == ("", "interrupted: no verdict\n")


# ---- a report that cannot be written is no wrong gradient ------------------------------------------------------------
class Disk:
    """A stream with no room left, over a real file."""

    name, encoding = "<stdout>", "utf-8"

    def __init__(self, file):
        self.file = file

    def write(self, text):
        raise OSError(28, "No space left on device")

    def flush(self):
        pass

    def fileno(self):
        return self.file.fileno()


@pytest.mark.parametrize("gradient", ["@right", "@wrong"])
def test_a_full_disk_is_no_verdict(gradient, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.json"
    with (tmp_path / "stdout").open("w") as file:
        monkeypatch.setattr(sys, "stdout", Disk(file))
        assert run("@loss", gradient, *POINT, "--json", str(out)) == 2
    assert "the report cannot be written: <stdout>: No space left on device" in capsys.readouterr().err
    assert json.loads(out.read_text())["verdict"]  # what can be written is


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the device that is always full is Linux's")
def test_a_json_that_cannot_be_written_is_no_verdict(capsys):
    assert run("@loss", "@right", *POINT, "--json", "/dev/full") == 2
    printed = capsys.readouterr()
    assert "PASS" in printed.out and "--json /dev/full: No space left on device" in printed.err


COMMAND = [sys.executable, "-m", "jaxnet.verify", *(a.replace("@", f"{HERE}:") for a in ("@loss", "@right", *POINT))]
HOUSE = Path(__file__).parents[2]


def test_an_encoding_without_the_signs_of_the_report_escapes_them():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(COMMAND, capture_output=True, text=True, env=environment, cwd=HOUSE)
    assert done.returncode == 0 and "PASS" in done.stdout and r"\u2016" in done.stdout, done


def test_a_pipe_that_nobody_reads_is_no_verdict():
    """In a process of its own: Python flushes once more when it ends."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run(COMMAND, stdout=closed, stderr=subprocess.PIPE, text=True, cwd=HOUSE)
    assert (done.returncode, done.stderr) == (2, "error: the report cannot be written: <stdout>: Broken pipe\n")


def stopped_rule(x):
    sine = jax.custom_vjp(jnp.sin)
    sine.defvjp(lambda x: (jnp.sin(x), jax.lax.stop_gradient(x)), lambda x, c: (c * jnp.cos(x),))
    return sine(x)


def test_the_order_is_passed_on(capsys):
    point = ("@stopped_rule", "--vjp", "--args", "@make_args")
    assert run(*point) == 0 and "order 2" not in capsys.readouterr().out
    assert run(*point, "--order", "2") == 1 and "x, order 2" in capsys.readouterr().out
