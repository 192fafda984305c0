"""What the tests of all experiments share: a measurement, a quick run, clauses made to fail, and a full disk."""

import contextlib
import json
import resource

import jax

from experiments.runner import experiment
from experiments.runner.comparisons import Comparison


def measure(module, **settings):
    """What an experiment finds with these settings; Optax's Adam needs JAX's own type promotion."""
    with jax.numpy_dtype_promotion("standard"):
        return module.measure(module.Config(**settings))


def assert_it_runs(module, found):
    """Whatever was found, it can be judged, put into words, kept and drawn."""
    config = experiment.Config()
    stub = type("Stub", (), {"measure": lambda config: found, "claim": module.claim, "clauses": module.clauses})
    stub.metrics, stub.draw = getattr(module, "metrics", dict), module.draw
    result = experiment.run(stub, config)
    assert result.claim.endswith((".", '"')) and all(
        type(clause) in (bool, Comparison) for clause in result.clauses.values()
    )
    assert result.metrics and result.figure.axes
    result.figure.draw_without_rendering()
    return result


def assert_each_clause_can_fail(module, found, wrong):
    """Where all clauses hold, each of them fails with what `wrong` plants for it in what was found."""
    clauses = module.clauses(found)
    assert {name: bool(clause) for name, clause in clauses.items()} == dict.fromkeys(clauses, True)
    assert set(wrong) == set(clauses), "every clause needs a measurement that refutes it"
    for clause, planted in wrong.items():
        assert not module.clauses(merged(found, planted))[clause], clause


def merged(found, planted):
    """What was found with other values planted in it, however deep."""
    if not isinstance(planted, dict):
        return planted
    return found | {name: merged(found.get(name), value) for name, value in planted.items()}


def quick(name, results):
    """The metrics of a quick run, as metrics.json has them, whose claim has to hold with all its clauses."""
    module = experiment.load(name)
    with jax.numpy_dtype_promotion("standard"):
        record = experiment.perform(name, module.Config(quick=True, results=results))
    assert record["held"], record["metrics"]["clauses"]
    assert all(value is True for value in record["metrics"]["clauses"].values())
    assert (results / name / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    return json.loads((results / name / "metrics.json").read_text())["metrics"]


@contextlib.contextmanager
def full_disk(most):
    """No file can grow beyond so many bytes: the write fails as it does where the disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
