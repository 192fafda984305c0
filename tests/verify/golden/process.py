"""The cases run, in this process or in processes of their own, each under the settings of the tests."""

import multiprocessing
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import jax

import tests.conftest  # noqa: F401 - strict JAX and eight devices, before any array is made
from jaxnet.verify import Report
from tests.verify.golden.cases import cases
from tests.verify.golden.records import misnamed, mistake, raised, record

KEPT = 200  # cases whose compiled programs are kept: 1.5 GB; those of all would be more
every = cache(cases)
done = []  # the cases of this process so far


def report_of(name: str) -> Report:
    """The report of one case."""
    done.append(name)
    if len(done) % KEPT == 0:
        jax.clear_caches()
    return every()[name].run()


def check(name: str) -> tuple[str, dict, str | None]:
    """The name of a case, its record, and what is wrong in it."""
    try:
        report = report_of(name)
    except Exception as error:  # of one case: what the others say is to be seen too
        return name, raised(error), f"it raises {error!r}"
    case, said = every()[name], record(report)
    return name, said, mistake(case, said) or misnamed(case, report)


def checked(names: Sequence[str], jobs: int) -> Iterator[tuple[str, dict, str | None]]:
    """`check` of each name, over some processes, where a warning is an error as in the tests."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=warnings.simplefilter, initargs=("error",)) as pool:
        yield from pool.map(check, names)
