"""The pytest plugin: the fixtures, their failure text, and their options."""

import os
import subprocess
import sys
import textwrap

SUITE = """
import jax
import jax.numpy as jnp
import numpy as np

X = np.ones((2, 3), np.float32)

def test_right(check_gradients):
    assert check_gradients(lambda x: jnp.sum(jnp.sin(x)), jnp.cos, X)

def test_wrong(check_gradients):
    check_gradients(lambda x: jnp.sum(jnp.sin(x)), lambda x: 2 * jnp.cos(x), X)

def test_another_tree(check_gradients):
    check_gradients(lambda x: jnp.sum(jnp.sin(x)), lambda x: {}, X)

def test_nothing_proved(check_gradients):
    check_gradients(lambda x: jnp.sum(x ** 2), lambda x: 2 * x, 0 * X)

def test_nothing_proved_is_enough(check_gradients):
    check = lambda **options: check_gradients(lambda x: jnp.sum(x ** 2), lambda x: 2 * x, 0 * X, **options)
    assert check(raise_="fail").verdict == check(raise_=False).verdict == "INCONCLUSIVE"

def sine(factor):
    f = jax.custom_vjp(lambda x: jnp.sin(x))
    f.defvjp(lambda x: (f(x), x), lambda x, c: (factor * c * jnp.cos(x),))
    return f

def test_right_rule(check_vjp):
    assert check_vjp(sine(1), X)
    assert "x, order 2" in check_vjp(sine(1), X, order=2).leaves
    assert check_vjp(sine(2), X, raise_=False).verdict == "FAIL"

def test_wrong_rule(check_vjp):
    check_vjp(sine(3), X)

def test_no_rule(check_vjp):
    check_vjp(jnp.sin, X)

def test_no_option(check_vjp):
    check_vjp(sine(1), X, axis=1)
"""


def pytest_run(tmp_path, *options):
    (tmp_path / "test_suite.py").write_text(textwrap.dedent(SUITE))
    command = [sys.executable, "-m", "pytest", str(tmp_path), "-c", "/dev/null", *options]  # by its entry point alone
    # Where CI is set, pytest repeats each failure's whole text in its summary.
    env = {name: value for name, value in os.environ.items() if name not in ("CI", "BUILD_NUMBER")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env).stdout


def test_the_fixtures_fail_with_the_table_and_the_seed(tmp_path):
    out = pytest_run(tmp_path, "--gradients=full", "--gradients-seed=7", "-p", "no:cacheprovider")
    assert "6 failed, 3 passed" in out, out
    assert "params and gradient trees differ" in out and "Traceback" not in out, out
    assert "api.py" not in out.partition("test_no_option")[0], out  # no line of ours above the table
    assert "jaxnet gradients: full, seed 7" in out and out.count("(seed 7: --gradients-seed=7)") == 5
    assert "rel.err" in out and "x: a factor 3 on every entry" in out and "factor 2" in out and "witness 6" in out
    assert out.count("GradientInconclusive") >= 2 and "decorate f with jax.custom_vjp" in out
    assert "check_vjp has no option 'axis'" in out
