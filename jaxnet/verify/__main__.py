"""The command line: python -m jaxnet.verify pkg.mod:loss pkg.mod:grad --params pkg.mod:make --args pkg.mod:make_batch

Exit status: 0 the gradient is right, 1 it is wrong, 2 the call is or the report cannot be written, 3 nothing could be
told, 130 interrupted.
"""

import argparse
import importlib
import inspect
import os
import pathlib
import sys
import traceback
from typing import Any

STATUS = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}
USAGE = 2
INTERRUPTED = 130  # as a shell has it: 128 + SIGINT


class UsageError(Exception):
    """What was asked for cannot be done as asked; the text says which option and why."""


def main(argv=None) -> int:
    """Runs one check, prints its table and returns the exit status."""
    options = parser().parse_args(argv)
    try:
        return judged(options)
    except KeyboardInterrupt:
        written(sys.stderr, "interrupted: no verdict")
        return INTERRUPTED


def judged(options) -> int:
    """The exit status for parsed options; the report, or why there is none, is written."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    import jax

    from jaxnet.verify.report import GradientMismatch

    if options.x64:
        jax.config.update("jax_enable_x64", True)
    try:
        if options.json:
            pathlib.Path(options.json).write_text("")  # no older report is taken for this one's
        report = check(options)
    except GradientMismatch as error:  # trees that differ
        report = error.report
    except (UsageError, TypeError, ValueError, OSError) as error:
        return refused(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the user's functions raise, an exit too, is no verdict on the gradient
        return refused(f"{type(error).__name__}: {error}", traceback.format_exc())
    failures = [written(sys.stdout, str(report))]
    if options.json:
        failures.append(saved(pathlib.Path(options.json), report.to_json()))
    for failure in filter(None, failures):
        refused(f"the report cannot be written: {failure}")
    return USAGE if any(failures) else STATUS[report.verdict]


def refused(why: str, details: str = "") -> int:
    """The exit status of what cannot be judged, or not be told, and why on stderr."""
    written(sys.stderr, f"{details}error: {why}")
    return USAGE


def written(stream, text: str) -> str | None:
    """Writes a line of text, escaping what the stream's encoding has no sign for; why that failed, if it did."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or Python fails once more when it flushes at exit
        return f"{stream.name}: {error.strerror}"
    return None


def saved(path: pathlib.Path, text: str) -> str | None:
    """Writes a file; why that failed, if it did."""
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        return f"--json {path}: {error.strerror}"
    return None


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(
        "python -m jaxnet.verify",
        description="Proves or refutes a hand-written gradient.",
        epilog="exit status: 0 pass, 1 fail, 2 usage or no report, 3 inconclusive, 130 interrupted",
    )
    p.add_argument("loss", help="pkg.mod:name of the loss, or with --vjp of the function that carries a custom rule")
    p.add_argument("gradient", nargs="?", help="pkg.mod:name of the gradient function")
    p.add_argument("--vjp", action="store_true", help="check the custom_vjp or custom_jvp rule of a function")
    p.add_argument(
        "--params", help="pkg.mod:name of the parameters, or of a function that makes them (from a key, or nothing)"
    )
    p.add_argument("--args", help="the same for the other arguments; a tuple is spread")
    p.add_argument("--kwargs", help="with --vjp: pkg.mod:name of a dictionary of keyword arguments, or of its maker")
    p.add_argument("--reference", help="pkg.mod:name of the same function in plain jax.numpy")
    p.add_argument("--intended", help="with --vjp: pkg.mod:name of the rule that is meant, of primals and a cotangent")
    p.add_argument("--has-aux", action="store_true", help="the function returns (value, auxiliary)")
    p.add_argument("--accuracy", type=float, help="the relative error up to which a leaf is right, such as 1e-4")
    p.add_argument("--expected-zero", nargs="+", metavar="PATH", help="leaves that are dead on purpose, by their paths")
    p.add_argument("--order", type=int, choices=(1, 2), default=1, help="2 checks the gradient's own derivative too")
    p.add_argument("--witnesses", choices=("auto", "full"), default="auto", help="full asks all six")
    p.add_argument("--variants", default="eager,jit", help="comma-separated: eager, jit, vmap")
    p.add_argument("--kinks", choices=("subgradient", "strict"), default="subgradient", help="what is right at a kink")
    p.add_argument("--seed", type=int, default=0, help="seed of the random draws and of the key that makers get")
    p.add_argument("--x64", action="store_true", help="run everything in double precision")
    p.add_argument("--json", help="write the report to this file")
    return p


def check(options):
    """The report for parsed options."""
    from jaxnet.verify.api import check_gradients, check_vjp

    function = function_at(options.loss, "the function" if options.vjp else "the loss")
    args = made(options.args, "--args", options.seed) if options.args else ()
    args = args if type(args) in (tuple, list) else (args,)
    common = {name: getattr(options, name) for name in ("witnesses", "kinks", "has_aux", "accuracy")}
    common |= {name: getattr(options, name) for name in ("expected_zero", "order")}
    common |= {"key": options.seed, "raise_": False, "variants": tuple(options.variants.split(","))}
    common["reference"] = function_at(options.reference, "--reference") if options.reference else None
    if options.vjp:
        if not args:
            raise UsageError("--vjp needs --args pkg.mod:make_args, the point at which to check.")
        intended = function_at(options.intended, "--intended") if options.intended else None
        kwargs = made(options.kwargs, "--kwargs", options.seed) if options.kwargs else None
        return check_vjp(function, *args, kwargs=kwargs, intended=intended, **common)
    for name in ("kwargs", "intended"):
        if getattr(options, name):
            raise UsageError(f"--{name} is for --vjp, the rule of a function; a loss is stated by --reference.")
    if options.gradient is None or options.params is None:
        raise UsageError(
            "expected LOSS GRADIENT --params pkg.mod:make_params, or FUNCTION --vjp --args pkg.mod:make_args."
        )
    return check_gradients(
        function,
        function_at(options.gradient, "the gradient"),
        made(options.params, "--params", options.seed),
        *args,
        **common,
    )


def function_at(path: str, what: str) -> Any:
    """The function at "pkg.mod:name"; UsageError names what else stands there."""
    function = load(path, what)
    if not callable(function):
        raise UsageError(f"{what} is {path!r}: that is a {type(function).__name__}; expected a function.")
    return function


def load(path: str, what: str) -> Any:
    """The object at "pkg.mod:name"; UsageError names the part that is not there."""
    from jaxnet.verify.errors import whose_exit

    module_name, colon, name = path.partition(":")
    if not (colon and name and module_name):
        raise UsageError(f"{what} is {path!r}: expected pkg.mod:name.")
    try:
        found = importlib.import_module(module_name)
    except SystemExit as error:
        raise UsageError(f"{what} is {path!r}: cannot import {module_name!r}: {whose_exit(error)}.") from error
    except Exception as error:  # whatever the user's module raises on import
        raise UsageError(
            f"{what} is {path!r}: cannot import {module_name!r} ({type(error).__name__}: {error})."
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            public = [n for n in dir(found) if not n.startswith("_")]
            raise UsageError(f"{what} is {path!r}: {module_name!r} has no {part!r}; it has {', '.join(public[:8])}.")
        found = getattr(found, part)
    return found


def made(path: str, what: str, seed: int) -> Any:
    """What the object at `path` makes: called without arguments, or with a key if it takes one; data as it is."""
    maker = load(path, what)
    if not callable(maker):
        return maker
    import jax

    from jaxnet.verify.errors import whose_exit

    required = [p for p in inspect.signature(maker).parameters.values() if p.default is p.empty and p.kind in (0, 1)]
    if len(required) > 1:
        raise UsageError(f"{what} is {path!r}: it takes {len(required)} arguments; expected none, or one key.")
    try:
        return maker(jax.random.key(seed)) if required else maker()
    except SystemExit as error:
        raise UsageError(f"{what} is {path!r}: {whose_exit(error)}; expected what it makes.") from error


if __name__ == "__main__":
    sys.exit(main())
