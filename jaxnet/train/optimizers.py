"""The optimizers that have a name, and what training knows of any: what its update takes, and what its state shows.

An optimizer by name keeps its numbers, such as the learning rate, in its state (optax.inject_hyperparams): they are
data, so that fits that differ in them alone share one compiled program.

In any other a learning rate stands in the closure of an optimizer and cannot be read. Nor does a first update tell it:
that is 0 in a warm-up, under a mask or while gradients are accumulated, and goes uphill in sharpness-aware
minimisation. So only rates that the state shows are checked; of others the history tells (warnings.py).
"""

import contextlib
import functools
import inspect
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool

from jaxnet import digests
from jaxnet._arguments import choice, from_zero, positive, type_name
from jaxnet.mlp import Params, weights_only
from jaxnet.train.state import first_difference
from jaxnet.train.warnings import warn

DEFAULT = "adam"
RATE = 1e-3  # where none is given, whatever the name
NAMES: dict[str, Callable[[Any], optax.GradientTransformation]] = {  # functions of the rate, all else as optax has it
    "sgd": optax.sgd,  # W -= rate * dW
    "momentum": partial(optax.sgd, momentum=0.9),
    "nesterov": partial(optax.sgd, momentum=0.9, nesterov=True),
    "rmsprop": optax.rmsprop,
    "adagrad": optax.adagrad,
    "adadelta": optax.adadelta,
    "adam": optax.adam,
    "nadam": optax.nadam,
    "adamax": optax.adamax,
    "radam": optax.radam,
    "adamw": partial(optax.adamw, mask=weights_only),  # weights decay, biases do not
    "lion": partial(optax.lion, mask=weights_only),
}
EXTRA = ("value", "grad", "value_fn")  # for those that search along a line, or watch the cost


@dataclass(frozen=True)
class Named:
    """An optimizer of `NAMES` and its numbers.

    l2: of a penalty l2/2 Σ‖W‖² in J, whose derivative l2 W is added to dW before the optimizer sees it; None is none.

    Raises:
        ValueError: no optimizer has that name, the rate is not above 0, or l2 is below 0.
    """

    name: str
    learning_rate: float = RATE
    l2: float | None = None

    def __post_init__(self):
        """Check, and store the numbers as floats."""
        choice("optimizer", self.name, NAMES, ", or an optimizer of optax")
        other = "; a schedule goes into an optimizer of optax: optimizer=optax.adam(schedule)"
        if np.ndim(self.learning_rate):
            other = "; several are for jaxnet.sweep(learning_rate=), which trains a network with each"
        object.__setattr__(self, "learning_rate", positive("learning_rate", self.learning_rate, other))
        if self.l2 is not None:
            object.__setattr__(self, "l2", from_zero("l2", self.l2))

    @property
    def numbers(self) -> dict[str, float]:
        """Those that are data of its program."""
        return {"learning_rate": self.learning_rate} | ({} if self.l2 is None else {"l2": self.l2})


class Chosen(NamedTuple):
    """The optimizer of a training.

    transformation: optax's (init, update), the same object for all of one name.
    name: None of one that was given as an object.
    numbers: what its state begins with, in place of those that init has.
    """

    transformation: Any
    name: str | None
    numbers: Mapping[str, float]


def chosen(given: Any, learning_rate: Any = None) -> Chosen:
    """Return the optimizer that a name, an object of optax, a `Named` or None stands for.

    Raises:
        ValueError, TypeError: it is none of these, or has a rate beside it that it would not take.
    """
    if given is None or isinstance(given, str):
        given = Named(DEFAULT if given is None else given, RATE if learning_rate is None else learning_rate)
    elif learning_rate is not None:
        raise ValueError(
            f"learning_rate is {learning_rate!r} beside {type_name(given)} as optimizer, which has its own; leave it"
            " out, or give the optimizer by its name, such as optimizer='adam'"
        )
    if isinstance(given, Named):
        return Chosen(_with_numbers_as_data(given.name, *given.numbers), given.name, given.numbers)
    return Chosen(hashable(optimizer(given, otherwise=f"a name, one of {', '.join(map(repr, NAMES))}, or ")), None, {})


@functools.cache
def _with_numbers_as_data(name: str, *numbers: str) -> optax.GradientTransformation:
    """The optimizer of that name, whose state holds these numbers: one object, so that its programs are found again."""
    if "l2" not in numbers:
        return optax.inject_hyperparams(lambda learning_rate: NAMES[name](learning_rate))(learning_rate=RATE)

    def penalised(learning_rate, l2):
        return optax.chain(optax.add_decayed_weights(l2, mask=weights_only), NAMES[name](learning_rate))

    return optax.inject_hyperparams(penalised)(learning_rate=RATE, l2=0.0)


def with_numbers(opt_state: Any, numbers: Mapping[str, Any]) -> Any:
    """The state of an optimizer by name with these numbers; any other state, with none, as it is."""
    if not numbers:
        return opt_state
    given = {name: jnp.asarray(value, opt_state.hyperparams[name].dtype) for name, value in numbers.items()}
    return opt_state._replace(hyperparams=opt_state.hyperparams | given)


def function_of_rate(optimizer: Any) -> Callable[[Any], Any]:
    """Return the function that makes an optimizer of a learning rate: what was given, or that of a name."""
    if isinstance(optimizer, str):
        return NAMES[choice("optimizer", optimizer, NAMES, ", or a function of the rate, such as optax.sgd")]
    if not callable(optimizer):
        raise TypeError(f"optimizer is {optimizer!r}; expected a name, or a function of the rate, such as optax.sgd")
    return hashable(optimizer)


def optimizer(optimizer: Any, argument: str = "optimizer", otherwise: str = "") -> Any:
    """Return the optimizer if it has optax's (init, update); the message says what else would do."""
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
        raise TypeError(
            f"{argument} is {optimizer!r}; expected {otherwise}an optax.GradientTransformation such as optax.sgd(0.1)"
            " or optax.adam(1e-3)"
        )
    return optimizer


def hashable(optimizer: Any) -> Any:
    """Return the optimizer, or the function that makes one, if compiled programs can be kept by it."""
    try:
        hash(optimizer)
    except TypeError as error:
        raise TypeError(
            f"optimizer is {type_name(optimizer)} without a hash, by which its compiled program is found again; make a"
            " dataclass frozen, or give optax.GradientTransformation(its.init, its.update)"
        ) from error
    return optimizer


def extra_arguments(optimizer: Any) -> tuple[str, ...]:
    """Which of `EXTRA` the update takes beside (updates, state, params): those it names, or all by **keywords.

    The signature says so, not the type: optax.MultiSteps hands them on and is no GradientTransformationExtraArgs, and
    optax.contrib.sam is one and takes none of them.
    """
    parameters = enumerate(inspect.signature(optimizer.update).parameters.values())
    named = [p for position, p in parameters if position > 2 or p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
    if any(p.kind is p.VAR_KEYWORD for p in named):
        return EXTRA
    return tuple(p.name for p in named if p.name in EXTRA)


def refuse_one_that_needs_the_cost(optimizer: optax.GradientTransformation, params: Params) -> None:
    """Raise ValueError for one whose update is not made of the gradient alone, by asking it of shapes."""
    offered = {"grad": params} if "grad" in extra_arguments(optimizer) else {}
    try:
        jax.eval_shape(lambda params: optimizer.update(params, optimizer.init(params), params, **offered), params)
    except TypeError as error:
        if not (missing := re.search(r"missing .* argument.*?: (.*)", str(error))):
            raise
        raise ValueError(
            f"optimizer asks for {missing[1]} beside privacy, and the cost is not private; give one that takes the"
            " gradient alone, such as optax.adam"
        ) from error


@contextlib.contextmanager
def refused_where_split(grads: Params) -> Iterator[None]:
    """Raise ValueError where an optimizer multiplies arrays, as L-BFGS and Muon do, whose sums devices would share."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "ShardingTypeError":  # JAX gives it no public name
            raise
        split = sorted({str(jax.typeof(leaf).sharding.spec) for leaf in jax.tree.leaves(grads)})
        raise ValueError(
            f"optimizer multiplies params that are split over a mesh ({', '.join(split)}), which JAX refuses; give"
            " layout='data', or an optimizer that works on each number by itself, such as optax.adam"
        ) from error


def check_state(argument: str, opt_state: Any, optimizer: Any, params: Params, remedy: str) -> None:
    """Raise ValueError where a state is not what the optimizer makes for these params."""
    expected = jax.eval_shape(optimizer.init, params)
    difference = first_difference(opt_state, expected)
    if difference:
        raise ValueError(f"{argument} is another optimizer's: {difference}; {remedy}")


def is_state_of(opt_state: Any, optimizer: Any, params: Params) -> bool:
    """Whether a state is like the one that the optimizer makes for these params."""
    return first_difference(opt_state, jax.eval_shape(optimizer.init, params)) is None


def digest(optimizer: Any, params: Params) -> tuple[str, str]:
    """Digests of the programs of an optimizer's init and of its update, in which constants and schedules stand."""
    offered = extra_arguments(optimizer)

    def update(grads: Params, state: optax.OptState, params: Params, cost: Array) -> tuple:
        values = {"value": cost, "grad": grads, "value_fn": lambda params: cost}
        return optimizer.update(grads, state, params, **{name: values[name] for name in offered})

    state = jax.eval_shape(optimizer.init, params)
    goes_on = jax.make_jaxpr(update)(params, state, params, np.float32(0))
    return _digest_of_program(jax.make_jaxpr(optimizer.init)(params)), _digest_of_program(goes_on)


def _digest_of_program(program: Any) -> str:
    text = re.sub(r"0x[0-9a-f]+", "", str(program.jaxpr))  # without addresses of functions
    constants = [jax.random.key_data(value) if is_key(value) else value for value in program.consts]
    digested = [digests.of_array(np.asarray(value)) for value in constants]
    return digests.of_record({"program": text, "constants": digested})


def is_key(leaf: Any) -> bool:
    """Whether a leaf is a typed random key of JAX, or several."""
    return jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key)


def learning_rate(opt_state: Any) -> float | None:
    """The learning rate that a state shows, or None."""
    rates = [node.hyperparams["learning_rate"] for node in _with_hyperparams(opt_state)]
    return float(rates[0]) if rates else None


def check_learning_rate(opt_state: Any, argument: str = "optimizer") -> None:
    """Raise ValueError where a state shows a constant learning rate that no descent has; a schedule may begin at 0."""
    for node in _with_hyperparams(opt_state):
        rate = np.asarray(node.hyperparams["learning_rate"])
        scheduled = "learning_rate" in getattr(node, "hyperparams_states", ())
        if not scheduled and not (np.isfinite(rate) & (rate > 0)).all():
            raise ValueError(f"{argument} has learning_rate {rate:g}; expected a finite number above 0")


def with_scaled_rate(opt_state: Any, factor: float) -> Any:
    """The state with factor times its learning rate; ValueError where it shows none, or one that a schedule sets."""
    nodes = _with_hyperparams(opt_state)
    if not nodes:
        raise ValueError(
            "optimizer shows no learning rate to be changed; expected one by name, such as optimizer='adam', or of"
            " optax.inject_hyperparams, such as optax.inject_hyperparams(optax.adam)(learning_rate=1e-3)"
        )
    if any("learning_rate" in getattr(node, "hyperparams_states", ()) for node in nodes):
        raise ValueError("optimizer has a learning_rate that its schedule sets at each step; expected a number")

    def scaled(node: Any) -> Any:
        if not _has_rate(node):
            return node
        rate = node.hyperparams["learning_rate"]
        return node._replace(hyperparams=node.hyperparams | {"learning_rate": (rate * factor).astype(rate.dtype)})

    return jax.tree.map(scaled, opt_state, is_leaf=_has_rate)


def _with_hyperparams(opt_state: Any) -> list:
    """The states of optax.inject_hyperparams that hold a learning rate, wherever they stand."""
    return _nodes(opt_state, _has_rate)


def _has_rate(node: Any) -> bool:
    return "learning_rate" in getattr(node, "hyperparams", ())


def warn_of_a_rate_without_effect(opt_state: Any, given: float) -> None:
    """Warn where a resumed training goes on with another rate than was given; for the caller of the one that calls."""
    rate = learning_rate(opt_state)
    if rate is not None and not np.isclose(rate, given, rtol=1e-6, atol=0):
        warn(
            f"learning_rate is {given:g} but resume goes on with the rate of its state, {rate:g}; to change it, let a"
            " callback return jaxnet.scale_learning_rate(loop, factor) once"
        )


def warn_of_unapplied_gradients(opt_state: Any) -> None:
    """Warn where optax.MultiSteps holds gradients that no update has used; for the caller of the one that calls."""
    accumulated = _nodes(opt_state, lambda node: isinstance(node, optax.MultiStepsState))
    held, updates = (
        max((int(np.max(getattr(node, name))) for node in accumulated), default=0)
        for name in ("mini_step", "gradient_step")
    )
    if held:
        warn(
            f"optimizer, an optax.MultiSteps, has made {updates} updates and holds gradients of its next window, {held}"
            " so far, that no update has used; choose epochs and batch_size so that the window divides the number of"
            " steps, or go on with resume"
        )


def refused_update(opt_state: Any) -> Bool[Array, "..."] | None:
    """Whether optax.apply_if_finite was given a gradient that is not finite; None where the optimizer has none.

    It has then counted it, and left the params alone as long as its limit allows.
    """
    guards = _nodes(opt_state, lambda node: isinstance(node, optax.ApplyIfFiniteState))
    return functools.reduce(operator.or_, (~guard.last_finite for guard in guards)) if guards else None


def _nodes(tree: Any, wanted: Any) -> list:
    return [node for node in jax.tree.leaves(tree, is_leaf=wanted) if wanted(node)]
