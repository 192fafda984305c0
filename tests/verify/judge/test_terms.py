"""Terms that cancel: what their constants are rounded by is no error, and hides none that is larger."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_gradients
from jaxnet.verify.judge.terms import rounding_of_terms
from jaxnet.verify.problem.gradient import Manual
from jaxnet.verify.problem.loss import Problem
from tests.marks import slow_but
from tests.verify.verdicts import verdict

WHERE, SIGN = jnp.where, jnp.sign


def at_its_optimum(seed, m, q, dtype=np.float32):
    """Data of a linear model, its bias at the quantile q of the residuals: one of them is zero, to a rounding."""
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(m, 3)).astype(dtype), rng.normal(size=3).astype(dtype)
    y = (x @ w + rng.normal(size=m)).astype(dtype)
    b = dtype(np.quantile(y - x @ w, q, method="nearest"))
    return {"w": w, "b": b}, x, y


def quantile_loss(q, scale=1.0):
    def loss(p, x, y):
        e = y - (x @ p["w"] + p["b"])
        return scale * jnp.mean(jnp.maximum(q * e, (q - 1) * e))

    return loss


def by_slopes(slope, scale=1.0):
    """The gradient from dJ/de of each residual."""

    def gradient(p, x, y):
        d = slope(y - (x @ p["w"] + p["b"])) * scale / len(y)
        return {"w": -d @ x, "b": -jnp.sum(d)}

    return gradient


FORMULAS = {
    "alike": lambda q: lambda e: WHERE(e > 0, q, q - 1),
    "shifted": lambda q: lambda e: WHERE(e > 0, 1.0, 0.0) - (1 - q),
    "two_indicators": lambda q: lambda e: q * (e >= 0) - (1 - q) * (e < 0),
    "a_step": lambda q: lambda e: q - (e < 0),
    "tenths": lambda q: lambda e: WHERE(e > 0, round(10 * q), round(10 * q) - 10) / 10,
    "signed": lambda q: lambda e: (SIGN(e) + (2 * q - 1)) / 2,
}
WRONG = {
    "swapped": lambda q: lambda e: WHERE(e > 0, 1 - q, -q),
    "a factor": lambda q: lambda e: 1.05 * WHERE(e > 0, q, q - 1),
    "a sign": lambda q: lambda e: -WHERE(e > 0, q, q - 1),
    "an example missing": lambda q: lambda e: WHERE(jnp.arange(e.size) == 3, 0, WHERE(e > 0, q, q - 1)),
}


OPTIMA = {0: (2000, 0.1), 2: (400, 0.9), 5: (50, 0.9), 4: (400, 0.3), 6: (400, 0.1)}  # seed: examples, quantile


@pytest.mark.parametrize(("seed", "name"), slow_but(product([2], FORMULAS), product(OPTIMA, FORMULAS)))
def test_no_right_formula_of_a_quantile_loss_is_refused_at_its_optimum(seed, name):
    m, q = OPTIMA[seed]
    p, x, y = at_its_optimum(seed, m, q)
    assert verdict(quantile_loss(q), by_slopes(FORMULAS[name](q)), p, x, y) != "FAIL"


@pytest.mark.parametrize(("seed", "name"), slow_but(product([2], WRONG), product([0, 2, 4], WRONG)))
def test_a_wrong_one_passes_only_below_the_resolution_or_as_a_step(seed, name):
    m, q = OPTIMA[seed]
    p, x, y = at_its_optimum(seed, m, q)
    wrong, right = (by_slopes(f(q)) for f in (WRONG[name], FORMULAS["alike"]))
    report = check_gradients(quantile_loss(q), wrong, p, x, y, raise_=False)
    step = np.linalg.norm(np.c_[x, np.ones(m)], axis=1).max() / m  # what one example at its kink may give
    for leaf, seen in zip("bw", report.leaves.values(), strict=True):
        error = np.linalg.norm(wrong(p, x, y)[leaf] - right(p, x, y)[leaf])
        assert seen.verdict != "PASS" or error <= max(step, seen.resolution * seen.norm), (leaf, str(report))


@pytest.mark.parametrize("seed", slow_but([0], range(3)))
def test_far_from_any_kink_too(seed):
    """300 slopes of 0.7 balance 700 of 0.3: nothing depends on the parameter but the line itself."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.r_[np.ones(300), -np.ones(700)]).astype(np.float32)
    loss = lambda b, y: jnp.mean(WHERE(y > 0, 0.7, -0.3) * b)
    assert verdict(loss, lambda b, y: jnp.mean(WHERE(y > 0, 1.0, 0.0)) - 0.3, np.float32(2), y) != "FAIL"
    assert verdict(loss, lambda b, y: jnp.mean(WHERE(y > 0, 1.0, 0.0)) - 0.301, np.float32(2), y) == "FAIL"


def test_one_less_99_hundredths_is_a_hundredth():
    """A leaky unit's slope at negative inputs, written as what is left of 1: off by a rounding of 1, not of 0.01."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2000, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    x *= -np.sign(x @ w)[:, None]  # all of them negative
    loss = lambda w, x: jnp.mean(jax.nn.leaky_relu(x @ w, 0.01))
    right = lambda w, x: (1 - 0.99 * (x @ w < 0)) @ x / len(x)
    assert verdict(loss, right, w, x) == "PASS"
    assert verdict(loss, lambda w, x: 1.001 * right(w, x), w, x) == "FAIL"


def rounding(loss, gradient, params, *args):
    problem = Problem.of(loss, params, args, 0, False).traced()
    return rounding_of_terms(problem, Manual(problem, gradient).formula, 0, min(problem.units))


def test_it_is_a_rounding_of_each_constant_and_no_step():
    """200 times 0.1 against 200 times 0.3: u (0.1 |s| + 0.3 |s'|) / 2 with |s| in [0.5, 1.5], whatever 0 is beside."""
    y = np.array([0.0, 1.0, -1.0, 2.0] * 100, np.float32)
    loss = lambda b, y: jnp.mean(WHERE(y > b, 0.1, -0.3) * b)
    (size, entry), u = rounding(loss, lambda b, y: jnp.mean(WHERE(y > b, 0.1, -0.3)), np.float32(0), y)[0], 2.0**-24
    assert size == entry and 0.02 * u < size <= 1.5 * u * (0.1 + 0.3) / 2 * (1 + 1e-6)


def test_whole_numbers_and_data_are_exact():
    y = np.linspace(0, 1, 50, dtype=np.float32)
    loss = lambda b: jnp.sum(jnp.maximum(2 * b - y, -1e9) * 0.5)
    gradient = lambda b: jnp.sum(WHERE(2 * b - y > -1e9, y, 0.0)) + 1.0
    assert max(rounding(loss, gradient, np.float32(0))[0]) < 1e-12  # the results are rounded too, in float64


@pytest.mark.slow
@pytest.mark.parametrize("how", slow_but(["compiled"], ["eager", "compiled"]))
def test_in_float64_the_terms_lose_digits_as_well(how):
    """Compiled, the residual that is 0 may be a rounding away from it: the whole step is then to one side."""
    with jax.enable_x64(True):
        p, x, y = at_its_optimum(1, 2000, 0.3, np.float64)
        for name, formula in FORMULAS.items():
            assert verdict(quantile_loss(0.3), by_slopes(formula(0.3)), p, x, y, whole=how == "compiled") != "FAIL", (
                name
            )


def test_a_literal_is_the_number_that_the_program_computes_with():
    """Inside of jit a Python number keeps all its digits; the program computes with those of its dtype."""
    loss = lambda x: jnp.sum(WHERE(x > 0, 0.3, 0.1) * x)
    gradient = Problem.of(loss, np.float32([1, -1]), (), 0, False).traced().double()[1][0]
    np.testing.assert_array_equal(gradient, np.float32([0.3, 0.1]).astype(np.float64))


@pytest.mark.parametrize("name", slow_but(["alike"], FORMULAS))
def test_in_float64_terms_may_cancel_on_one_side_of_an_exact_tie_alone(name):
    """One residual is zero or a rounding away from it, as the formula adds up; without it the gradient is nothing."""
    with jax.enable_x64(True):
        rng = np.random.default_rng([0, 400])
        x, w, b = rng.normal(size=(400, 3)), rng.normal(size=3), rng.normal()
        y = x @ w + b + rng.normal(size=400)
        p = {"w": w, "b": b + np.quantile(y - (x @ w + b), 0.1, method="nearest")}
        for scale in (1.0, 1e-6):
            right = by_slopes(FORMULAS[name](0.1), scale)
            assert verdict(quantile_loss(0.1, scale), right, p, x, y) != "FAIL"
