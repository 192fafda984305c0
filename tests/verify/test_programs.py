"""Compiled readings are shared between equal programs, and only between those."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.verify import check_gradients
from jaxnet.verify.interpret import Reader
from jaxnet.verify.programs import program_of

X = np.arange(6.0, dtype=np.float32)


def scanned(length, body):
    return lambda x: jax.lax.scan(lambda c, _: (body(c), None), x, length=length)[0].sum()


def with_rule(primal):
    @jax.custom_vjp
    def f(x):
        return primal(x)

    f.defvjp(lambda x: (primal(x), x), lambda x, c: (c * x,))
    return lambda x: f(x).sum()


DIFFERENT = {
    "a literal": (lambda x: (2.0 * x).sum(), lambda x: (3.0 * x).sum()),
    "a literal's sign of zero": (lambda x: (x + 0.0).sum(), lambda x: (x + -0.0).sum()),
    "a power": (lambda x: (x**2).sum(), lambda x: (x**3).sum()),
    "an axis": (lambda x: x.reshape(2, 3).max(0).sum(), lambda x: x.reshape(2, 3).max(1).sum()),
    "the order of operands": (lambda x: (x - jnp.sin(x)).sum(), lambda x: (jnp.sin(x) - x).sum()),
    "a scan's length": (scanned(2, jnp.sin), scanned(3, jnp.sin)),
    "a scan's body": (scanned(2, jnp.sin), scanned(2, jnp.cos)),
    "a branch": (
        lambda x: jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x).sum(),
        lambda x: jax.lax.cond(x[0] > 0, jnp.sin, jnp.tan, x).sum(),
    ),
    "the function under a rule": (with_rule(jnp.sin), with_rule(jnp.cos)),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_programs_that_differ_are_not_shared(name):
    one, other = (program_of(jax.make_jaxpr(f)(X)) for f in DIFFERENT[name])
    assert one is not other


def test_equal_programs_are_shared_and_their_constants_are_not():
    def loss_with(c):
        return lambda x: jnp.sum(c * x)

    first, second = (np.linspace(1, k, 6, dtype=np.float32) for k in (2, 3))
    assert program_of(jax.make_jaxpr(loss_with(first))(X)) is program_of(jax.make_jaxpr(loss_with(second))(X))
    for c in (first, second):
        assert check_gradients(loss_with(c), lambda x, c=c: jnp.asarray(c), X)
    assert not check_gradients(loss_with(second), lambda x: jnp.asarray(first), X, raise_=False)


def test_a_kept_program_holds_no_constants():
    """128 programs are kept, and the constants of a loss may be a whole data set."""
    data = jnp.arange(7.0, 13.0)
    expected, alive = float(jnp.sum(X * data)), weakref.ref(data)
    closed = jax.make_jaxpr(lambda x, data=data: jnp.sum(x * data))(X)
    program = program_of(closed)
    run = program.compiled(lambda program: lambda consts, x: Reader().read_at(program.jaxpr, consts, [x])[0])
    assert run(closed.consts, X) == pytest.approx(expected)
    del data, closed
    gc.collect()
    assert alive() is None


def test_what_was_expected_is_compiled_once(caplog):
    program = program_of(jax.make_jaxpr(lambda x: jnp.sin(x).sum())(X))

    def reading(program):
        return lambda consts, x: jax.core.eval_jaxpr(program.jaxpr, consts, x)[0]

    with jax.log_compiles(True), caplog.at_level("WARNING"):
        program.expect(reading, ((), X))
        there = program.compiled(reading)((), X)
    assert there == pytest.approx(np.sin(X).sum(), rel=1e-6)
    assert sum("Compiling jit(<lambda>)" in record.message for record in caplog.records) == 1
