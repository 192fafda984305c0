"""Compiled readings of a program, shared between checks whose programs are equal.

A check compiles the loss four or more times and runs each reading once or twice, so compilation is most of its cost.
Two checks of one loss at two points (another seed, another cotangent, another wrong gradient) have equal jaxprs, and
need one compilation. Equal means equal in everything that a reading looks at: operations, parameters, literals, avals.
"""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from jaxnet.verify.program import jaxprs
from jaxnet.verify.program.jaxprs import ClosedJaxpr, Jaxpr, Literal
from jaxnet.verify.program.rules import (
    equations,
    is_declared_stop,
    is_opaque,
    opaque_operations,
    place_of,
    rule_name,
    without_rules,
)

KEPT = 128  # programs; the least recently used goes first
SMALL = 4096  # constants inside of an operation that are compared byte by byte; larger ones are not worth holding
_PROGRAMS: OrderedDict = OrderedDict()
_LOCK = threading.Lock()


class Program:
    """A jaxpr and what has been compiled from it; the constants are arguments, so equal programs share it.

    Checks on several threads may share one: what is compiled is looked up and entered under a lock.
    """

    def __init__(self, jaxpr: Jaxpr):
        """Nothing is compiled yet."""
        self.jaxpr = jaxpr
        self._lock = threading.Lock()
        self._jitted: dict = {}
        self._ahead: dict = {}  # what is compiled, or being compiled on another core, for arguments of given shapes

    def compiled(self, build, quickly=False) -> Callable:
        """The function `build(self)`, compiled on first use; waits for it if it is being compiled already.

        quickly   for what runs a few times: see quick
        """
        jitted = self._jit(build, quickly)

        def run(*arguments):
            ahead = self._ahead.get((build, _signature(arguments)))
            if ahead is None or ahead.exception() is not None:  # it will be raised anew, to who asks
                return jitted(*arguments)
            return ahead.result()(*arguments)

        return run

    def expect(self, build, arguments, quickly=False):
        """Begins to compile, on another core, what will soon be called with such arguments."""
        key = build, _signature(arguments)
        if key in self._ahead:
            return
        compiling = self._jit(build, quickly).lower(*arguments).compile
        with self._lock:
            if key not in self._ahead:
                self._ahead[key] = _compilers().submit(compiling)

    def _jit(self, build, quickly):
        with self._lock:
            if build not in self._jitted:
                self._jitted[build] = jax.jit(build(self), compiler_options=quick() if quickly else None)
            return self._jitted[build]


def _signature(arguments) -> tuple:
    """All that a compiled function asks of its arguments: their tree, shapes, dtypes and places, and the precision."""
    leaves, tree = jax.tree_util.tree_flatten(arguments)

    def kind(x):
        weak, where = bool(getattr(x, "weak_type", False)), getattr(x, "sharding", None)
        return np.shape(x), getattr(x, "dtype", None), weak, where

    return tree, tuple(map(kind, leaves)), jax.dtypes.canonicalize_dtype(float)


@functools.cache
def _compilers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, "jaxnet.verify compiles")


QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
WITHOUT_MLIR = {"xla_cpu_use_fusion_emitters": False}


@functools.cache
def quick() -> dict | None:
    """Compiler options for what runs a few times: a quarter of the time, to slower code; None where there are none."""
    if jax.default_backend() != "cpu":
        return None
    try:  # an option that not every version of the compiler has
        jax.jit(lambda x: x, compiler_options=QUICK | WITHOUT_MLIR).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return QUICK
    return QUICK | WITHOUT_MLIR


def program_of(closed: ClosedJaxpr) -> Program:
    """The program of a closed jaxpr without the user's rules; the one that an equal jaxpr had, if it is still kept."""
    closed = without_rules(closed)
    try:
        key = None if opaque_operations(closed) else (_key(closed.jaxpr), _places(closed.jaxpr))
        hash(key)
    except TypeError:  # a parameter that cannot be compared: not shared
        key = None
    if key is None:
        return Program(jaxprs.without_constants(closed))
    with _LOCK:
        program = _PROGRAMS.setdefault(key, Program(jaxprs.without_constants(closed)))
        _PROGRAMS.move_to_end(key)
        while len(_PROGRAMS) > KEPT:
            _PROGRAMS.popitem(last=False)
    return program


def same_program(one: ClosedJaxpr, other: ClosedJaxpr) -> bool:
    """Whether two traces are of one program, as far as it can be seen into, with the same constants."""
    one, other = map(without_rules, (one, other))
    try:
        alike = _key(one.jaxpr) == _key(other.jaxpr)
    except TypeError:  # a parameter that cannot be compared is printed
        alike = str(one.jaxpr) == str(other.jaxpr)
    return alike and all(a is b or _bits(a) == _bits(b) for a, b in zip(one.consts, other.consts, strict=True))


def _bits(x) -> bytes:
    keys = hasattr(x, "dtype") and jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if keys else x).tobytes()


def _key(jaxpr: Jaxpr) -> tuple:
    """A jaxpr as a hashable value: variables by number, jaxprs within taken apart, custom rules by name and primal."""
    numbers: dict = {}

    def atom(a):
        if isinstance(a, Literal):
            return ("literal", a.aval, _array(a.val))
        return (numbers.setdefault(a, len(numbers)), a.aval)

    def equation(e):
        if jaxprs.is_custom_rule(e):  # its rule is JAX's own
            parts = (rule_name(e), jaxprs.rule_constants(e), _value(jaxprs.primal_of(e)))
        elif is_opaque(e):  # a host function is made anew by each trace
            parts = ()
        else:
            parts = tuple((name, _value(e.params[name])) for name in sorted(e.params))
        ends = tuple(map(atom, e.invars)), tuple(map(atom, e.outvars))
        return (e.primitive, parts, *ends, jaxprs.context_of(e))

    given = tuple(map(atom, jaxprs.variables(jaxpr)))
    return (len(jaxpr.constvars), given, tuple(map(equation, jaxpr.eqns)), tuple(map(atom, jaxpr.outvars)))


def _value(x):
    """A parameter as a hashable value; TypeError if it has none."""
    if isinstance(x, ClosedJaxpr):
        return (_key(x.jaxpr), tuple(map(_array, x.consts)))
    if isinstance(x, Jaxpr):
        return _key(x)
    if isinstance(x, (tuple, list)):
        return (type(x), tuple(map(_value, x)))
    if isinstance(x, dict):
        return tuple((k, _value(x[k])) for k in sorted(x))
    if isinstance(x, (float, complex, np.ndarray, np.generic, jax.Array)):
        return _array(x)
    hash(x)
    return (type(x), x)  # held by the key, so that an identity stays one


def _array(x):
    """A number or array by its bits."""
    if np.size(x) > SMALL or not isinstance(x, (int, float, complex, np.ndarray, np.generic, jax.Array)):
        raise TypeError("a constant that is not compared")
    array = np.asarray(x)
    return (type(x).__name__ if np.ndim(x) == 0 else "", array.dtype, array.shape, array.tobytes())


def _places(jaxpr) -> tuple:
    """The lines of the subtractions, which a report may quote, and which stop_gradients are the author's."""
    quoted = {"sub": place_of, "stop_gradient": is_declared_stop}
    return tuple(quoted[e.primitive.name](e) for e in equations(jaxpr) if e.primitive.name in quoted)
