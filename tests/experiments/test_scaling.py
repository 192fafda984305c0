"""What moves, is held and computed on 8 and 64 devices is what the formulas say; and the calculation adds up."""

import numpy as np
import pytest

from experiments.scaling import __main__ as scaling
from experiments.scaling import h100
from experiments.scaling.programs import PROGRAMS, compiled_for, network, of_kinds
from tests.experiments.claims import assert_each_clause_can_fail, assert_it_runs, quick


@pytest.fixture(scope="module")
def found():
    """Of 64 devices alone, compiled by a process that has them."""
    return {"rows": list(compiled_for(64, pairs=1)), "calculated": h100.calculated(network(1))}


def test_64_devices(found):
    result = assert_it_runs(scaling, found)
    assert result.held and len(found["rows"]) == len(PROGRAMS)
    by_program = {tuple(row[part] for part in ("layout", "program", "precision")): row for row in found["rows"]}
    assert set(by_program) == set(PROGRAMS) and all(row["devices"] == 64 for row in found["rows"])
    assert result.metrics["largest_distance_from_the_formula"] < 1e-4
    step, gradient = (by_program["fsdp", program, "float32"] for program in ("train_step", "value_and_grad"))
    assert 0 < step["ring"] - gradient["ring"] < 1024  # the norm that clips, and the metrics
    assert by_program["data", "train_step", "float32"]["state"] > 50 * step["state"]


def test_each_clause_can_fail(found):
    changed = lambda layout, **wrong: {
        "rows": [row | wrong if row["layout"] == layout else row for row in found["rows"]]
    }
    first, more = found["rows"][0], found["rows"][0]["flops"] * 1.02
    slow = {bound: dict.fromkeys(h100.GPUS, 0.9) for bound in ("one_after_the_other", "at_once")}
    assert_each_clause_can_fail(
        scaling,
        found,
        {
            "distance_of_the_bytes_sent_from_the_formula": changed("fsdp", ring=1.34 * first["ideal"]),
            "bytes_that_the_formula_does_not_name": changed("tensor", unexpected=65_536),
            "distance_from_1_over_n_held_and_returned_by_fsdp": changed("fsdp", outputs=first["outputs"]),
            "operations_beyond_the_products": changed("tensor", flops=8 * first["flops"]),
            "no_fewer_operations_than_the_products": changed("tensor", flops=0.9 * first["products"]),
            "growth_of_the_operations_with_devices": {
                "rows": [*found["rows"], first | {"devices": 256, "flops": more}]
            },
            "calculated_weak_scaling": {"calculated": {"weak_scaling": {"fsdp": slow}}},
        },
    )


def test_the_calculation_by_hand():
    """One layer pair, D-4D-D: all-reduce 2 · 4 bytes · 8 D², products of the backward pass 2 · 8 D² · 2 - 8 D²."""
    net, weights, gpus = network(1), 2 * 1024 * 4096, h100.GPUS[-1]
    ring = 2 * 4 * (weights + 4096 + 1024) * (gpus - 1) / gpus
    step = h100.step(net, "data", gpus)
    np.testing.assert_allclose(step.data, ring / 400e9)
    np.testing.assert_allclose(step.products, 5 * weights * h100.EXAMPLES / 989e12)
    np.testing.assert_allclose(step.one_after_the_other, step.products + step.data)
    examples = h100.compute_bound_from(net, h100.NODE * h100.CARD)
    assert (
        h100.step(net, "data", gpus, int(0.99 * examples)).at_once
        > 1.001 * h100.step(net, "data", gpus, int(0.99 * examples)).products
    )
    on_time = h100.step(net, "data", gpus, int(1.01 * examples))
    np.testing.assert_allclose(on_time.at_once, on_time.products)
    assert h100.compute_bound_from(net, h100.CARD, 500, 8) == pytest.approx(
        h100.compute_bound_from(net, h100.CARD) / 4000
    )


def test_the_links_that_bytes_cross():
    assert h100.bandwidth(8, 1) == h100.bandwidth(4, 2) == 450e9  # one node
    assert h100.bandwidth(64, 1) == 400e9 and h100.bandwidth(8, 8) == 50e9  # 8 cards a node, a card a GPU
    tensor = h100.step(network(1), "tensor", 8)
    assert tensor.data == 0 and tensor.at_once == tensor.one_after_the_other > tensor.products


def test_a_process_that_fails_is_an_error():
    with pytest.raises(RuntimeError, match="compiling for -1 devices ended with exit code 1"):
        list(compiled_for(-1, pairs=1))


@pytest.mark.slow
def test_8_and_64_devices(tmp_path):
    found = quick("scaling", tmp_path)
    assert {row["devices"] for row in found["programs"]} == {8, 64} and len(found["programs"]) == 2 * 5 == 2 * len(
        of_kinds(["value_and_grad"])
    )
    assert found["largest_distance_from_the_formula"] < 1e-4 and found["largest_growth_of_operations"] < 0.01
