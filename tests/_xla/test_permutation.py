"""random_permutation is a permutation, a function of its key alone, and statistically like a uniform one."""

import jax
import numpy as np
import pytest

from jaxnet._xla.permutation import EXACT_UP_TO, ROUNDS, random_permutation


@pytest.mark.parametrize("m", [1, 2, EXACT_UP_TO, EXACT_UP_TO + 1, 289, 1437, 1444, 65_537])
def test_it_is_a_permutation(m, key):
    np.testing.assert_array_equal(np.sort(random_permutation(key, m)), np.arange(m))
    np.testing.assert_array_equal(random_permutation(key, m), random_permutation(key, m))


@pytest.mark.parametrize(("m", "counting"), [(64, 1), (256, 200), (289, 289), (320, 290), (1536, 1444), (300, 5)])
def test_those_that_count_are_permuted_as_if_there_were_no_others(m, counting, key):
    order = jax.jit(random_permutation, static_argnums=1)(key, m, np.uint32(counting))
    np.testing.assert_array_equal(order[counting:], np.arange(counting, m))
    if EXACT_UP_TO not in range(counting, m):  # between which the way changes
        np.testing.assert_array_equal(order[:counting], random_permutation(key, counting))
    np.testing.assert_array_equal(np.sort(order), np.arange(m))


@pytest.mark.parametrize("m", [EXACT_UP_TO + 1, 1437, 65_537])
def test_it_is_cycle_walking_with_a_count_of_loops_that_is_known(m, key):
    """Where a loop ends when the last place has arrived, a GPU asks the host; NumPy walks each place by itself here."""
    keys = np.asarray(jax.random.bits(key, (ROUNDS,), np.uint32)).tolist()
    a = int(np.ceil(np.sqrt(m)))

    def scatter(place):
        left, right = divmod(place, a)
        for round_key in keys:
            left, right = right, (left + (_mixed(right ^ round_key) >> 16) * a // 2**16) % a
        return left * a + right

    def walk(place):
        place = scatter(place)
        return place if place < m else walk(place)

    np.testing.assert_array_equal(random_permutation(key, m)[:1000], [walk(place) for place in range(min(m, 1000))])
    assert "while" not in str(jax.make_jaxpr(random_permutation, static_argnums=1)(key, m))


def _mixed(x):
    """C. Wellons' mixer, in Python's integers."""
    x = (x ^ (x >> 16)) * 0x7FEB352D % 2**32
    x = (x ^ (x >> 15)) * 0x846CA68B % 2**32
    return x ^ (x >> 16)


@pytest.fixture(scope="module")
def orders():
    """4,000 orders of 300 examples."""
    keys = jax.random.split(jax.random.key(7), 4000)
    return np.asarray(jax.vmap(lambda key: random_permutation(key, 300))(keys))


def standard_score(counts, n, p):
    """How many deviations of a binomial each count is off."""
    return (counts - n * p) / np.sqrt(n * p * (1 - p))


def test_every_example_comes_to_every_place_equally_often(orders):
    n, m = orders.shape
    counts = np.zeros((m, m))
    np.add.at(counts, (np.arange(m)[None, :].repeat(n, axis=0), orders), 1)
    z = standard_score(counts, n, 1 / m)
    assert abs(z).max() < 6 and abs((z**2).mean() - 1) < 0.03


def test_successive_indices_are_uncorrelated(orders):
    """Who follows whom, and by how much: every difference modulo m is equally likely."""
    m = orders.shape[1]
    steps = (orders[:, 1:] - orders[:, :-1]) % m
    z = standard_score(np.bincount(steps.ravel(), minlength=m)[1:], steps.size, 1 / (m - 1))
    assert abs(z).max() < 5


def test_orders_have_as_many_fixed_points_rises_and_inversions_as_they_should(orders):
    n, m = orders.shape
    fixed = (orders == np.arange(m)).sum(axis=1)
    np.testing.assert_allclose([fixed.mean(), fixed.var()], 1, atol=0.1)
    rises = (np.diff(orders, axis=1) > 0).sum(axis=1)
    np.testing.assert_allclose(rises.mean(), (m - 1) / 2, atol=5 * np.sqrt((m + 1) / 12 / n))
    np.testing.assert_allclose(rises.var(), (m + 1) / 12, rtol=0.1)
    inversions = np.array([(order[:, None] > order[None, :])[np.triu_indices(m, 1)].sum() for order in orders[:500]])
    np.testing.assert_allclose(inversions.mean(), m * (m - 1) / 4, rtol=0.01)
    np.testing.assert_allclose(inversions.var(), m * (m - 1) * (2 * m + 5) / 72, rtol=0.2)
