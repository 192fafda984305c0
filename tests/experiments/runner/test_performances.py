"""Experiments side by side: their records come in order, and processes end with them."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.runner import performances, results

NOTES = {"representation": "sections 1 and 2", "symmetry": "section 10", "nothing": "section 0"}
COMMAND = [sys.executable, "-m", "experiments", "--quick", "--only", "representation", "scaling", "--results"]


@pytest.fixture
def settings(tmp_path):
    return {"seed": 0, "device": None, "results": tmp_path, "quick": True, "cache": False}


def test_a_quick_run_is_done_by_processes_in_order(settings):
    """One that cannot be loaded does not stop the others; and all processes have ended."""
    found = list(performances.records(NOTES, settings))
    assert [record["experiment"] for record in found] == [*NOTES]
    assert [record["held"] for record in found] == [True, True, False] and "No module named" in found[2]["error"]
    for record in found[:2]:
        earlier = results.earlier_record(settings["results"], record["experiment"])
        assert earlier == record
    assert multiprocessing.active_children() == []


def test_a_process_that_is_killed_is_named(settings):
    found = performances.records(NOTES, settings)
    next(found)
    for process in multiprocessing.active_children():
        process.kill()
    second, third = found
    assert not second["held"] and "process" in third["error"] and third["experiment"] == "nothing"
    assert multiprocessing.active_children() == []


def test_a_run_for_its_times_is_done_here_one_by_one(settings, monkeypatch):
    monkeypatch.setattr(performances, "perform", lambda name, *_: (name, os.getpid()))
    assert list(performances.records(NOTES, settings | {"quick": False})) == [(name, os.getpid()) for name in NOTES]
    assert list(performances.records({"symmetry": ""}, settings)) == [("symmetry", os.getpid())]


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_processes_and_leaves_a_page(signum, code, tmp_path):
    """And no word of what they did not clean up, neither by them nor by what they had started."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        [*COMMAND, tmp_path], cwd=Path(__file__).parents[3], start_new_session=True, **streams
    ) as program:
        assert re.match("held +representation", program.stdout.readline())
        (os.killpg if signum == signal.SIGINT else os.kill)(program.pid, signum)
        _, said = program.communicate()
    assert program.returncode == code
    assert said.splitlines() == ["interrupted before the end of scaling"]
    assert "Interrupted before the end of: scaling." in (tmp_path / "index.html").read_text()
    for _ in range(100):
        if not living(program.pid):
            return
        time.sleep(0.1)
    pytest.fail(f"still there: {living(program.pid)}")


def living(session):
    """The processes of a session, without those that have ended and are not waited for, nor what compiles and ends."""
    found = subprocess.run(["ps", "-o", "stat=,args=", "-s", str(session)], stdout=subprocess.PIPE, text=True)
    lines = found.stdout.splitlines()
    return [line for line in lines if line[0] != "Z" and "scaling.programs" not in line]
