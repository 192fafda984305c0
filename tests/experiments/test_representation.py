"""One example through a network, unit by unit and at once."""

import numpy as np
import pytest

from experiments import representation
from tests.experiments.claims import assert_each_clause_can_fail, assert_it_runs, measure


@pytest.fixture(scope="module")
def found():
    return measure(representation)


def test_one_example_twice(found):
    result = assert_it_runs(representation, found)
    assert result.held and result.metrics["largest_difference"] <= 1e-15
    layers = [result.metrics["layer_1"], result.metrics["layer_2"]]
    assert [len(layer["z"]) for layer in layers] == [4, 1] and len(result.metrics["x"]) == 3
    for layer in layers:
        np.testing.assert_allclose(layer["a"], 1 / (1 + np.exp(-layer["z"])), rtol=1e-14)


def test_large_numbers():
    """Where e^-z overflows σ is still 0 or 1; where even z does, nothing counts as equal."""
    large = measure(representation, seed=3, scale=50.0)
    assert all(representation.clauses(large).values())
    assert max(large["at once"][1][0]) > 1000 and large["at once"][1][1].tolist() == [1, 0, 0, 1]
    with np.errstate(invalid="ignore", over="ignore"):
        infinite = measure(representation, scale=1e200)
        assert not all(representation.clauses(infinite).values())
        assert np.isnan(representation.metrics(infinite)["largest_difference"])


def test_each_clause_can_fail(found):
    without_bias = [representation.unit(w, found["x"], 0.0) for w in found["params"][0].W]
    layers = found["unit by unit"]
    assert_each_clause_can_fail(
        representation,
        found,
        {
            "difference_of_unit_by_unit_from_the_matrix_form": {
                "unit by unit": [layers[0], (without_bias, layers[1][1]), layers[2]]
            },
            "input_is_layer_0": {"x": found["x"] + 1e-15},
            "two_layers_shaped_as_in_the_notes": {"shapes": representation.SHAPES[::-1]},
            "last_activation_is_the_prediction": {"prediction": found["prediction"] + 1e-15},
        },
    )
