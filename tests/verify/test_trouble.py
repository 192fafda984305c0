"""A mistake of the verifier itself is told; what the user's functions refuse is not one."""

import compileall
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import FunctionType, SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from jaxnet.verify import check_gradients, witnesses
from jaxnet.verify.manual import Manual
from jaxnet.verify.trouble import RefusedError, tolerated


@pytest.fixture
def mistakes_are_raised():
    """Here they are told, as users see them."""


def troubles_of(act):
    problem = SimpleNamespace(troubles=[])
    with tolerated(problem, "a step"):
        act()
    return problem.troubles


def test_an_error_of_the_users_is_no_crash():
    assert troubles_of(lambda: {}["missing"]) == []


def test_a_refusal_of_jax_is_no_crash():
    assert troubles_of(lambda: jax.grad(jnp.sin)(1)) == []


def test_our_own_mistake_is_a_crash_with_its_place():
    (text,) = troubles_of(lambda: Manual.eager(None))
    assert text.startswith("crashed: a step (AttributeError") and "manual.py:" in text


def test_what_we_refuse_on_purpose_is_no_crash():
    def refuses():
        raise RefusedError("loss must return a scalar")

    assert troubles_of(as_if_of_ours(refuses)) == []


@pytest.mark.parametrize(
    ("package", "file"), [("somebodys_package", "/env/site-packages/theirs.py"), ("__main__", "<stdin>")]
)
def test_an_error_of_the_users_is_no_crash_wherever_it_is_written(package, file):
    places = {"__name__": package}
    exec(compile("def fails(): {}['missing']", file, "exec"), places)
    assert troubles_of(as_if_of_ours(lambda fails=places["fails"]: fails())) == []


def as_if_of_ours(function):
    """The function as if it stood in a file of the verifier."""
    code = function.__code__.replace(co_filename=witnesses.__file__)
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)


PLANTED = """
def _broken(self, *arguments, **options):
    return self.no_such_attribute
Problem.reverse = _broken
"""
ASKED = """
import jax.numpy as jnp, jaxnet.verify, numpy as np
assert "site-packages" in jaxnet.verify.__file__, jaxnet.verify.__file__
def loss(x):
    return jnp.sum(x**2)
print(jaxnet.verify.check_gradients(loss, lambda x: 2 * x, np.ones(3, np.float32), raise_=False).notes)
"""


@pytest.mark.parametrize("with_source", [True, False])
def test_our_own_mistake_is_a_crash_where_the_verifier_is_installed_too(tmp_path, with_source):
    installed = tmp_path / "site-packages" / "jaxnet"
    shutil.copytree(Path(witnesses.__file__).parent, installed / "verify", ignore=shutil.ignore_patterns("__pycache__"))
    (installed / "__init__.py").write_text("")
    with (installed / "verify" / "witnesses.py").open("a") as file:
        file.write(PLANTED)
    if not with_source:
        assert compileall.compile_dir(installed, quiet=1, legacy=True)
        for source in installed.rglob("*.py"):
            source.unlink()
    environment = {**os.environ, "PYTHONPATH": str(installed.parent)}
    command = [sys.executable, "-c", ASKED]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert "crashed: reverse autodiff (AttributeError" in done.stdout and "witnesses.py:" in done.stdout, done


def test_a_name_that_is_not_defined_is_no_refusal(monkeypatch):
    """A witness with such a line once fell silent."""

    def broken(self, seed=0, shake=0.0):
        return undefined  # noqa: F821

    monkeypatch.setattr(witnesses.Problem, "reverse", as_if_of_ours(broken))
    report = check_gradients(lambda x: jnp.sum(x**2), lambda x: 2 * x, jnp.ones(3), raise_=False)
    assert any(text.startswith("crashed: reverse autodiff (NameError") for text in report.notes), report.notes
