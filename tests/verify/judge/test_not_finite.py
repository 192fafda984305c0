"""Entries at which autodiff is not finite: slopes of the loss judge them, one by one, and say where none can."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_gradients

EITHER = pytest.mark.parametrize("traced", [True, False], ids=["formula", "numbers"])


def root(w):
    """√w where it is defined: infinitely steep to the right of 0, constant to its left."""
    return jnp.sum(jnp.where(w > 0, jnp.sqrt(w), 0))


def flat(report):
    return " ".join(str(report).split())


def check(loss, gradient, point, traced=False):
    gradient = np.asarray(gradient, np.float32)
    grad_fn = (lambda w: gradient + 0 * jnp.nan_to_num(w)) if traced else lambda w: gradient
    return check_gradients(loss, grad_fn, np.asarray(point, np.float32), raise_=False)


@EITHER
@pytest.mark.parametrize(
    ("at_zero", "below", "verdict", "says"),
    [
        (0, 0, "PASS", "lies between"),
        (3, 0, "PASS", "lies between"),
        (0, 5, "FAIL", "[3] is 5, its slope is 0"),
        (-5, 0, "FAIL", "[1] is -5, its slopes are 0 and inf"),
    ],
)
def test_an_infinite_slope_hides_no_other_entry(at_zero, below, verdict, says, traced):
    point = [0.5, 0, 2, -1]
    report = check(root, [0.5 / 0.5**0.5, at_zero, 0.5 / 2**0.5, below], point, traced)
    assert report.verdict == verdict and says in flat(report), str(report)
    assert report.cause is None


@pytest.mark.parametrize(
    ("loss", "right", "claims"),
    [
        (lambda w: jnp.sum(jnp.cbrt(w)), 1 / 3, (0, 7)),
        (lambda w: jnp.sum(jnp.sqrt(jnp.abs(w))), 1 / 2, (0, 7)),
        (lambda w: jnp.sum(jnp.where(w > 0, jnp.log(w), 0)), 1, (0, 7)),
        (lambda w: jnp.sum(jnp.cbrt(w)), 1 / 3, (np.inf,)),  # as autodiff has it
        (lambda w: jnp.sum(jnp.sqrt(jnp.abs(w))), 1 / 2, (np.inf, -np.inf)),
    ],
    ids=["cube root", "root of the modulus", "a jump", "infinite cube root", "infinite root of the modulus"],
)
def test_where_there_is_no_slope_nothing_is_proved(loss, right, claims):
    for claim in claims:
        report = check(loss, [claim, right], [0, 1])
        assert report.verdict == "INCONCLUSIVE" and "no number is its derivative" in flat(report), str(report)


@pytest.mark.parametrize(
    ("loss", "point", "right", "wrong"),
    [
        (lambda w: jnp.sum(w * jnp.sqrt(w)), [0, 0.25], [0, 0.75], 1.0),  # autodiff is NaN at 0
        (lambda w: jnp.sum((1 - w) * jnp.sqrt(1 - w)), [1, 0.75], [0, -0.75], -0.5),
        (lambda w: jnp.sum(jnp.sqrt(w) ** 3 + 2 * w), [0, 0.25], [2, 2.75], 1.9),
    ],
    ids=["from above", "from below", "not zero"],
)
def test_at_an_edge_of_the_domain_the_slope_into_it_judges(loss, point, right, wrong):
    right, scale = np.array(right), np.array([0, 1])
    assert check(loss, right, point).verdict == "PASS"
    report = check(loss, [wrong, right[1]], point)
    assert report.verdict == "FAIL" and f"[0] is {wrong:g}, its slope is" in flat(report), str(report)
    assert check(loss, right * (1 + 0.01 * scale), point).verdict == "FAIL"  # the other entry is judged as always


@pytest.mark.parametrize("claim", [0, 7, -np.inf])
def test_at_an_edge_where_it_is_infinitely_steep_nothing_is_proved(claim):
    report = check(lambda w: jnp.sum(jnp.arccos(w)), [claim, -1 / 0.75**0.5], [1, 0.5])
    assert report.verdict == "INCONCLUSIVE" and "no number is its derivative" in flat(report), str(report)


def test_an_entropys_slope_at_zero_grows_without_bound():
    entropy = lambda p: -jnp.sum(jnp.where(p > 0, p * jnp.log(p), 0))
    assert check(entropy, [7, -1], [0, 1]).verdict == "PASS"  # left of 0 it is constant: any number in [0, ∞]
    assert check(entropy, [np.inf, -1], [0, 1]).verdict == "PASS"  # and the end of it
    assert check(entropy, [-np.inf, -1], [0, 1]).verdict == check(entropy, [np.nan, -1], [0, 1]).verdict == "FAIL"
    report = check(entropy, [-7, -1], [0, 1])
    assert report.verdict == "FAIL" and "[0] is -7, its slopes are 0 and inf" in flat(report)


def test_more_entries_than_are_asked_about_one_by_one():
    """A root's slope hides, along a direction of all, those of the others: some entries stay open, none is green."""
    point = np.array([0.0] * 40 + [1.0])
    assert check(root, [0] * 40 + [0.5], point).verdict == "INCONCLUSIVE"
    norm = lambda w: jnp.sqrt(jnp.sum(w[:-1] ** 2)) + w[-1]
    assert check(norm, [0] * 40 + [1], point).verdict == "PASS"
    assert check(norm, [0] * 39 + [3] + [1], point).verdict == "FAIL"


def test_an_infinite_entry_that_autodiff_has_too_is_not_the_cause_of_an_error_elsewhere():
    loss = lambda w: jnp.sum(jnp.sqrt(w))
    point = np.array([0, 0.3, 0.5], np.float32)
    report = check_gradients(loss, lambda w: 1.2 * jax.grad(loss)(w), point, raise_=False)
    assert report.verdict == "FAIL" and "NaN or Inf" not in str(report), str(report)
    assert check_gradients(loss, jax.grad(loss), point, raise_=False).verdict == "INCONCLUSIVE"
