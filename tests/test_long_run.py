"""The long run: a short one holds still, and what grows is named."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.long_run import Round, growth, resident_memory, rounds, summary


def steady(**changes):
    """The second half of the rounds has these changes."""
    whole = [Round(float(n), 500_000_000, 100, ("start", "epochs"), ()) for n in range(1, 41)]
    return whole[:20] + [each._replace(**changes) for each in whole[20:]]


@pytest.mark.parametrize(
    ("changes", "grown"),
    [
        ({}, []),
        ({"memory": 400_000_000, "held": 90}, []),
        ({"memory": 520_000_000}, []),
        ({"memory": 530_000_000}, ["memory"]),
        ({"held": 101}, ["programs held"]),
        ({"afresh": ("start", "epochs", "more")}, ["programs for a fresh optimizer"]),
        ({"repeated": ("again",)}, [f"programs for repeated shapes {10 * ['again']}"]),
    ],
)
def test_what_grows_is_named(changes, grown):
    assert growth(steady(**changes)) == grown


def test_a_quarter_is_one_of_the_time():
    found = steady(memory=600_000_000)
    assert growth([found[0], *found[30:]]) == ["memory"]  # one slow round in the first quarter
    assert summary(found).startswith("40 rounds in 0.7 min; memory 500 MB after a quarter, 600 MB at the end")


def test_programs_that_are_kept_are_seen():
    kept = []

    def leak(key):
        kept.append(jax.jit(lambda x: x + 1))
        kept[-1](1.0)

    found = rounds(0.15, lambda key: None, (leak,), ())  # some rounds on a busy machine too
    held, again = growth(found)[:2]
    assert held == "programs held" and again.startswith("programs for repeated shapes ['jit(<lambda>)'")
    assert found[-1].held - found[0].held == len(found) - 1
    assert {each.repeated for each in found} == {("jit(<lambda>)",)}


def test_memory_that_is_kept_is_seen():
    before = resident_memory()
    kept = np.ones(10_000_000)
    assert 0.9 * kept.nbytes < resident_memory() - before < 1.1 * kept.nbytes


@pytest.mark.slow
def test_a_short_run_does_not_grow():
    """In a process of its own, as people run it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.long_run", "--minutes", "0.4"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "and 0 for repeated shapes in the last" in done.stdout
