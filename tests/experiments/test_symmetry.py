"""Zero weights stay equal, random ones do not."""

import jax
import pytest

from experiments import symmetry
from tests.experiments.claims import assert_each_clause_can_fail, assert_it_runs, measure, quick


@pytest.fixture(scope="module")
def found():
    return measure(symmetry, steps=50, init_scale=0.5)


def test_a_small_run_whose_figure_names_the_scale(found):
    result = assert_it_runs(symmetry, found)
    for hidden in symmetry.HIDDEN:
        zeros, randn = result.metrics[f"{hidden}, zeros"], result.metrics[f"{hidden}, randn"]
        assert (zeros["steps_with_equal_rows"], randn["steps_with_equal_rows"]) == (50, 0)
    assert [axes.get_title() for axes in result.figure.axes][1:] == [
        "W = 0: first weight of each", "W = randn * 0.5: first weight of each",
    ]  # fmt: skip


def test_each_clause_can_fail(found):
    trained = {"sigmoid, zeros": 0.6, "tanh, zeros": 0.55, "sigmoid, randn": 0.9, "tanh, randn": 0.85}
    ideal = found | {"runs": {name: run | {"accuracy": trained[name]} for name, run in found["runs"].items()}}
    assert_each_clause_can_fail(
        symmetry,
        ideal,
        {
            "zero_rows_are_bit_equal_after_every_step": {"runs": {"tanh, zeros": {"steps_with_equal_rows": 49}}},
            "largest_weight_that_sigmoid_reaches_from_zero": {"runs": {"sigmoid, zeros": {"largest_weight": 0.0}}},
            "random_rows_never_are": {"runs": {"sigmoid, randn": {"steps_with_equal_rows": 1}}},
            "accuracy_from_zero": {"runs": {"sigmoid, zeros": {"accuracy": 0.9}}},
            "accuracy_from_random_weights": {"runs": {"tanh, randn": {"accuracy": 0.7}}},
        },
    )


def test_rows_of_opposite_zeros_are_not_bit_equal():
    assert symmetry.rows_equal(jax.numpy.ones((2, 2)))
    assert not symmetry.rows_equal(jax.numpy.array([[0.0, 1.0], [-0.0, 1.0]]))


@pytest.mark.slow
def test_zero_weights_stay_equal_and_random_ones_do_not(tmp_path):
    found = quick("symmetry", tmp_path)
    for hidden in symmetry.HIDDEN:
        zeros, randn = found[f"{hidden}, zeros"], found[f"{hidden}, randn"]
        assert (zeros["steps_with_equal_rows"], randn["steps_with_equal_rows"]) == (3000, 0)
        assert zeros["largest_difference_of_rows"] == 0 < 1 < randn["largest_difference_of_rows"]
        assert zeros["accuracy"] < 0.7 < 0.85 < randn["accuracy"]
    assert found["sigmoid, zeros"]["largest_weight"] > 1 > found["tanh, zeros"]["largest_weight"] == 0
