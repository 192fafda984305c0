"""The skeleton that every experiment shares: a frozen Config, what was found, a Result, and `main`.

All effects live here: the command line, the results directory, the clock, the exit code. An experiment is a module of
this package, NAME.py or NAME/__main__.py, with `NOTES` (the notes' sections that it shows), `DATA` (the functions of
jaxnet.datasets that it calls), `Config`, and the functions

- `measure(config)`: all the computing; returns what was found, by name;
- `clauses(found)`: the clauses of its claim, each true or false, or a Comparison of a number with its limit;
- `claim(found)`: the claim in a sentence, with its numbers;
- `draw(found)`: the figure;
- `metrics(found)`: what metrics.json keeps; all that was found unless this function says which;
- `explore(config)`: the data of its figure on the page, if it has one to handle: "still", the picture as SVG that
  stands there without JavaScript, and what NAME.js beside it reads.

`main` runs it by itself, `python -m experiments` runs them all.
"""

import ast
import dataclasses
import datetime
import functools
import importlib
import importlib.util
import inspect
import os
import platform
import shlex
import statistics
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

import jaxnet
from experiments.runner import options, plots, program
from experiments.runner.comparisons import Comparison
from experiments.runner.results import (
    explore_file,
    files,
    nan_paths,
    only_run,
    panels_file,
    require_writable,
    save_record,
    to_json,
)
from jaxnet._xla.threads import with_current_settings
from jaxnet.atomic_files import NotSavedError
from jaxnet.mlp import Params
from jaxnet.parallel import meshes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxnet"
EXTRA = ("matplotlib", "mlxtend", "sklearn", "tyro")  # what pip install "jaxnet[experiments]" brings
ALWAYS_NEEDED = ("tyro", "matplotlib")  # the others, by some experiments


@dataclasses.dataclass(frozen=True)
class Config:
    """What every experiment takes; with --quick, an option left at its default takes its value in QUICK."""

    QUICK: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    seed: Annotated[int, options.Range(0, 2**31 - 1)] = 0
    """Seed of everything random; the same seed gives the same numbers."""
    device: Literal["cpu", "gpu", "tpu"] | None = None
    """Where to compute; None is JAX's default. One that is absent is an error."""
    results: Path = Path("results")
    """Directory for the figure and the numbers; the experiment adds its own name."""
    quick: bool = False
    """Smaller, for a look."""
    cache: bool = False
    """Keep compiled programs for later runs, in your own cache directory: a second start compiles nothing."""

    def __post_init__(self):
        """Checks the options and makes them quick: metrics.json then holds the values that were used.

        Raises:
            ValueError: an option whose value its type excludes.
        """
        options.check(self)
        for field in dataclasses.fields(self):
            if self.quick and field.name in self.QUICK and getattr(self, field.name) == field.default:
                object.__setattr__(self, field.name, self.QUICK[field.name])


@dataclasses.dataclass(frozen=True)
class Result:
    """What an experiment found: its claim, the claim's clauses, the numbers behind them, and a picture of them."""

    claim: str
    clauses: dict[str, bool | Comparison]
    metrics: dict[str, Any]
    figure: "Figure"

    @property
    def held(self) -> bool:
        """Whether every clause holds; a claim without clauses says nothing and does not."""
        return bool(self.clauses) and all(self.clauses.values())


def run(module: ModuleType, config: Config) -> Result:
    """Measure, judge, put into words and draw."""
    found = module.measure(config)
    metrics = getattr(module, "metrics", dict)(found)
    return Result(module.claim(found), module.clauses(found), metrics, module.draw(found))


def load(name: str) -> ModuleType:
    """The module of an experiment: NAME.py or NAME/__main__.py."""
    module = importlib.import_module(f"experiments.{name}")
    return importlib.import_module(f"experiments.{name}.__main__") if hasattr(module, "__path__") else module


def perform(name: str, config: Config) -> dict[str, Any]:
    """Run an experiment on its device; save its numbers, picture and figure's data; return what metrics.json holds."""
    module = load(name)
    own = (*files(config.results, name), panels_file(config.results, name), explore_file(config.results, name))
    require_writable(config.results, *own)
    if config.cache:
        enable_compilation_cache(CACHE)
    start = time.perf_counter()
    with jax.default_device(meshes.device(config.device)):
        result = run(module, config)
        explore = to_json(module.explore(config)) if hasattr(module, "explore") else None
    metrics = to_json({"clauses": {name: bool(holds) for name, holds in result.clauses.items()}, **result.metrics})
    compared = {name: clause._asdict() for name, clause in result.clauses.items() if isinstance(clause, Comparison)}
    undefined = nan_paths(metrics)
    record = {
        **metadata(name, module),
        "claim": result.claim + (f" It fails: NaN is {first_names(undefined)}." if undefined else ""),
        "held": result.held and not undefined,
        "comparisons": to_json(compared),
        "metrics": metrics,
        "config": to_json(dataclasses.asdict(config)),
        **provenance(name, config, start),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": jax.devices(config.device)[0].device_kind,
    }
    picture = plots.png(result.figure, dpi=120)
    save_record(
        record, config.results, picture, explore, plots.panels(result.figure, f"report-{name}", describe(record))
    )
    return record


def describe(record: dict[str, Any]) -> str:
    """What an experiment's figure shows: the first sentence about its drawing, or the claim."""
    return record["figure"].split("\n")[0] or record["claim"]


def metadata(name: str, module: ModuleType) -> dict[str, Any]:
    """What an experiment's module says about itself and its data."""
    return {
        "experiment": name,
        "notes": module.NOTES,
        "about": docstring(module),
        "data": {load.__name__: source(load) for load in module.DATA},
        "figure": docstring(module.draw),
    }


def docstring(thing: ModuleType | Callable) -> str:
    """The docstring of a module or function, "" without one; `python -OO` leaves it out, but not out of the source."""
    if found := inspect.getdoc(thing):
        return found
    tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    node = tree if inspect.ismodule(thing) else tree.body[0]
    return (ast.get_docstring(node) if isinstance(node, ast.Module | ast.FunctionDef) else None) or ""


def source(load: Callable) -> str:
    """Where a data set comes from and its licence, which its function in jaxnet.datasets states after "Source:"."""
    return " ".join(docstring(load).partition("Source:")[2].split())


def provenance(name: str, config: Config, start: float) -> dict[str, Any]:
    """The command that repeats a run, how long the run took and when it ended."""
    return {
        "command": command(name, config),
        "seconds": round(time.perf_counter() - start, 2),
        "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def command(name: str, config: Config) -> str:
    """The command line that repeats this run."""
    words = ["python", "-m", f"experiments.{name}"]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != field.default and not (config.quick and value == config.QUICK.get(field.name)):
            words += options.option(field.name, value)
    return shlex.join(words)


def first_names(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def error_message(error: BaseException) -> str:
    """The text of an error for the user: a missing package is named with the extra that brings it."""
    package = (getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ImportError) and package in EXTRA:
        return f'{package} is not installed; pip install "jaxnet[experiments]" brings it'
    return (
        str(error)
        if isinstance(error, ValueError | FloatingPointError | NotSavedError)
        else f"{type(error).__name__}: {error}"
    )


def require_extra() -> None:
    """End the program before any work if a package that every experiment needs is missing."""
    for package in ALWAYS_NEEDED:
        if importlib.util.find_spec(package) is None:
            sys.exit(error_message(ModuleNotFoundError(name=package)))


def main(name: str) -> None:
    """Read the command line, run the experiment, save what it found; exit 1 if its claim did not hold."""
    with program.running():
        require_extra()
        module = load(name)
        about = metadata(name, module)
        data = [f"Data, {load}: {origin}" for load, origin in about["data"].items()]
        description = "\n\n".join([about["about"].strip(), *data])
        config = options.parse(module.Config, f"python -m experiments.{name}", description)
        with only_run(config.results):
            try:
                record = perform(name, config)
            except (ValueError, FloatingPointError, ImportError, NotSavedError) as error:  # the message says what to do
                sys.exit(f"{name}: {error_message(error)}")
            except KeyboardInterrupt as interrupt:
                print(f"{name}: interrupted; {what_is_left(name, config)}", file=sys.stderr)
                sys.exit(program.exit_code(interrupt))
        print(f"\n{'HELD' if record['held'] else 'FAILED'}: {record['claim']}")
        print("Saved {} and {}".format(*files(config.results, name)))
        sys.exit(0 if record["held"] else 1)


def what_is_left(name: str, config: Config) -> str:
    """What the results directory holds of an experiment that did not come to its end."""
    metrics, picture = files(config.results, name)
    return f"{metrics} and {picture} are of an earlier run" if metrics.exists() else "nothing is saved"


# What experiments share when they measure


def fit(config: Config, net: jaxnet.MLP, X, Y, *, key: jax.Array | None = None, **settings) -> Any:
    """`jaxnet.fit` on the config's device, without a progress bar, and with the key of its seed unless one is given."""
    if key is None and settings.get("resume") is None:
        key = jax.random.key(config.seed)
    return jaxnet.fit(net, X, Y, key=key, **{"progress": False, "device": config.device} | settings)


@functools.partial(jax.jit, static_argnums=0)
def cost_and_accuracy(net: jaxnet.MLP, params: Params, X, Y) -> tuple[jax.Array, jax.Array]:
    """J, and the share of examples classified correctly; compiled as one."""
    return jaxnet.cost(net, params, X, Y), jaxnet.accuracy(jaxnet.predict(net, params, X), Y)


def progress(items: Iterable, unit: str) -> Iterable:
    """The items one by one, with a progress bar if standard error is a terminal."""
    return tqdm(items, unit=unit, disable=None, leave=False)


def thread_map(function: Callable, items: Sequence, unit: str) -> list:
    """function(item) of every item, in a thread for each core, with a bar: XLA compiles outside Python's lock.

    Each thread has JAX's settings of the caller, its default device among them. For items that compile programs of
    their own; where times are taken, one after the other is right.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = pool.map(with_current_settings(function), items)
        return list(tqdm(answers, total=len(items), unit=unit, disable=None, leave=False))


class Timing(NamedTuple):
    """A call's first answer, the seconds of that call, and the median of those after it (NaN if there are none)."""

    result: Any
    cold: float
    warm: float


def seconds(call: Callable, *arguments, repeats: int = 20) -> Timing:
    """Time a call cold, compilation included, and then warm; each waits for what it computes."""
    results, times = [], []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        answer = jax.block_until_ready(call(*arguments))
        times.append(time.perf_counter() - start)
        results = results or [answer]
    return Timing(results[0], times[0], statistics.median(times[1:]) if repeats else float("nan"))


def largest_difference(tree: Any, reference: Any) -> float:
    """The largest difference between entries of two trees."""
    return max(float(np.abs(np.subtract(*pair)).max()) for pair in leaf_pairs(tree, reference))


def relative_difference(tree: Any, reference: Any) -> float:
    """The largest difference between entries of two trees, relative to the largest entry of its leaf."""
    pairs = leaf_pairs(tree, reference)
    return max(float(np.abs(np.subtract(*pair)).max() / np.abs(pair[1]).max()) for pair in pairs)


def distance(tree: Any, reference: Any) -> float:
    """The norm of the difference of two trees, summed in float64."""
    pairs = leaf_pairs(tree, reference)
    return sum(float(np.sum(np.subtract(*pair, dtype=np.float64) ** 2)) for pair in pairs) ** 0.5


def leaf_pairs(tree: Any, reference: Any) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """The leaves of two trees of one structure, side by side on the host."""
    return zip(*(jax.tree.leaves(jax.device_get(each)) for each in (tree, reference)), strict=True)


def enable_compilation_cache(directory: Path) -> None:
    """Use JAX's persistent compilation cache, for programs of any size."""
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
