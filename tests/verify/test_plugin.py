"""The pytest plugin: the fixture, its failure text, and its options."""

import subprocess
import sys
import textwrap

SUITE = """
import jax.numpy as jnp
import numpy as np

X = np.ones((2, 3), np.float32)

def test_right(check_gradients):
    assert check_gradients(lambda x: jnp.sum(jnp.sin(x)), jnp.cos, X)

def test_wrong(check_gradients):
    check_gradients(lambda x: jnp.sum(jnp.sin(x)), lambda x: 2 * jnp.cos(x), X)

def test_another_tree(check_gradients):
    check_gradients(lambda x: jnp.sum(jnp.sin(x)), lambda x: {}, X)
"""


def pytest_run(tmp_path, *options):
    (tmp_path / "test_suite.py").write_text(textwrap.dedent(SUITE))
    command = [sys.executable, "-m", "pytest", str(tmp_path), "-c", "/dev/null", *options]  # by its entry point alone
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_the_fixture_fails_with_the_table_and_the_seed(tmp_path):
    out = pytest_run(tmp_path, "--gradients=full", "--gradients-seed=7", "-p", "no:cacheprovider")
    assert "2 failed, 1 passed" in out, out
    assert "params and gradient trees differ" in out and "Traceback" not in out and "check.py" not in out, out
    assert "jaxnet gradients: full, seed 7" in out and "--gradients-seed=7" in out
    assert "rel.err" in out and "factor 2" in out and "witness 6" in out
