"""JAX's programs, and all that is known here of JAX's inside: no other module of the verifier names any of it.

Names outside of JAX's stable API, the parameters of its equations and the files of its package move between versions.
Where versions differ, what an object offers decides. A name that has moved costs what needs it, and is named when that
is asked for; it never costs the import of jaxnet.
"""

import contextlib
import functools
import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import jax
import numpy as np
from jax import lax


# ---- names outside of the stable API ---------------------------------------------------------------------------------
class _Missing(type):
    """The class that stands for a name that this JAX does not have: it is refused on use."""

    def __instancecheck__(cls, instance):
        raise ImportError(_refusal(cls.__name__))

    def __call__(cls, *args, **kwargs):
        raise ImportError(_refusal(cls.__name__))


def _found(module: str, name: str):
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return _Missing(f"{module}.{name}", (), {})


def _refusal(name: str) -> str:
    return (
        f"the verifier needs {name}, which jax {jax.__version__} does not have: use a version of jax that jaxnet's "
        "pyproject.toml allows, or a newer jaxnet."
    )


if TYPE_CHECKING:
    from jax.core import Tracer, eval_context
    from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, get_opaque_trace_state
else:
    ClosedJaxpr, Jaxpr, Literal, get_opaque_trace_state = (
        _found("jax.extend.core", name) for name in ("ClosedJaxpr", "Jaxpr", "Literal", "get_opaque_trace_state")
    )
    Tracer, eval_context = (_found("jax.core", name) for name in ("Tracer", "eval_context"))
_TABLES = [_found("jax.interpreters.ad", name) for name in ("primitive_jvps", "primitive_transposes")]
_RULES = [table for table in _TABLES if not isinstance(table, _Missing)]  # the derivatives of primitives, by primitive


def require():
    """Raises ImportError if the verifier cannot read a program at all."""
    for name in (ClosedJaxpr, Jaxpr, Literal, Tracer, eval_context):
        if isinstance(name, _Missing):
            raise ImportError(_refusal(name.__name__))


def tells_traces_apart() -> bool:
    """Whether `get_opaque_trace_state` is there."""
    return not isinstance(get_opaque_trace_state, _Missing)


def features_lost() -> list[str]:
    """What the verifier cannot do with this JAX, a sentence each, for every report."""
    lost = [
        f"jax {jax.__version__} has no {table.__name__}: a derivative registered for a primitive of your own is taken "
        "for JAX's"
        for table in _TABLES
        if isinstance(table, _Missing)
    ]
    if not tells_traces_apart():
        lost.append(
            f"jax {jax.__version__} has no {get_opaque_trace_state.__name__}: where a formula cancels is not named"
        )
    return lost


def outside_of_any_trace():
    """Lets a block run while its caller is traced. (ensure_compile_time_eval would fold constants in our traces.)"""
    return eval_context()


# ---- programs --------------------------------------------------------------------------------------------------------
def closed(program) -> ClosedJaxpr:
    """A program with its constants; one without has none."""
    return program if isinstance(program, ClosedJaxpr) else ClosedJaxpr(program, ())


def without_constants(program: ClosedJaxpr) -> Jaxpr:
    """What a program computes, its constants to be given: where the two are one class, it holds them no longer."""
    jaxpr = program.jaxpr
    return cast(Jaxpr, jaxpr.replace(consts=())) if isinstance(jaxpr, ClosedJaxpr) else jaxpr


def variables(jaxpr: Jaxpr) -> list:
    """The variables of constants, then of inputs: whether a program holds its constants decides which is which."""
    return [*jaxpr.constvars, *jaxpr.invars]


def source_of(traced) -> str:
    """The function that a program or a rule was traced from, as "name at file.py:12"; empty if unknown."""
    return str(getattr(getattr(traced, "debug_info", None), "func_src_info", "") or "")


# ---- equations -------------------------------------------------------------------------------------------------------
def bind(equation, inputs, parameters: dict) -> list:
    """The primitive of an equation applied, as `jax.core.eval_jaxpr` does it; always a list."""
    primitive = equation.primitive
    outs = primitive.bind(*inputs, **primitive.get_bind_params(parameters))
    return list(outs) if primitive.multiple_results else [outs]


def in_context_of(equation):
    """The settings of JAX under which an equation was traced, for a block."""
    return getattr(equation.ctx, "manager", contextlib.nullcontext())


def context_of(equation) -> str:
    """These settings, to be compared."""
    return repr(equation.ctx)


def frames_of(equation):
    """The calls that led to an equation, the innermost first; none if unknown."""
    return getattr(equation.source_info.traceback, "frames", None) or ()


def called_program(equation) -> ClosedJaxpr:
    """The program that a plain call (jit, remat) runs on the equation's inputs."""
    return closed(_first(equation, "jaxpr", "call_jaxpr"))


def called_name(equation) -> str | None:
    """The name of the function that a jit calls."""
    return equation.params.get("name")


def branch_count(equation) -> int:
    """The number of branches of a cond."""
    return len(equation.params["branches"])


def axes_of(equation) -> tuple:
    """The axes of a reduction."""
    return equation.params["axes"]


def permutation_of(equation) -> tuple:
    """The order in which a transpose puts the axes."""
    return equation.params["permutation"]


def broadcast_axes(equation) -> tuple:
    """Where a broadcast_in_dim puts the axes."""
    return equation.params["broadcast_dimensions"]


def multiplied_axes(equation):
    """The axes that a dot_general contracts and those that it batches, a pair each."""
    return equation.params["dimension_numbers"]


def cast_dtype(equation) -> np.dtype | None:
    """The dtype that a cast makes; None for any other equation."""
    return equation.params["new_dtype"] if equation.primitive.name == "convert_element_type" else None


def calls_host(equation) -> bool:
    """Whether an equation calls a function on the host."""
    return "callback" in equation.params


def host_function(equation) -> Callable:
    """The function that a callback calls on the host."""
    return equation.params["callback"]


def with_host_function(equation, function: Callable) -> dict:
    """The parameters of a callback that calls another function."""
    return {**equation.params, "callback": function}


def without_precision(equation) -> dict:
    """An equation's parameters, the flag that lets its products be rounded cleared."""
    return {name: None if name == "precision" else value for name, value in equation.params.items()}


def solver_programs(equation) -> list[Jaxpr]:
    """The programs by which a custom_linear_solve solves, as far as it has them."""
    solvers = equation.params["jaxprs"]
    return [s.jaxpr for s in (solvers.solve, solvers.transpose_solve) if s is not None]


def programs_within(equation):
    """The programs within an equation."""
    if equation.primitive.name == "pallas_call":  # its kernel works on references
        return
    if _high(equation) is not None:
        yield primal_of(equation)
    for parameter in equation.params.values():
        for part in parameter if isinstance(parameter, (tuple, list)) else (parameter,):
            if isinstance(part, (ClosedJaxpr, Jaxpr)):
                yield part


def _first(equation, *names: str):
    for name in names:
        if name in equation.params:
            return equation.params[name]
    raise TypeError(
        f"{equation.primitive.name} has the parameters {', '.join(sorted(equation.params))}; expected one of "
        f"{', '.join(names)}: jax {jax.__version__} is not known to the verifier."
    )


# ---- equations that run programs, run anew with every program read by `function` -------------------------------------
def _call(equation, inputs, function):
    return function(called_program(equation))(*inputs)


def _remat(equation, inputs, function):
    params = equation.params
    body = function(called_program(equation))
    return jax.checkpoint(lambda *args: body(*args), prevent_cse=params["prevent_cse"], policy=params["policy"])(
        *inputs
    )


def _scan(equation, inputs, function):
    params = equation.params
    fixed, carried = _scan_counts(params)
    consts, start, xs = inputs[:fixed], inputs[fixed : fixed + carried], inputs[fixed + carried :]
    body = function(params["jaxpr"])

    def step(carry, x):
        outs = body(*consts, *carry, *x)
        return tuple(outs[:carried]), tuple(outs[carried:])

    carry, ys = lax.scan(
        step, tuple(start), tuple(xs), params["length"], reverse=params["reverse"], unroll=params["unroll"]
    )
    return [*carry, *ys]


def _scan_counts(params) -> tuple[int, int]:
    """How many inputs of a scan are constants, and how many are carried."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(consts), len(carry)


def _while(equation, inputs, function):
    params = equation.params
    n, m = params["cond_nconsts"], params["body_nconsts"]
    until, body = function(params["cond_jaxpr"]), function(params["body_jaxpr"])
    return lax.while_loop(
        lambda carry: until(*inputs[:n], *carry)[0],
        lambda carry: tuple(body(*inputs[n : n + m], *carry)),
        tuple(inputs[n + m :]),
    )


def _cond(equation, inputs, function):
    branches = [function(branch) for branch in equation.params["branches"]]
    return lax.switch(inputs[0], branches, *inputs[1:])


def _shard_map(equation, inputs, function):
    params = equation.params
    axes = params.get("newly_manual_axes", params.get("manual_axes"))
    options: dict[str, Any] = {k: params[k] for k in ("check_vma",) if k in params}
    options |= {"axis_names": set(axes)} if axes is not None else {}
    body = function(closed(params["jaxpr"]))
    mapped = jax.shard_map(
        lambda *args: tuple(body(*args)),
        mesh=params["mesh"],
        in_specs=tuple(params["in_specs"]),
        out_specs=tuple(params["out_specs"]),
        **options,
    )
    return mapped(*inputs)


STRUCTURED: dict[str, Callable] = {
    "jit": _call,
    "pjit": _call,
    "closed_call": _call,
    "core_call": _call,
    "remat2": _remat,
    "checkpoint": _remat,
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "shard_map": _shard_map,
}


# ---- functions with rules of their own -------------------------------------------------------------------------------
def is_custom_rule(equation) -> bool:
    """Whether an equation calls a function with a custom derivative, or a custom transpose."""
    return _high(equation) is not None or equation.primitive.name.startswith(
        ("custom_jvp_call", "custom_vjp_call", "linear_call")
    )


def primal_of(equation) -> ClosedJaxpr:
    """The function itself, without its rule."""
    high = _high(equation)
    if high is None:
        return closed(_first(equation, "call_jaxpr", "callee"))  # the second of a linear_call

    def expanded(*inputs):
        return high.expand(*jax.tree_util.tree_unflatten(high.in_tree, inputs))

    dtypes = {str(v.aval.dtype) for v in (*equation.invars, *equation.outvars)}
    inputs = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in equation.invars]
    with jax.enable_x64(not dtypes.isdisjoint(("float64", "complex128", "int64", "uint64"))):  # as it was written
        return jax.make_jaxpr(expanded)(*inputs)


def primal_source(equation) -> str:
    """Where the function itself was written, as "name at file.py:12"; empty if unknown."""
    high = _high(equation)
    if high is None:
        return source_of(primal_of(equation).jaxpr)
    code = type(high).expand.__code__
    return f"{type(high).__name__} at {code.co_filename}:{code.co_firstlineno}"


def _high(equation):
    """The object that holds the value and the rules of a "high" primitive, as newer versions write custom_root."""
    return equation.params.get("_prim") if equation.primitive.name == "call_hi_primitive" else None


def rule_source(equation) -> str:
    """The rule's function as "name at file.py:12"; empty where it is not told."""
    for name in ("bwd", "jvp_jaxpr_fun", "fwd_jaxpr_thunk"):
        if getattr(equation.params.get(name), "debug_info", None) is not None:
            return source_of(equation.params[name])
    return ""


def rule_functions(equation) -> list:
    """The plain functions that a rule of JAX's own goes through: the lambdas that the user gave to `defjvps`, say."""
    high = _high(equation)
    if high is not None:
        return list(_reachable(list(high.params.values())))
    wraps = "custom_derivatives.py" in rule_source(equation)
    return list(_reachable(equation.params.get("jvp_jaxpr_fun"))) if wraps else []


def rule_constants(equation) -> int:
    """How many inputs are constants that the rule does not see."""
    return equation.params.get("num_consts", 0)


def has_jvp_program(equation) -> bool:
    """Whether the rule can be had as a program."""
    return "jvp_jaxpr_fun" in equation.params


def jvp_program(equation, count: int):
    """The rule for `count` inputs that all move: its program, its constants, and which outputs do not move."""
    return equation.params["jvp_jaxpr_fun"].call_wrapped(*[False] * count)


def registered_rules(primitive) -> list:
    """The functions that are registered as the derivatives of a primitive."""
    return list(_reachable([table.get(primitive) for table in _RULES]))


def public_name(equation) -> str:
    """An operation by its public name: a custom_root is a call of JAX's own around functions of the user's."""
    if is_custom_rule(equation):
        function, _, place = primal_source(equation).partition(" at ")
        if function in ("_custom_root", "CustomRoot") and is_of_jax(place):
            return "custom_root"
    return equation.primitive.name


def is_by_custom_gradient(equation) -> bool:
    """Whether jax.custom_gradient made the function and its rule, of one of the user's that gives both."""
    return "custom_derivatives.py" in primal_source(equation).rpartition(" at ")[2]


def _reachable(thing, depth=16, seen=None):
    """The plain functions that a wrapped function closes over."""
    seen = set() if seen is None else seen
    if depth == 0 or id(thing) in seen:
        return
    seen.add(id(thing))
    if hasattr(thing, "__code__"):
        yield thing
        for cell in thing.__closure__ or ():
            try:
                yield from _reachable(cell.cell_contents, depth - 1, seen)
            except ValueError:  # a cell not yet filled
                continue
    elif isinstance(thing, (tuple, list)):
        for part in thing:
            yield from _reachable(part, depth - 1, seen)
    elif isinstance(thing, functools.partial):
        for part in (thing.func, *thing.args, *thing.keywords.values()):
            yield from _reachable(part, depth - 1, seen)
    elif type(thing).__name__ == "WrappedFun":
        yield from _reachable(thing.f, depth - 1, seen)


# ---- files of the package --------------------------------------------------------------------------------------------
JAX = os.path.dirname(jax.__file__) + os.sep
# Through which a call passes on its way, also under vmap.
_PASSING_ON = tuple(
    os.path.join(JAX, "_src", name)
    for name in (
        "tree", "api", "pjit", "core", "linear_util", "util", "traceback_util", "source_info_util", "interpreters"
    )
)  # fmt: skip


def is_of_jax(place: str) -> bool:
    """Whether a file, or a place "file.py:12", is of the jax package."""
    return place.startswith(JAX)


def is_code_of_jax(function) -> bool:
    """Whether a plain function was written inside the jax package."""
    return is_of_jax(function.__code__.co_filename)


def passes_on(frame) -> bool:
    """Whether a call is one of JAX's on the way to an operation, or the operation's own public function."""
    return frame.file_name.startswith(_PASSING_ON) or (
        is_of_jax(frame.file_name) and "stop_gradient" in frame.function_name
    )
