"""The command line: python -m jaxnet.verify pkg.mod:loss pkg.mod:grad --params pkg.mod:make --args pkg.mod:make_batch

Exit status: 0 the gradient is right, 1 it is wrong, 2 the call is, 3 nothing could be told.
"""

import argparse
import importlib
import inspect
import pathlib
import sys
import traceback
from typing import Any

STATUS = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}
USAGE = 2


class UsageError(Exception):
    """What was asked for cannot be done as asked; the text says which option and why."""


def main(argv=None) -> int:
    """Runs one check, prints its table and returns the exit status."""
    options = parser().parse_args(argv)
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
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except Exception as error:  # whatever the user's own functions raise is no verdict on the gradient
        traceback.print_exc()
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return USAGE
    print(report)
    if options.json:
        pathlib.Path(options.json).write_text(report.to_json() + "\n")
    return STATUS[report.verdict]


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(
        "python -m jaxnet.verify",
        description="Proves or refutes a hand-written gradient.",
        epilog="exit status: 0 pass, 1 fail, 2 usage, 3 inconclusive",
    )
    p.add_argument("loss", help="pkg.mod:name of the loss, or with --vjp of the function that carries a custom rule")
    p.add_argument("gradient", nargs="?", help="pkg.mod:name of the gradient function")
    p.add_argument("--vjp", action="store_true", help="check the custom_vjp or custom_jvp rule of a function")
    p.add_argument(
        "--params", help="pkg.mod:name of the parameters, or of a function that makes them (from a key, or nothing)"
    )
    p.add_argument("--args", help="the same for the other arguments; a tuple is spread")
    p.add_argument("--reference", help="pkg.mod:name of the same loss in plain jax.numpy")
    p.add_argument("--has-aux", action="store_true", help="the loss returns (value, auxiliary)")
    p.add_argument("--witnesses", choices=("auto", "full"), default="auto", help="full asks all six")
    p.add_argument("--variants", default="eager,jit", help="comma-separated: eager, jit, vmap")
    p.add_argument("--kinks", choices=("subgradient", "strict"), default="subgradient", help="what is right at a kink")
    p.add_argument("--seed", type=int, default=0, help="seed of the random draws and of the key that makers get")
    p.add_argument("--x64", action="store_true", help="run everything in double precision")
    p.add_argument("--json", help="write the report to this file")
    return p


def check(options):
    """The report for parsed options."""
    from jaxnet.verify.check import check_gradients
    from jaxnet.verify.vjp import check_vjp

    function = load(options.loss, "the loss")
    args = made(options.args, "--args", options.seed) if options.args else ()
    args = args if type(args) in (tuple, list) else (args,)
    common = {"key": options.seed, "raise_": False, "witnesses": options.witnesses, "kinks": options.kinks}
    common["variants"] = tuple(options.variants.split(","))
    if options.vjp:
        if not args:
            raise UsageError("--vjp needs --args pkg.mod:make_args, the point at which to check.")
        return check_vjp(function, *args, **common)
    if options.gradient is None or options.params is None:
        raise UsageError(
            "expected LOSS GRADIENT --params pkg.mod:make_params, or FUNCTION --vjp --args pkg.mod:make_args."
        )
    reference = load(options.reference, "--reference") if options.reference else None
    return check_gradients(
        function,
        load(options.gradient, "the gradient"),
        made(options.params, "--params", options.seed),
        *args,
        has_aux=options.has_aux,
        reference=reference,
        **common,
    )


def load(path: str, what: str) -> Any:
    """The object at "pkg.mod:name"; UsageError names the part that is not there."""
    module_name, colon, name = path.partition(":")
    if not (colon and name and module_name):
        raise UsageError(f"{what} is {path!r}: expected pkg.mod:name.")
    try:
        found = importlib.import_module(module_name)
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

    required = [p for p in inspect.signature(maker).parameters.values() if p.default is p.empty and p.kind in (0, 1)]
    if len(required) > 1:
        raise UsageError(f"{what} is {path!r}: it takes {len(required)} arguments; expected none, or one key.")
    return maker(jax.random.key(seed)) if required else maker()


if __name__ == "__main__":
    sys.exit(main())
