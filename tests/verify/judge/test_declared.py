"""What is declared of a leaf: an accuracy that is less than rounding, and that it is dead on purpose."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import GradientInconclusive, check_gradients, check_vjp

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
PARAMS = {"w": X, "b": X[0]}


def loss(p):
    return jnp.sum(jnp.sin(p["w"])) + jnp.sum(p["b"] ** 2)


def off_by(w=0.0, b=0.0):
    """The gradient, each leaf off by a share of its norm that is spread over its entries."""
    return lambda p: {"w": (1 + w) * jnp.cos(p["w"]), "b": (1 + b) * 2 * p["b"]}


def verdicts(report):
    return {path: leaf.verdict for path, leaf in report.leaves.items()}


# ---- accuracy ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("witnesses", ["auto", "full"])
def test_an_error_up_to_the_declared_accuracy_passes_and_no_larger_one(witnesses, dtype):
    params = {name: x.astype(dtype) for name, x in PARAMS.items()}
    check = functools.partial(check_gradients, loss, params=params, raise_=False, witnesses=witnesses)
    for error, verdict in ((0.99e-4, "PASS"), (1.01e-4, "FAIL"), (2e-4, "FAIL")):
        assert check(grad_fn=off_by(error), accuracy=1e-4).verdict == verdict, error
        assert check(grad_fn=off_by(-error), accuracy=1e-4).verdict == verdict, error
    assert check(grad_fn=off_by(0.5e-4)).verdict == "FAIL"  # of nothing declared


def test_it_never_makes_a_tolerance_narrower():
    """Numbers are held against their noise, as without; it is the formula in float64 that has to be so exact."""
    low = {"w": X.astype(jnp.bfloat16), "b": X[0].astype(jnp.bfloat16)}
    right = lambda p: {"w": jnp.cos(p["w"]), "b": 2 * p["b"]}
    plain, declared = check_gradients(loss, right, low), check_gradients(loss, right, low, accuracy=1e-6)
    for path, leaf in plain.leaves.items():
        assert declared.leaves[path].score == leaf.score and declared.leaves[path].resolution == leaf.resolution
    assert "accuracy" not in str(declared)


@pytest.mark.parametrize(("error", "accuracy"), [(0.0, 1e-3), (5e-4, 1e-3), (0.02, 1e-2), (0.02, 1e-1)])
def test_noise_is_no_looser_than_what_is_declared(error, accuracy):
    """bfloat16 hides 10 % of these numbers: a formula is read in float64, numbers alone are left open."""
    x = jnp.asarray(X, jnp.bfloat16)
    factor = np.float64(1 + error)
    ruled = jax.custom_vjp(jnp.tanh)
    ruled.defvjp(
        lambda x: (jnp.tanh(x), jnp.tanh(x)),
        lambda a, c: ((c.astype(jnp.float32) * (1 - a.astype(jnp.float32) ** 2) * factor).astype(c.dtype),),
    )
    right = "PASS" if error <= accuracy else "FAIL"
    assert check_vjp(ruled, x, accuracy=accuracy, raise_=False).verdict == right
    numbers = np.asarray(jax.grad(lambda x: jnp.sum(jnp.tanh(x)))(x).astype(np.float32) * factor).astype(x.dtype)
    report = check_gradients(lambda x: jnp.sum(jnp.tanh(x)), lambda x: numbers, x, accuracy=accuracy, raise_=False)
    assert report.verdict == ("PASS" if accuracy == 1e-1 else "INCONCLUSIVE"), str(report)
    assert ("not shown to the declared accuracy" in str(report)) == (accuracy < 1e-1)


@pytest.mark.parametrize("at_zero", [0.0, 0.5, 1.0])
def test_it_holds_beside_ties_too(at_zero):
    x = np.array([0, 1, 2, -1], np.float32)
    for factor, verdict in ((1.0005, "PASS"), (1.005, "FAIL")):
        ruled = jax.custom_vjp(jax.nn.relu)
        ruled.defvjp(
            lambda x: (jax.nn.relu(x), x),
            lambda x, c, factor=factor: (c * factor * jnp.where(x == 0, at_zero, 1.0 * (x > 0)),),
        )
        assert check_vjp(ruled, x, accuracy=1e-3, raise_=False).verdict == verdict


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.float32])
def test_a_linear_loss_has_a_formula_too(dtype):
    """Its gradient is constant in the parameters, and depends on the data, or on the cotangent."""
    w, data = jnp.ones(8, dtype), jax.random.normal(jax.random.key(9), (20, 8)).astype(dtype)
    for factor, verdict in ((1.0, "PASS"), (1.1, "FAIL")):
        gradient = lambda w, data, factor=factor: (factor * data.mean(0)).astype(data.dtype)
        report = check_gradients(lambda w, data: jnp.mean(data @ w), gradient, w, data, raise_=False)
        assert report.verdict == verdict, str(report)
        add = jax.custom_vjp(lambda x, b: x + b)
        add.defvjp(lambda x, b: (x + b, None), lambda _, c, factor=factor: (c, (factor * c.sum(0)).astype(c.dtype)))
        assert check_vjp(add, data, w, raise_=False).verdict == verdict


def test_an_accuracy_below_rounding_is_asked_of_the_formula():
    off = lambda w: jnp.cos(w) * (1 + 1e-6)
    for accuracy, verdict in ((1e-7, "FAIL"), (1e-5, "PASS")):
        report = check_gradients(lambda w: jnp.sum(jnp.sin(w)), off, X[0], accuracy=accuracy, raise_=False)
        assert report.verdict == verdict, str(report)


def test_a_solver_that_stops_early_is_told_of_it():
    def solved(a):  # x = a cos x, to 1e-6
        moves = lambda s: jnp.any(jnp.abs(s[0] - s[1]) > 1e-6)
        return jax.lax.while_loop(moves, lambda s: (a * jnp.cos(s[0]), s[0]), (jnp.ones_like(a), jnp.zeros_like(a)))[0]

    ruled = jax.custom_vjp(solved)
    ruled.defvjp(lambda a: (x := solved(a), (x, a)), lambda s, c: (c * jnp.cos(s[0]) / (1 + s[1] * jnp.sin(s[0])),))
    a = np.float32([0.3, 0.5, 0.7])
    report = check_vjp(ruled, a, raise_=False)
    assert report.verdict == "FAIL" and "is for accuracy=" in " ".join(str(report).split()), str(report)
    assert check_vjp(ruled, a, accuracy=1e-4)


def test_one_wrong_entry_is_not_hidden_by_the_norm_of_its_leaf():
    one = lambda p: {"w": jnp.cos(p["w"]).at[0, 0].add(0.02), "b": 2 * p["b"]}
    assert check_gradients(loss, one, PARAMS, accuracy=1e-2, raise_=False).verdict == "FAIL"


@pytest.mark.parametrize("accuracy", [{"w": 1e-3, "b": 0.0}, {"w": np.float32(1e-3), "b": 0}])
def test_it_may_be_declared_of_some_leaves(accuracy):
    report = check_gradients(loss, off_by(5e-4, 5e-4), PARAMS, accuracy=accuracy, raise_=False)
    assert verdicts(report) == {"['w']": "PASS", "['b']": "FAIL"}
    assert report.leaves["['w']"].accuracy == pytest.approx(1e-3) and report.leaves["['b']"].accuracy == 0


def test_the_report_shows_it_beside_the_derived_noise():
    report = check_gradients(loss, off_by(5e-4), PARAMS, accuracy=1e-3)
    text = " ".join(str(report).split())
    assert "right to the declared accuracy 0.001, not to rounding" in report.leaves["['w']"].note
    assert report.leaves["['b']"].note is None and report.leaves["['b']"].resolution < 1e-5
    assert "accuracy: 0.001 of the norm was declared right for ['b'], ['w']; the noise alone would have shown" in text
    assert "resolution: an error above 0.001 of" in text
    assert max(map(len, str(report).splitlines())) <= 80
    assert '"accuracy": 0.001' in report.to_json()


def test_a_small_error_without_a_cause_is_told_of_it():
    uneven = lambda p: {"w": jnp.cos(p["w"]) * (1 + 1e-4 * jnp.sin(9 * p["w"])), "b": 2 * p["b"]}
    text = " ".join(str(check_gradients(loss, uneven, PARAMS, raise_=False)).split())
    assert "is for accuracy=" in text, text
    assert "accuracy=" not in str(check_gradients(loss, off_by(1e-3), PARAMS, raise_=False))  # which has a cause


def root(steps):
    """x³ + x = a by some steps of Newton's method, with the rule of the equation that it solves."""

    def solve(a):
        return jax.lax.fori_loop(0, steps, lambda _, x: x - (x**3 + x - a) / (3 * x**2 + 1), jnp.ones_like(a))

    f = jax.custom_vjp(solve)
    f.defvjp(lambda a: (x := solve(a), x), lambda x, c: (c / (3 * x**2 + 1),))
    return f


def test_an_implicit_rule_is_right_to_the_order_of_its_solver():
    a = jnp.linspace(1.0, 4.0, 5)
    assert check_vjp(root(4), a)
    for steps, error in ((2, 4.5e-2), (3, 4.2e-4)):
        assert check_vjp(root(steps), a, raise_=False).leaves["a"].relative_error == pytest.approx(error, rel=0.1)
        assert check_vjp(root(steps), a, accuracy=1.5 * error)
        assert check_vjp(root(steps), a, accuracy=0.7 * error, raise_=False).verdict == "FAIL"


def test_values_of_a_loss_that_hides_its_inside_are_judged_to_it_too():
    hidden = lambda w: jax.pure_callback(lambda w: np.sum(np.sin(w)), jax.ShapeDtypeStruct((), w.dtype), w)
    for error, verdict in ((3e-3, "PASS"), (3e-2, "FAIL")):
        gradient = lambda w, k=1 + error: k * jnp.cos(w)
        assert check_gradients(hidden, gradient, X[0], accuracy=1e-2, raise_=False).verdict == verdict


# ---- expected zero -----------------------------------------------------------------------------------------------
DEAD = {"w": X, "dead": -np.abs(X[0])}


def with_dead(p):
    return jnp.sum(jnp.sin(p["w"])) + jnp.sum(jax.nn.relu(p["dead"]))


def its_gradient(p, dead=0.0):
    return {"w": jnp.cos(p["w"]), "dead": jnp.full_like(p["dead"], dead)}


@pytest.mark.parametrize("said", [["['dead']"], {"w": False, "dead": True}, lambda path: "dead" in path])
def test_a_leaf_that_is_dead_on_purpose_passes(said):
    with pytest.raises(GradientInconclusive, match="expected_zero="):
        check_gradients(with_dead, its_gradient, DEAD)
    report = check_gradients(with_dead, its_gradient, DEAD, expected_zero=said)
    assert report.leaves["['dead']"].note == "zero, as declared" and report.leaves["['dead']"].expected_zero


def test_and_fails_where_it_is_not():
    wrong = lambda p: its_gradient(p, 1e-6)
    report = check_gradients(with_dead, wrong, DEAD, expected_zero=["['dead']"], raise_=False)
    assert verdicts(report) == {"['dead']": "FAIL", "['w']": "PASS"}
    alive = {"w": X, "dead": np.abs(X[0])}
    right = lambda p: its_gradient(p, 1.0)
    assert check_gradients(with_dead, right, alive).passed
    report = check_gradients(with_dead, right, alive, expected_zero=["['dead']"], raise_=False)
    assert verdicts(report) == {"['dead']": "FAIL", "['w']": "PASS"} and "expected zero" in report.cause


def test_zero_to_within_its_noise_is_zero():
    """A derivative that cancels: 0 but for rounding, and so is the gradient."""
    cancels = lambda p: jnp.sum(jnp.sin(p["w"])) + jnp.sum((1e4 + p["dead"]) - (1e4 + 1.0 * p["dead"]))
    right = jax.grad(cancels)
    report = check_gradients(cancels, right, DEAD, expected_zero=["['dead']"])
    assert report.leaves["['dead']"].verdict == "PASS" and report.leaves["['dead']"].note.startswith("zero")


def test_what_the_loss_does_not_use_may_be_declared_as_well():
    unused = lambda p: jnp.sum(jnp.sin(p["w"]))
    assert check_gradients(unused, its_gradient, DEAD, expected_zero=["['dead']"]).passed


def test_of_a_loss_that_hides_its_inside():
    relu = lambda w: jax.pure_callback(lambda w: np.sum(np.maximum(w, 0)), jax.ShapeDtypeStruct((), w.dtype), w)
    assert check_gradients(relu, lambda w: 0 * w, -np.abs(X[0]), expected_zero=True).passed
    assert check_gradients(relu, jnp.ones_like, np.abs(X[0]), expected_zero=True, raise_=False).verdict == "FAIL"


# ---- both in the code that repeats a check -------------------------------------------------------------------------
def test_the_code_that_repeats_a_check_declares_them_again():
    options = {"accuracy": {"w": 1e-3, "dead": 0.0}, "expected_zero": lambda path: "dead" in path}
    wrong = lambda p: {"w": 1.0005 * jnp.cos(p["w"]), "dead": 0 * p["dead"]}
    code = check_gradients(with_dead, wrong, DEAD, **options).reproduce()
    assert "accuracy = {'w': 0.001, 'dead': 0.0}" in code and "accuracy=accuracy" in code
    assert """expected_zero=lambda path: path in ["['dead']"]""" in code
    compile(code, "again", "exec")
