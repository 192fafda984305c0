"""Compiled readings are shared between equal programs, and only between those."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive

from jaxnet.verify import check_gradients
from jaxnet.verify.program.cache import program_of
from jaxnet.verify.program.interpreter import OWN, read_at
from jaxnet.verify.program.jaxprs import is_custom_rule
from jaxnet.verify.program.rules import equations, readable, rules_left_out
from jaxnet.verify.program.transforms import as_it_is

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
    run = program.compiled(lambda program: lambda consts, x: read_at(program.jaxpr, consts, [x], OWN)[0])
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


def ruled(primal, data):
    """A function whose rule holds the data as well."""
    f = jax.custom_vjp(primal)
    f.defvjp(lambda x: (primal(x), None), lambda _, c: (c * data,))
    return f


HOLDING = {  # losses Σ x data, and where they have the data from
    "the loss": lambda data: lambda x: jnp.sum(x * data),
    "a jitted loss": lambda data: jax.jit(lambda x: jnp.sum(x * data)),
    "a jitted function in another": lambda data: lambda x: jax.jit(lambda x: jax.jit(lambda x: x * data)(x).sum())(x),
    "a jitted function in a loop": lambda data: (
        lambda x: jnp.sum(jax.lax.scan(lambda c, _: (jax.jit(lambda x: x * data)(c), None), x, length=1)[0])
    ),
    "a branch": lambda data: lambda x: jnp.sum(jax.lax.cond(x[0] < 9e9, lambda x: x * data, jnp.sin, x)),
    "a rule": lambda data: lambda x: ruled(lambda x: jnp.sum(x * data), data)(x),
    "a callback": lambda data: (
        lambda x: jax.pure_callback(
            lambda x: np.sum(np.asarray(x) * np.asarray(data), dtype=np.float32),
            jax.ShapeDtypeStruct((), np.float32),
            x,
        )
    ),
}


@pytest.mark.parametrize("of", [np, jnp])
@pytest.mark.parametrize("where", HOLDING)
def test_no_check_keeps_the_data_that_its_loss_holds(where, of):
    """Programs are kept for checks to come: their constants, and what their rules close over, are not."""
    data = of.arange(5000, dtype=np.float32)  # more than is compared byte by byte
    loss = HOLDING[where](data)
    report = check_gradients(loss, lambda x, data=data: jnp.asarray(data), np.ones(5000, np.float32), raise_=False)
    assert report.verdict != "FAIL", str(report)
    alive = weakref.ref(data)
    del data, loss, report
    gc.collect()
    assert alive() is None


def test_jitted_losses_that_hold_large_data_share_a_program():
    programs = []
    for k in (1, 2):
        data = np.full(5000, k, np.float32)
        trace = readable(jax.make_jaxpr(HOLDING["a jitted function in another"](data))(np.ones(5000, np.float32)))
        programs.append(program_of(trace))
        run = programs[-1].compiled(as_it_is)
        assert run(trace.consts, [np.ones(5000, np.float32)])[0] == 5000 * k
    assert programs[0] is programs[1]


def test_a_kept_program_holds_no_rule_of_the_user_s():
    f = with_rule(jnp.sin)
    inside = lambda x: jax.lax.scan(lambda c, _: (jax.jit(f)(c) * c, None), x, length=2)[0].sum()
    trace = jax.make_jaxpr(inside)(X)
    assert rules_left_out(trace) and any(map(is_custom_rule, equations(trace)))
    assert not any(map(is_custom_rule, equations(program_of(trace).jaxpr)))


def test_what_is_compiled_ahead_is_what_is_called():
    """Once, for arguments of these shapes; others are compiled when they come."""
    program, traced = program_of(jax.make_jaxpr(lambda x: jnp.cos(x).sum())(X)), []

    def reading(program):
        return lambda consts, x: traced.append(x.shape) or jax.core.eval_jaxpr(program.jaxpr, consts, x)[0]

    for like in (X, jax.ShapeDtypeStruct(X.shape, X.dtype)):
        program.expect(reading, ((), like))
    jax.clear_caches()  # so that nothing but what was kept is there
    assert program.compiled(reading)((), X) == pytest.approx(np.cos(X).sum(), rel=1e-6)
    assert traced == [(6,)]


def test_what_cannot_be_compiled_ahead_is_refused_to_who_calls_it():
    made = Primitive("without_a_lowering")
    made.def_abstract_eval(lambda x: x)
    program = program_of(jax.make_jaxpr(made.bind)(X))
    with pytest.raises(NotImplementedError):
        program.expect(as_it_is, ((), [X]))
    with pytest.raises(NotImplementedError):
        program.compiled(as_it_is)((), [X])


def test_checks_on_several_threads_share_a_program_and_nothing_else():
    def loss(x, y):
        return jnp.sum(jnp.sin(x) * jnp.where(x > 0, y, -y) - jnp.maximum(x, 0.0))

    right = jax.grad(loss)

    def check(k):
        x, y = (np.random.default_rng(k + j).normal(size=4).astype(np.float32) for j in (0, 50))
        wrong = lambda x, y: right(x, y).at[k % 4].mul(1.5)
        return [check_gradients(loss, g, x, y, raise_=False, key=k) for g in (right, wrong)]

    one_by_one = list(map(check, range(6)))
    with ThreadPoolExecutor(6) as threads:
        at_once = list(threads.map(check, range(6)))
    for k, ((good, bad), (good_alone, bad_alone)) in enumerate(zip(at_once, one_by_one, strict=True)):
        assert good.verdict == good_alone.verdict == "PASS" and good.notes == good_alone.notes == ()
        assert bad.verdict == "FAIL" and bad.leaves[""].worst_index == (k % 4,) and bad.cause == bad_alone.cause


def test_a_program_is_built_once_however_many_threads_ask_for_it():
    program, built = program_of(jax.make_jaxpr(lambda x: jnp.tan(x).sum())(X)), []

    def reading(program):
        built.append(threading.get_ident())
        return lambda consts, x: jax.core.eval_jaxpr(program.jaxpr, consts, x)[0]

    def ask(_):
        program.expect(reading, ((), X))
        return float(program.compiled(reading)((), X))

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(32)))
    assert len(built) == 1 and found == pytest.approx([np.tan(X).sum()] * 32, rel=1e-5)
