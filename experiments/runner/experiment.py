"""The skeleton that every experiment shares: a frozen Config, `run(config) -> Result`, and `main`.

All effects live here: the command line, the results directory, the clock, the exit code. An experiment is a module of
this package with `NOTES` (the notes' sections that it shows), `DATA` (the functions of jaxnet.datasets that it calls),
`Config` and `run`; `main` runs it by itself, `python -m experiments` runs them all.
"""

import dataclasses
import datetime
import functools
import importlib
import inspect
import io
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, ClassVar, Literal

import jax
from tqdm import tqdm

import jaxnet
from experiments.runner.results import files, not_numbers, require_writable, strict, write
from jaxnet import parallel

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxnet"
EXTRA = ("matplotlib", "mlxtend", "sklearn", "tyro")  # what pip install "jaxnet[experiments]" brings


def said(error: BaseException) -> str:
    """What to tell the user of an error: a package that is missing is named with the extra that brings it."""
    package = (getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ImportError) and package in EXTRA:
        return f'{package} is not installed; pip install "jaxnet[experiments]" brings it'
    return str(error) if isinstance(error, ValueError | FloatingPointError) else f"{type(error).__name__}: {error}"


try:
    import tyro
    from matplotlib.figure import Figure
except ImportError as error:
    sys.exit(said(error))

# Okabe and Ito's colours, told apart by the colour-blind as well
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#777777",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    """What every experiment takes; with --quick, an option left at its default takes its value in QUICK."""

    QUICK: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    seed: int = 0
    """Seed of everything random; the same seed gives the same numbers."""
    device: Literal["cpu", "gpu", "tpu"] | None = None
    """Where to compute; None is JAX's default. One that is absent is an error."""
    results: Path = Path("results")
    """Directory for the figure and the numbers; the experiment adds its own name."""
    quick: bool = False
    """Smaller, for a look: seconds."""
    cache: bool = False
    """Keep compiled programs for later runs, in your own cache directory: a second start compiles nothing."""

    def __post_init__(self):
        """Makes the options quick: metrics.json then tells what was run.

        Raises:
            ValueError: an option that no experiment can take.
        """
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"--seed is {self.seed}; expected an integer from 0 to {2**31 - 1}, such as --seed 0")
        for field in dataclasses.fields(self):
            value, example = getattr(self, field.name), field.default
            if isinstance(value, tuple):
                given, such_as = (shlex.join(option(field.name, values)) for values in (value, example))
                if value == () != example:
                    raise ValueError(f"{given} has no value; expected one or more, such as {such_as}")
                if len(set(value)) < len(value):
                    raise ValueError(f"{given} names a value twice; expected each once")
            if self.quick and field.name in self.QUICK and value == example:
                object.__setattr__(self, field.name, self.QUICK[field.name])


@dataclasses.dataclass(frozen=True)
class Result:
    """What an experiment found: whether its claim held, the numbers behind it, and a picture of them."""

    claim: str
    held: bool
    metrics: dict[str, Any]
    figure: Figure


def keep_compiled(directory: Path) -> None:
    """Use JAX's persistent compilation cache, for programs of any size."""
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def perform(name: str, config: Config) -> dict[str, Any]:
    """Run an experiment on its device; write metrics.json and NAME.png, and return what metrics.json holds."""
    module = importlib.import_module(f"experiments.{name}")
    _, picture = files(config.results, name)
    require_writable(*files(config.results, name))
    if config.cache:
        keep_compiled(CACHE)
    began = time.perf_counter()
    with jax.default_device(parallel.device(config.device)):
        result = module.run(config)
    metrics = strict(result.metrics)
    no_numbers = not_numbers(metrics)
    record = {
        **about(name, module),
        "claim": result.claim + (f" It fails: NaN is {listed(no_numbers)}." if no_numbers else ""),
        "held": bool(result.held) and not no_numbers,
        "metrics": metrics,
        "config": strict(dataclasses.asdict(config)),
        **ran(name, config, began),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": jax.devices(config.device)[0].device_kind,
    }
    drawn = io.BytesIO()  # so that an interrupt of the drawing leaves the earlier picture to the earlier numbers
    result.figure.savefig(drawn, dpi=120)
    picture.write_bytes(drawn.getvalue())
    write(record, config.results)
    return record


def about(name: str, module: ModuleType) -> dict[str, Any]:
    """What an experiment's module says of itself and of its data."""
    return {
        "experiment": name,
        "notes": module.NOTES,
        "about": module.__doc__,
        "data": {load.__name__: source(load) for load in module.DATA},
    }


def source(load: Callable) -> str:
    """Where a data set comes from and its licence, which its function in jaxnet.datasets tells after "Source:"."""
    return " ".join(inspect.getdoc(load).partition("Source:")[2].split())


def ran(name: str, config: Config, began: float) -> dict[str, Any]:
    """How a run is made again, how long it took and when it ended."""
    return {
        "command": command(name, config),
        "seconds": round(time.perf_counter() - began, 2),
        "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def command(name: str, config: Config) -> str:
    """The command line that makes this run again."""
    words = ["python", "-m", f"experiments.{name}"]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != field.default and not (config.quick and value == config.QUICK.get(field.name)):
            words += option(field.name, value)
    return shlex.join(words)


def option(name: str, value: Any) -> list[str]:
    """An option of the command line as words."""
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{dashed}" if value else f"--no-{dashed}"]
    return [f"--{dashed}", *map(str, value if isinstance(value, tuple) else (value,))]


def watched(items: Iterable, unit: str) -> Iterable:
    """The items one by one, with a progress bar if standard error is a terminal."""
    return tqdm(items, unit=unit, disable=None, leave=False)


def side_by_side(function: Callable, items: Sequence, unit: str) -> list:
    """function(item) of every item, in a thread for each core, with a bar: XLA compiles outside Python's lock.

    For items that compile programs of their own; where times are taken, one after the other is right.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(tqdm(pool.map(function, items), total=len(items), unit=unit, disable=None, leave=False))


@functools.partial(jax.jit, static_argnums=0)
def cost_and_accuracy(net: jaxnet.MLP, params: jaxnet.network.Params, X, Y) -> tuple[jax.Array, jax.Array]:
    """J, and the share of examples read right; compiled as one."""
    return jaxnet.cost(net, params, X, Y), jaxnet.accuracy(jaxnet.predict(net, params, X), Y)


def seconds(call: Callable, *arguments, repeats: int = 20) -> float:
    """The median time of a call, after a first one that compiles; each waits for what it computes."""
    jax.block_until_ready(call(*arguments))
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(call(*arguments))
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def cli(config_type: type[Config], program: str, description: str) -> Config:
    """The command line as a Config."""
    return tyro.cli(config_type, prog=program, description=description)


def main(name: str) -> None:
    """Read the command line, run the experiment, save what it found; exit 1 if its claim did not hold."""
    module = importlib.import_module(f"experiments.{name}")
    told = about(name, module)
    data = [f"Data, {load}: {origin}" for load, origin in told["data"].items()]
    config = cli(module.Config, f"python -m experiments.{name}", "\n\n".join([told["about"].strip(), *data]))
    try:
        record = perform(name, config)
    except (ValueError, FloatingPointError, ImportError) as error:  # the message says what to do
        sys.exit(f"{name}: {said(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"\n{'HELD' if record['held'] else 'FAILED'}: {record['claim']}")
    print("Saved {} and {}".format(*files(config.results, name)))
    sys.exit(0 if record["held"] else 1)
