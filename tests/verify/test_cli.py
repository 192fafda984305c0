"""The command line's exit statuses and messages."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify.__main__ import main

HERE = __name__
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
