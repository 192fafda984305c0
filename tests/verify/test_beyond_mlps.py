"""Hand-written rules beyond dense layers: right ones pass, planted bugs are refused by the leaf's name.

check_vjp on every bug is a case of the golden file, which asserts the same.
"""

from itertools import product

import jax
import jax.numpy as jnp
import pytest

from jaxnet.verify import check_gradients, check_vjp
from tests.marks import slow_but
from tests.verify.operations import OPERATIONS, with_rule

CASES = [("check_vjp", name, bug) for name, operation in OPERATIONS.items() for bug in list(operation.bugs)[:3]]
CASES += [("check_gradients", name, next(iter(operation.bugs))) for name, operation in OPERATIONS.items()]


def report_of_vjp(operation, backward, primals):
    """check_vjp on the operation that carries this backward as its rule."""
    return check_vjp(with_rule(operation.forward, backward), *primals, raise_=False)


def report_of_gradients(operation, backward, primals):
    """check_gradients on J = Σ c * output with fixed random c, whose gradient is the backward of c."""
    c = jax.random.normal(jax.random.key(9), jax.eval_shape(operation.forward, *primals).shape)

    def loss(primals, c):
        return jnp.sum(operation.forward(*primals) * c)

    return check_gradients(loss, backward, primals, c, raise_=False)


CHECKS = {"check_vjp": report_of_vjp, "check_gradients": report_of_gradients}
FAST_CHECKS = [*product(["check_vjp"], OPERATIONS), ("check_gradients", "embedding")]  # their programs are shared
FAST_CASES = [case for case in CASES if case[:2] in FAST_CHECKS]


@pytest.mark.parametrize(
    ("check", "name"),
    slow_but(FAST_CHECKS, product(CHECKS, OPERATIONS)),
)
def test_a_right_backward_passes(check, name):
    operation = OPERATIONS[name]
    report = CHECKS[check](operation, operation.backward, operation.primals(jax.random.key(0)))
    assert report.verdict == "PASS", str(report)


@pytest.mark.parametrize(("check", "name", "bug"), slow_but(FAST_CASES, CASES))
def test_a_planted_bug_is_refused_and_its_leaf_named(check, name, bug):
    operation = OPERATIONS[name]
    primals = operation.primals(jax.random.key(0))
    report = CHECKS[check](operation, operation.spoiled(bug), primals)
    failed = {path for path, leaf in report.leaves.items() if leaf.verdict == "FAIL"}
    assert report.verdict == "FAIL", str(report)
    assert failed == operation.wrong_leaves(bug, primals, report.leaves), str(report)


def test_every_operation_has_at_least_four_bugs():
    assert all(len(operation.bugs) >= 4 for operation in OPERATIONS.values())
