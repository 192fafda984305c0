"""JAX's programs, and all that is known here of JAX's inside: no other module of the verifier names any of it.

Names outside of JAX's stable API, the parameters of its equations and the files of its package move between versions.
Where versions differ, what an object offers decides. A name that has moved costs what needs it, and is named when that
is asked for; it never costs the import of jaxnet.
"""

import contextlib
import functools
import importlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from jaxnet.verify.errors import REFUSALS
from jaxnet.verify.program.dtypes import is_wide
from jaxnet.verify.program.primitives import treatment

# ---- names outside of the stable API ---------------------------------------------------------------------------------
MISSING: dict[str, str] = {}  # the names that this JAX does not have, and what is lost without: nothing said, all


def _found(module: str, name: str, lost: str = "") -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        MISSING[f"{module}.{name}"] = lost
        return type(name, (), {})  # nothing is one of these


if TYPE_CHECKING:
    from jax.core import Tracer, eval_context
    from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
    from jax.extend.core.primitives import closed_call_p
else:
    ClosedJaxpr, Jaxpr, Literal = (_found("jax.extend.core", name) for name in ("ClosedJaxpr", "Jaxpr", "Literal"))
    closed_call_p = _found("jax.extend.core.primitives", "closed_call_p")
    Tracer, eval_context = (_found("jax.core", name) for name in ("Tracer", "eval_context"))
function_of = _found("jax.extend.core", "jaxpr_as_fun", "order=2 is not judged")  # as JAX itself runs a program
UNTRUSTED = "what uses a primitive from outside of jax is not differentiated"
_TABLES = [_found("jax.interpreters.ad", f"primitive_{what}", UNTRUSTED) for what in ("jvps", "transposes")]
_FILTERING = _found(
    "jax._src.config", "traceback_filtering", "a crash of the verifier may be told as a refusal of JAX's"
)


def require():
    """Raises ImportError if the verifier cannot read a program at all."""
    for name in (name for name, lost in MISSING.items() if not lost):
        raise ImportError(
            f"the verifier needs {name}, which jax {jax.__version__} does not have: use a version of jax that "
            "jaxnet's pyproject.toml allows, or a newer jaxnet."
        )


def features_lost() -> list[str]:
    """What the verifier cannot do with this JAX, a sentence each, for every report."""
    files = [name for name in _PASSING_ON if not (os.path.exists(f"{name}.py") or os.path.isdir(name))]
    lost = {**MISSING, **dict.fromkeys(files, "a stop_gradient of yours may be taken for JAX's")}
    return [f"jax {jax.__version__} has no {name}: {what}" for name, what in lost.items()]


def outside_of_any_trace():
    """Lets a block run while its caller is traced. (ensure_compile_time_eval would fold constants in our traces.)"""
    return eval_context()


# ---- errors ----------------------------------------------------------------------------------------------------------
def with_whole_tracebacks():
    """JAX's own calls stay in the tracebacks of a block: they tell who refuses what."""
    return contextlib.nullcontext() if isinstance(_FILTERING, type) else _FILTERING("off")


_OF_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


def refuses(error: Exception, calls: list) -> bool:
    """Whether JAX, called by us, refuses a program that it cannot run, trace or differentiate."""
    if isinstance(error, jax.errors.JaxRuntimeError):
        return True
    if any("JAX has removed" in text for text in getattr(error, "__notes__", ())):  # the calls that would tell
        return not isinstance(error, (AttributeError, NameError, LookupError, AssertionError))
    if not calls:
        return False
    if isinstance(error, _OF_VALUES):  # what is traced asks for values; unless it was we who did, of a tracer
        return not calls[0].f_code.co_name.startswith("__")
    derives = any(word in calls[-1].f_code.co_name for word in ("jvp", "transpose"))
    return isinstance(error, NotImplementedError) or (derives and is_of_jax(calls[-1].f_code.co_filename))


REFUSALS.append(refuses)


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


def mapped(program, change: Callable) -> Any:
    """A program with every equation, at any depth, as `change` makes it."""
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    changed = jaxpr.replace(eqns=[_mapped_within(change(equation), change) for equation in jaxpr.eqns])
    return ClosedJaxpr(changed, program.consts) if isinstance(program, ClosedJaxpr) else changed


def _mapped_within(equation, change):
    """An equation with the programs among its parameters mapped."""
    if equation.primitive.name == "pallas_call":  # its kernel works on references
        return equation
    within = lambda value: of_programs(value, lambda program: mapped(program, change))
    return equation.replace(params={name: within(value) for name, value in equation.params.items()})


def of_programs(parameter, change: Callable) -> Any:
    """A parameter with every program in it (alone, in a tuple, in a named tuple) changed; itself where none is."""
    if isinstance(parameter, (ClosedJaxpr, Jaxpr)):
        return change(parameter)
    if not isinstance(parameter, tuple):
        return parameter
    parts = [of_programs(part, change) for part in parameter]
    if all(new is old for new, old in zip(parts, parameter, strict=True)):
        return parameter
    return type(parameter)(*parts) if hasattr(parameter, "_fields") else tuple(parts)


def with_own_constants(program: ClosedJaxpr) -> ClosedJaxpr:
    """A program that holds the constants of the functions it calls itself: a jitted function keeps its own with it."""
    constants, equations = dict(zip(program.jaxpr.constvars, program.consts, strict=True)), []
    for equation in program.jaxpr.eqns:
        called = with_own_constants(called_program(equation)) if treatment(equation).structure == "call" else None
        if called is not None and called.consts:
            moved = called.jaxpr.constvars
            constants.update(zip(moved, called.consts, strict=True))
            body = called.jaxpr.replace(constvars=[], invars=[*moved, *called.jaxpr.invars])
            equation = _calling(closed(body), equation, [*moved, *equation.invars])
        equations.append(equation)
    jaxpr = program.jaxpr.replace(constvars=[*constants], eqns=equations)
    return ClosedJaxpr(jaxpr, [*constants.values()])


def with_primal(equation):
    """In place of a function with a rule, the function."""
    return _calling(primal_of(equation), equation, equation.invars)


def _calling(program: ClosedJaxpr, equation, inputs):
    """An equation that runs a program in place of what it did."""
    return equation.replace(invars=inputs, primitive=closed_call_p, params={"call_jaxpr": program})


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


# What else is asked of the parameters of equations:
called_name = lambda equation: equation.params.get("name")  # of the function that a jit calls
branch_count = lambda equation: len(equation.params["branches"])  # of a cond
axes_of = lambda equation: equation.params["axes"]  # of a reduction
permutation_of = lambda equation: equation.params["permutation"]  # the order in which a transpose puts the axes
broadcast_axes = lambda equation: equation.params["broadcast_dimensions"]  # where a broadcast_in_dim puts the axes
multiplied_axes = lambda equation: equation.params["dimension_numbers"]  # contracted and batched by a dot_general
cast_dtype = lambda equation: equation.params["new_dtype"]  # that a convert_element_type makes
calls_host = lambda equation: "callback" in equation.params
host_function = lambda equation: equation.params["callback"]
with_host_function = lambda equation, function: {**equation.params, "callback": function}
rule_constants = lambda equation: equation.params.get("num_consts", 0)  # inputs that a rule does not see
has_jvp_program = lambda equation: "jvp_jaxpr_fun" in equation.params  # whether a rule can be had as a program


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
    yield from _programs_in([*equation.params.values()])


def _programs_in(parameter):
    if isinstance(parameter, (ClosedJaxpr, Jaxpr)):
        yield parameter
    elif isinstance(parameter, (tuple, list)):
        for part in parameter:
            yield from _programs_in(part)


def programs_with_inputs(equation, flags: list[bool]) -> list[tuple[ClosedJaxpr, list[bool]]]:
    """The programs within an equation, each with the flags of its inputs, of which some equations have one each.

    What a loop carries has the flag if anything that goes into the loop has it.
    """
    name, params, some = equation.primitive.name, equation.params, any(flags)
    if name == "scan":
        n, m = _scan_counts(params)
        return [(params["jaxpr"], [*flags[:n], *[some] * m, *flags[n + m :]])]
    if name == "while":
        n, m = params["cond_nconsts"], params["body_nconsts"]
        carried = [some] * len(flags[n + m :])
        return [(params["cond_jaxpr"], [*flags[:n], *carried]), (params["body_jaxpr"], [*flags[n : n + m], *carried])]
    if name == "cond":
        return [(branch, flags[1:]) for branch in params["branches"]]
    programs = map(closed, [primal_of(equation)] if is_custom_rule(equation) else programs_within(equation))
    return [(p, flags if len(p.jaxpr.invars) == len(flags) else [some] * len(p.jaxpr.invars)) for p in programs]


def _first(equation, *names: str):
    for name in names:
        if name in equation.params:
            return equation.params[name]
    raise TypeError(
        f"{equation.primitive.name} has the parameters {', '.join(sorted(equation.params))}; expected one of "
        f"{', '.join(names)}: jax {jax.__version__} is not known to the verifier."
    )


# ---- equations that run programs, run anew with every program read by `function` -------------------------------------
# `state`: arrays that each program takes before its inputs and gives before its outputs.
def _call(equation, inputs, function, state=()):
    return function(called_program(equation))(*state, *inputs)


def _remat(equation, inputs, function, state=()):
    params = equation.params
    body = function(called_program(equation))
    checkpoint = jax.checkpoint(lambda *args: body(*args), prevent_cse=params["prevent_cse"], policy=params["policy"])
    return checkpoint(*state, *inputs)


def _scan(equation, inputs, function, state=()):
    params, k = equation.params, len(state)
    fixed, carried = _scan_counts(params)
    consts, start, xs = inputs[:fixed], inputs[fixed : fixed + carried], inputs[fixed + carried :]
    body = function(params["jaxpr"])

    def step(carry, x):
        outs = body(*carry[:k], *consts, *carry[k:], *x)
        return tuple(outs[: k + carried]), tuple(outs[k + carried :])

    carry, ys = lax.scan(
        step, (*state, *start), tuple(xs), params["length"], reverse=params["reverse"], unroll=params["unroll"]
    )
    return [*carry, *ys]


def _scan_counts(params) -> tuple[int, int]:
    """How many inputs of a scan are constants, and how many are carried."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(consts), len(carry)


def _while(equation, inputs, function, state=(), turns=None):
    params, k = equation.params, len(state)
    n, m = params["cond_nconsts"], params["body_nconsts"]
    until, body = function(params["cond_jaxpr"]), function(params["body_jaxpr"])

    def asked(carry):
        return until(*carry[:k], *inputs[:n], *carry[k:])

    def step(carry):
        *seen, goes_on = asked(carry) if k or batched else (jnp.array(True),)
        outs = body(*seen, *inputs[n : n + m], *carry[k:])
        if not batched:
            return tuple(outs)
        chosen = [lax.expand_dims(goes_on, range(len(batched), x.ndim)) for x in carry[k:]]
        return *outs[:k], *map(jnp.where, chosen, outs[k:], carry[k:])

    batched = params["cond_jaxpr"].out_avals[0].shape  # of a vmap over loops, each of which ends by itself
    goes_on, start = lambda carry: jnp.any(asked(carry)[-1]), (*state, *inputs[n + m :])
    if turns is None:
        carry = lax.while_loop(goes_on, step, start)
    else:
        taken, *carry = lax.while_loop(
            lambda counted: (counted[0] < turns) & goes_on(counted[1:]),
            lambda counted: (counted[0] + 1, *step(counted[1:])),
            (jnp.zeros_like(turns), *start),
        )
        floating = lambda x: jnp.issubdtype(x.dtype, jnp.inexact)
        carry = [jnp.where(taken < turns, x, jnp.nan).astype(x.dtype) if floating(x) else x for x in carry]
    return [*asked(carry)[:k], *carry[k:]] if k else list(carry)


def _cond(equation, inputs, function, state=()):
    branches = [function(branch) for branch in equation.params["branches"]]
    return lax.switch(inputs[0], branches, *state, *inputs[1:])


def _shard_map(equation, inputs, function, state=()):
    params, k = equation.params, len(state)
    axes = params.get("newly_manual_axes", params.get("manual_axes"))
    options: dict[str, Any] = {name: params[name] for name in ("check_vma",) if name in params}
    options |= {"axis_names": set(axes)} if axes is not None else {}
    body = function(closed(params["jaxpr"]))

    names = tuple(axes or params["mesh"].axis_names)

    def on_each(*args):
        outs = body(*[lax.pcast(x, names, to="varying") for x in args[:k]], *args[k:])
        return *(lax.pmax(x, names) for x in outs[:k]), *outs[k:]

    mapped = jax.shard_map(
        on_each,
        mesh=params["mesh"],
        in_specs=(*[PartitionSpec()] * k, *params["in_specs"]),
        out_specs=(*[PartitionSpec()] * k, *params["out_specs"]),
        **options,
    )
    return list(mapped(*state, *inputs))


STRUCTURES: dict[str, Callable] = {
    "call": _call,
    "remat": _remat,
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

    inputs = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in equation.invars]
    with jax.enable_x64(any(is_wide(v.aval.dtype) for v in (*equation.invars, *equation.outvars))):  # as it was written
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
    if _high(equation) is not None:
        return primal_source(equation)
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


def wrapped_functions(equation) -> list:
    """The plain functions that a rule goes through, also those that an object holds which somebody else's rule is."""
    return list(_reachable([equation.params.get(name) for name in ("bwd", "jvp_jaxpr_fun")], into=callable))


def functions_held(thing) -> list:
    """The plain functions that a callable goes through, also those that an object holds; the nearest comes first."""
    return list(_reachable(thing, into=callable))


def has_arguments(equation) -> bool:
    """Whether the inputs of a rule are what it has derivatives for, and all of them."""
    return equation.primitive.name.startswith(("custom_jvp_call", "custom_vjp_call"))


def names_of_arguments(equation, count: int) -> tuple[str, ...]:
    """What a rule calls its inputs; empty where it is not told."""
    for name in ("fwd_jaxpr_thunk", "jvp_jaxpr_fun"):
        names = getattr(getattr(equation.params.get(name), "debug_info", None), "arg_names", None) or ()
        if len(names) == count:
            return tuple(map(str, names))
    return ()


def jvp_program(equation, count: int) -> tuple[ClosedJaxpr, list[bool]]:
    """The rule for `count` inputs that all move, as a program, and which outputs do not move."""
    jaxpr, constants, zero = equation.params["jvp_jaxpr_fun"].call_wrapped(*[False] * count)
    return ClosedJaxpr(jaxpr, constants), zero


def registered_rules(primitive) -> list:
    """The functions that are registered as the derivatives of a primitive, as far as JAX tells."""
    return list(_reachable([table.get(primitive) for table in _TABLES if isinstance(table, dict)]))


def is_trusted(primitive) -> bool:
    """Whether all that gives a primitive its derivative is known to be JAX's own."""
    if all(isinstance(table, dict) for table in _TABLES):
        return all(map(is_code_of_jax, registered_rules(primitive)))
    modules = [module for name, module in [*sys.modules.items()] if module and name.partition(".")[0] == "jax"]
    return any(value is primitive for module in modules for value in [*vars(module).values()])


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


def _reachable(thing, depth=16, seen=None, into=lambda thing: False):
    """The plain functions that a wrapped function closes over; also what objects hold that one may look `into`."""
    seen = set() if seen is None else seen
    if depth == 0 or id(thing) in seen:
        return
    seen.add(id(thing))
    if hasattr(thing, "__code__"):
        yield thing
        for cell in thing.__closure__ or ():
            try:
                yield from _reachable(cell.cell_contents, depth - 1, seen, into)
            except ValueError:  # a cell not yet filled
                continue
    elif isinstance(thing, (tuple, list)):
        for part in thing:
            yield from _reachable(part, depth - 1, seen, into)
    elif isinstance(thing, functools.partial):
        for part in (thing.func, *thing.args, *thing.keywords.values()):
            yield from _reachable(part, depth - 1, seen, into)
    elif type(thing).__name__ == "WrappedFun":
        yield from _reachable(thing.f, depth - 1, seen, into)
    elif into(thing):
        for part in getattr(thing, "__dict__", {}).values():
            yield from _reachable(part, depth - 1, seen, into)


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


def passes_on(frame, names: tuple[str, ...]) -> bool:
    """Whether a call is one of JAX's on the way to an operation, or of the public functions that give it names."""
    is_public = is_of_jax(frame.file_name) and any(name in frame.function_name for name in names)
    is_public &= not frame.function_name.endswith("_bcast_select")  # of what enters the branches of a cond under vmap
    return is_public or frame.file_name.startswith(_PASSING_ON)
