"""What is installed, which devices JAX finds, the commands there are, and a demonstration of a few seconds.

Exit status: 0, 1 where JAX finds no device or the demonstration fails, 130 interrupted.
"""

import argparse
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import jax

import jaxnet

HERE = Path(__file__).parent
BESIDE = ("jax", "jaxlib", "numpy", "optax")
COMMANDS = {
    "python -m jaxnet.verify --help": "is this hand-written gradient right, and if not, where and why?",
}
IN_THE_REPOSITORY = {  # which pip installs no more of than jaxnet itself
    "python -m experiments --help": "every claim of the lecture notes, measured and drawn, on one page",
    "python -m experiments.digits": "one of them: proves the gradients, and learns to read digits",
    "python -m experiments.benchmarks --help": "the speed of jaxnet and of its peers",
    "python -m pytest": 'the tests, with the extra "test"',
}
NET = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"))


def main(argv: list[str] | None = None) -> int:
    """Show all of it and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m jaxnet", description="Versions, devices, commands, and a demo.")
    parser.add_argument("--version", action="version", version=f"jaxnet {jaxnet.__version__}")
    parser.parse_args(argv)
    try:
        for line in (*versions(), *commands(), *devices()):
            print(line)
        lines, passed = demonstration()
    except RuntimeError as error:
        print(f"JAX finds no device: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    print("\n".join(lines))
    return 0 if passed else 1


def versions() -> Iterator[str]:
    """The versions of jaxnet, of Python and of the packages that compute."""
    yield f"jaxnet {jaxnet.__version__}, in {HERE}"
    yield f"Python {platform.python_version()}, {', '.join(f'{name} {metadata.version(name)}' for name in BESIDE)}"


def commands(root: Path = HERE.parent) -> Iterator[str]:
    """The commands there are: those of the package, and where it lies in its repository, those to be run there."""
    yield from ("", "Commands")
    yield from (f"  {command:42}{what}" for command, what in COMMANDS.items())
    if (root / "experiments" / "runner").is_dir():
        yield f"in {root}"
        yield from (f"  {command:42}{what}" for command, what in IN_THE_REPOSITORY.items())


def devices() -> Iterator[str]:
    """The devices that JAX finds, those of its default kind first."""
    found = jax.devices() + ([] if jax.default_backend() == "cpu" else jax.devices("cpu"))
    counts = Counter((device.platform, device.device_kind) for device in found)
    yield from ("", "Devices")
    for number, ((kind, name), count) in enumerate(counts.items()):
        model = "" if name == kind else f" ({name})"
        yield f"  {count} {kind}{model}{f', with device={kind!r}' if number else ', where fit trains'}"


def demonstration() -> tuple[list[str], bool]:
    """Train on the flower and verify the gradient there: what to print, and whether it came out as it should."""
    start = time.perf_counter()
    X, Y = (part.astype("float32") for part in jaxnet.datasets.flower())
    result = jaxnet.fit(
        NET, X, Y, key=jax.random.key(1), learning_rate=0.05, batch_size=None, steps=1000, progress=False
    )
    trained = time.perf_counter() - start
    loss = lambda params, X, Y: jaxnet.cost(NET, params, X, Y)
    gradient = lambda params, X, Y: jaxnet.value_and_grad(NET, params, X, Y)[1]
    report = jaxnet.check_gradients(loss, gradient, result.params, X, Y, variants=("jit",), raise_=False)
    accuracy = float(result.history["accuracy"][-1])
    lines = ["", f"A demonstration: a net of 4 hidden units learns to tell the petals of a flower, {trained:.1f} s"]
    lines += repr(result).splitlines()
    lines += ["", "Is its hand-written gradient that of its cost?", *str(report).splitlines()]
    return lines, bool(report) and accuracy > 0.8


if __name__ == "__main__":
    sys.exit(main())
