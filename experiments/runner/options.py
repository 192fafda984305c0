"""Options of the command line: constraints that stand in the types of a Config's fields, and how they are shown.

`steps: Positive[int] = 100` refuses 0 with a message that names --steps; `hidden: tuple[Positive[int], ...]` looks at
each of the values. `--help` shows the constraint beside the option.
"""

import dataclasses
import itertools
import math
import numbers
import shlex
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_args, get_type_hints


@dataclasses.dataclass(frozen=True)
class Range:
    """The finite numbers from low to high; with `above`, low itself is excluded."""

    low: float
    high: float = math.inf
    above: bool = False

    def allows(self, value: Any, kind: type) -> bool:
        """Whether the value is a number of this kind in the range."""
        number = numbers.Integral if kind is int else numbers.Real
        if isinstance(value, bool) or not isinstance(value, number) or not abs(value) < math.inf:
            return False
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def phrase(self, kind: type) -> str:
        """The range in words."""
        noun = "an integer" if kind is int else "a finite number"
        if self.high < math.inf:
            return f"{noun} from {self.low:.10g} to {self.high:.10g}"
        if self.above and kind is not int:
            return f"{noun} above {self.low:g}"
        return f"{noun} of at least {self.low + self.above:g}"

    def symbol(self, kind: type) -> str:
        """The range as --help shows it."""
        word = kind.__name__.upper()
        if self.high < math.inf:
            return f"{word} {self.low:.10g}..{self.high:.10g}"
        return f"{word}>{self.low:g}" if self.above else f"{word}≥{self.low:g}"


@dataclasses.dataclass(frozen=True)
class Rising:
    """Several values, each larger than the one before, from `first` if that is given."""

    first: float | None = None

    def allows(self, values: tuple) -> bool:
        """Whether the values rise."""
        return list(values) == sorted(values) and self.first in (None, values[0])

    def phrase(self) -> str:
        """The constraint in words."""
        return "values that rise" + ("" if self.first is None else f" from {self.first:g}")


Number = TypeVar("Number", int, float)
Positive = Annotated[Number, Range(0, above=True)]
NonNegative = Annotated[Number, Range(0)]
Share = Annotated[float, Range(0, 1)]


def check(config: Any) -> None:
    """Refuse values that the fields' types exclude.

    Raises:
        ValueError: names the option, what was expected, what was given, and the default as an example.
    """
    hints = get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        value, (several, kind, ranges, rising) = getattr(config, field.name), constraints(hints[field.name])
        given, example = (shlex.join(option(field.name, each)) for each in (value, field.default))
        if several and not isinstance(value, tuple):
            raise ValueError(f"{given}: expected a tuple of values, such as {example}")
        if several and value == () != field.default:
            raise ValueError(f"{given} has no value; expected one or more, such as {example}")
        if several and len(set(value)) < len(value):
            raise ValueError(f"{given} names a value twice; expected each once, such as {example}")
        for limits, one in itertools.product(ranges, value if several else (value,)):
            if not limits.allows(one, kind):
                raise ValueError(f"--{dashed(field.name)} is {one}; expected {limits.phrase(kind)}, such as {example}")
        for order in rising:
            if not order.allows(value):
                raise ValueError(f"{given}: expected {order.phrase()}, such as {example}")


def constraints(hint: Any) -> tuple[bool, type | None, list[Range], list[Rising]]:
    """Whether a field has several values, the kind of each, and the constraints of its type."""
    outer = getattr(hint, "__metadata__", ())
    hint = get_args(hint)[0] if outer else hint
    several = getattr(hint, "__origin__", None) is tuple
    item = get_args(hint)[0] if several else hint
    inner = getattr(item, "__metadata__", ())
    kind = get_args(item)[0] if inner else item
    every = (*outer, *inner)
    return (
        several,
        kind,
        [limit for limit in every if isinstance(limit, Range)],
        [order for order in every if isinstance(order, Rising)],
    )


def with_help(config_type: type) -> type:
    """The same options for tyro, each with its constraint in place of the bare type."""
    import tyro

    hints = get_type_hints(config_type, include_extras=True)
    shown = []
    for field in dataclasses.fields(config_type):
        several, kind, ranges, _ = constraints(hints[field.name])
        hint = hints[field.name]
        if ranges:
            symbol = ranges[0].symbol(kind) + " ..." * several
            hint = Annotated[hint, tyro.conf.arg(metavar=symbol)]
        shown.append((field.name, hint, dataclasses.field(default=field.default)))
    return dataclasses.make_dataclass(config_type.__name__, shown, bases=(config_type,), frozen=True)


def parse(config_type: type, program: str, description: str, args: list[str] | None = None, **settings) -> Any:
    """The command line as a Config; further settings go to tyro."""
    import tyro

    shown: Callable = with_help(config_type)
    answer = tyro.cli(shown, prog=program, description=description, args=args, **settings)
    parsed, *unknown = answer if settings.get("return_unknown_args") else (answer,)
    config = config_type(**{field.name: getattr(parsed, field.name) for field in dataclasses.fields(config_type)})
    return (config, *unknown) if unknown else config


def dashed(name: str) -> str:
    """A field's name as the command line has it."""
    return name.replace("_", "-")


def option(name: str, value: Any) -> list[str]:
    """An option of the command line as words."""
    if isinstance(value, bool):
        return [f"--{dashed(name)}" if value else f"--no-{dashed(name)}"]
    return [f"--{dashed(name)}", *map(str, value if isinstance(value, tuple) else (value,))]
