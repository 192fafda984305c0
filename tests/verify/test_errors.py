"""A mistake of the verifier itself is told, whatever its type; what the user's functions or JAX refuse is not one."""

import compileall
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import traceback
from pathlib import Path
from types import FunctionType, SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from beartype import beartype
from jax.extend.core import Primitive
from jaxtyping import Float, jaxtyped

from jaxnet.verify import GradientMismatch, check_gradients, errors
from jaxnet.verify.errors import RefusedError, UnreadableError, tolerated
from jaxnet.verify.problem import loss as loss_module
from jaxnet.verify.problem.gradient import Manual
from jaxnet.verify.problem.loss import quiet


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
    assert text.startswith("crashed: a step (AttributeError") and "gradient.py:" in text


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
    code = function.__code__.replace(co_filename=loss_module.__file__)
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)


def in_our_file(act):
    """What is told of an act of our own, as in a check."""
    with quiet():
        return troubles_of(as_if_of_ours(act))


def fails_with(error):
    def fails():
        raise error("no")

    return fails


TYPES = [ValueError, ZeroDivisionError, FloatingPointError, RuntimeError, KeyError, TypeError, OSError, StopIteration]


@pytest.mark.parametrize("error", TYPES)
def test_an_error_of_any_type_is_a_mistake_in_our_file_and_none_in_the_user_s(error):
    fails = fails_with(error)
    (text,) = in_our_file(fails)
    assert text.startswith(f"crashed: a step ({error.__name__}") and "loss.py:" in text
    assert in_our_file(lambda: fails()) == []


def no_rule():
    made = Primitive("nobody_s")
    made.def_impl(lambda x: x)
    made.def_abstract_eval(lambda x: x)
    return made.bind


def without_forward_mode():
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda x: (f(x), x), lambda x, c: (c * jnp.cos(x),))
    return f


def host(x):
    raise ValueError("the host function refuses")


def by_callback(x):
    return jax.pure_callback(host, jax.ShapeDtypeStruct((), x.dtype), x)


def doubling(x):
    return jax.lax.while_loop(lambda x: x < 10, lambda x: 2 * x, x)


ONE, MATRIX = np.float32(1), -np.eye(2)
OF_A_LIBRARY = {  # what we may have asked of a library, with its wrong arguments
    "LinAlgError": lambda: np.linalg.cholesky(MATRIX),
    "ValueError": lambda: np.ones(3) @ np.ones(4),
    "IndexError": lambda: np.ones(3)[4],
    "StatisticsError": lambda: statistics.NormalDist().inv_cdf(2.0),
    "TypeError": lambda: jax.lax.mul(np.ones(3, np.float32), np.ones(3, np.int32)),
    "TracerArrayConversionError": lambda: jax.make_jaxpr(as_if_of_ours(lambda x: np.asarray(x)))(ONE),
}
NO_RULE, ONE_WAY = no_rule(), without_forward_mode()
REFUSED = {  # what JAX refuses on purpose, of a program that we have read
    "reverse mode through a while loop": lambda: jax.jit(jax.grad(doubling))(ONE),
    "forward mode of a rule for reverse mode": lambda: jax.jvp(ONE_WAY, (ONE,), (ONE,)),
    "no derivative": lambda: jax.grad(NO_RULE)(ONE),
    "no lowering": lambda: jax.jit(NO_RULE)(ONE),
    "no batching": lambda: jax.vmap(NO_RULE)(np.ones(3)),
    "the derivative of a callback": lambda: jax.jit(jax.grad(by_callback))(ONE),
    "a host function": lambda: jax.block_until_ready(jax.jit(by_callback)(ONE)),
    "the value of what is traced": lambda: jax.make_jaxpr(np.asarray)(ONE),
    "the truth of what is traced": lambda: jax.jit(bool)(ONE),
    "too little memory": fails_with(MemoryError),
    "our own": fails_with(UnreadableError),
}


@pytest.mark.parametrize("error", OF_A_LIBRARY)
def test_what_a_library_says_of_our_arguments_is_our_mistake_and_of_the_user_s_theirs(error):
    act = OF_A_LIBRARY[error]
    (text,) = in_our_file(act)
    assert text.startswith(f"crashed: a step ({error}"), text
    with quiet():
        assert error.startswith("Tracer") or troubles_of(act) == []


@pytest.mark.parametrize("whole_tracebacks", [True, False])
@pytest.mark.parametrize("what", REFUSED)
def test_what_jax_refuses_on_purpose_is_no_mistake(what, whole_tracebacks, capfd):
    with quiet() if whole_tracebacks else contextlib.nullcontext():
        assert troubles_of(as_if_of_ours(REFUSED[what])) == []


def test_a_mistake_of_ours_that_jax_passes_on_is_told():
    fails = as_if_of_ours(fails_with(ValueError))
    (text,) = in_our_file(lambda: jax.jit(lambda x: fails())(ONE))
    assert "crashed: a step (ValueError" in text


def test_a_value_that_we_took_out_of_a_trace_is_our_mistake():
    def leaks():
        kept = []
        jax.jit(lambda x: kept.append(x))(ONE)
        return kept[0] + 1

    (text,) = in_our_file(leaks)
    assert "crashed: a step (UnexpectedTracerError" in text


@jaxtyped(typechecker=beartype)
def typed(x: Float[np.ndarray, "3 3"]):
    return x


THEIRS = {  # functions of the user's that are wholly a library's, so that no call of the user's own leads to the error
    "NumPy": (np.linalg.cholesky, MATRIX),
    "a wrong number of arguments": (np.sin, 1.0, 2.0, 3.0, 4.0),
    "a jitted function": (jax.jit(lambda x, static: x, static_argnums=1), ONE, [1]),
    "a checked signature": (typed, ONE),
    "a solver": (scipy.linalg.cholesky, MATRIX),
}


@pytest.mark.parametrize("what", THEIRS)
def test_what_a_function_of_the_user_s_raises_is_theirs_even_from_within_a_library(what):
    function, *arguments = THEIRS[what]
    assert in_our_file(lambda: errors.call_user(function, *arguments)) == []
    (text,) = in_our_file(lambda: function(*arguments))
    assert text.startswith("crashed: a step")


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
    shutil.copytree(Path(errors.__file__).parent, installed / "verify", ignore=shutil.ignore_patterns("__pycache__"))
    (installed / "__init__.py").write_text("")
    with (installed / "verify" / "problem" / "loss.py").open("a") as file:
        file.write(PLANTED)
    if not with_source:
        assert compileall.compile_dir(installed, quiet=1, legacy=True)
        for source in installed.rglob("*.py"):
            source.unlink()
    environment = {**os.environ, "PYTHONPATH": str(installed.parent)}
    command = [sys.executable, "-c", ASKED]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert "crashed: reverse autodiff (AttributeError" in done.stdout and "loss.py:" in done.stdout, done


def test_a_name_that_is_not_defined_is_no_refusal(monkeypatch):
    """A witness with such a line once fell silent."""

    def broken(self, seed=0, shake=0.0):
        return undefined  # noqa: F821

    monkeypatch.setattr(loss_module.Problem, "reverse", as_if_of_ours(broken))
    report = check_gradients(lambda x: jnp.sum(x**2), lambda x: 2 * x, jnp.ones(3), raise_=False)
    assert any(text.startswith("crashed: reverse autodiff (NameError") for text in report.notes), report.notes


def test_an_error_in_our_own_arithmetic_is_told_and_the_check_goes_on(monkeypatch):
    """NumPy refuses what we gave it: it once passed for an honest "cannot"."""

    def broken(self, values=None, given=None):
        return np.linalg.cholesky(-np.eye(2))

    monkeypatch.setattr(loss_module.Problem, "double", as_if_of_ours(broken))
    report = check_gradients(lambda x: jnp.sum(x**2), lambda x: 2 * x, jnp.ones(3), raise_=False)
    assert any(text.startswith("crashed: float64 (LinAlgError") for text in report.notes), report.notes


@pytest.mark.usefixtures("mistakes_are_raised")
def test_what_the_user_s_loss_refuses_is_never_told_as_ours():
    """A host function that takes one shape, a loss in NumPy that refuses a step, a rule by a while loop."""

    def in_numpy(w):
        return float(np.sum(np.linalg.cholesky(np.diag(np.asarray(w, np.float64))) ** 2))

    report = check_gradients(in_numpy, lambda w: np.ones(3, np.float32), np.ones(3, np.float32))
    assert not any("crashed" in text for text in report.notes), report.notes

    def looped(x):
        return jnp.sum(jax.lax.while_loop(lambda x: jnp.sum(x) < 10, lambda x: 2 * x, x))

    report = check_gradients(looped, lambda x: 4 * jnp.ones(3), jnp.ones(3), witnesses="full", raise_=False)
    assert report.passed and not any("crashed" in text for text in report.notes), str(report)


@pytest.mark.parametrize(("returned", "said"), [(np.ones(3), "shape (3,)"), ("one", "a str"), (1j, "complex")])
def test_a_loss_in_numpy_that_returns_no_scalar_is_refused_by_name(returned, said):
    def loss(w):
        np.asarray(w)
        return returned

    with pytest.raises(TypeError, match="loss must return a") as refused:
        check_gradients(loss, lambda w: w, np.ones(3, np.float32))
    assert said in str(refused.value)


def test_pytest_shows_the_test_and_none_of_our_calls():
    with pytest.raises(GradientMismatch) as raised:
        check_gradients(lambda w: jnp.sum(w**2), lambda w: w, jnp.ones(3))
    frames = [frame for frame, _ in traceback.walk_tb(raised.value.__traceback__)]
    ours = [frame for frame in frames if "/jaxnet/verify/" in frame.f_code.co_filename]
    assert len(ours) >= 2 and all(frame.f_locals.get("__tracebackhide__") for frame in ours), ours


def test_a_gradient_that_takes_what_the_loss_has_kept_is_told_so():
    class Net:
        def loss(self, w, X):
            self.A = jnp.tanh(X @ w)
            return jnp.mean(self.A**2)

        def gradient(self, w, X):
            return X.T @ (2 * self.A * (1 - self.A**2) / self.A.size)

    net = Net()
    with pytest.raises(RefusedError, match="a forward pass that stores its activations: compute them in grad_fn"):
        check_gradients(net.loss, net.gradient, np.ones((5, 2), np.float32), np.ones((3, 5), np.float32))


def test_a_complex_gradient_of_a_real_leaf_and_a_reference_that_is_no_number():
    w, loss = np.ones(3, np.float32), lambda w: jnp.sum(jnp.sin(w))
    report = check_gradients(loss, lambda w: jnp.cos(w) + 1j, w, raise_=False)
    assert report.verdict == "FAIL" and "complex numbers, for a leaf that is real" in str(report), str(report)
    with pytest.raises(RefusedError, match=r"must return a scalar, it returned shape \(3,\)"):
        check_gradients(loss, jnp.cos, w, reference=jnp.sin)
