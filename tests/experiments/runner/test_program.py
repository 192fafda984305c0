"""Programs as users start and stop them: in any locale, without docstrings, into a closed pipe, with Ctrl-C."""

import io
import os
import signal
import subprocess
import sys

import pytest

from experiments.runner import program


@pytest.mark.parametrize(
    ("signum", "kind", "code"), [(signal.SIGINT, KeyboardInterrupt, 130), (signal.SIGTERM, program.Terminated, 143)]
)
def test_a_signal_raises_and_ends_the_program(signum, kind, code):
    before, seen = signal.getsignal(signum), []
    with pytest.raises(SystemExit) as caught, program.running():
        try:
            signal.raise_signal(signum)
        except KeyboardInterrupt as interrupt:
            seen.append(type(interrupt))
            raise
    assert caught.value.code == code and seen == [kind] and signal.getsignal(signum) is before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_the_caller_ignores_stays_ignored(signum):
    former = signal.signal(signum, signal.SIG_IGN)
    try:
        program.end_at_once_on_interrupt()
        with program.running():
            signal.raise_signal(signum)
        assert signal.getsignal(signum) is signal.SIG_IGN
    finally:
        signal.signal(signum, former)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")
def test_a_full_output_is_told_once_and_stops_nothing(capsys, monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with program.running():
            for _ in range(3):
                print("a number", flush=True)
        monkeypatch.undo()
    assert capsys.readouterr().err == "standard output: No space left on device; what was printed is lost\n"


def test_a_character_that_the_terminal_lacks_is_escaped(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    with program.running():
        print("x ≥ 1")
    assert terminal.buffer.getvalue() == b"x \\u2265 1\n"


def test_a_closed_output_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with program.running():
        print("into nothing")


@pytest.mark.parametrize(
    "options", [[], pytest.param(["-OO"], marks=pytest.mark.slow)]
)  # which compiles all of JAX anew
def test_a_run_is_saved_in_any_locale_without_docstrings_and_readers(options, tmp_path):
    """Where the locale is ASCII and Python is not to help itself, and nobody reads the output."""
    program = ["-u", "-m", "experiments", "--results", str(tmp_path), "--only", "representation"]
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    start = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": os.environ | locale}
    with subprocess.Popen([sys.executable, *options, *program], **start) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, "")
    assert "Unit by unit" in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "One example through a" in (tmp_path / "representation" / "metrics.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", ["numpy", "jaxlib._jax"])
def test_an_interrupt_of_the_imports_ends_it_in_silence(module, tmp_path):
    """Sent as soon as Python says that a module is imported."""
    command = [sys.executable, "-X", "importtime", "-m", "experiments.representation", "--results", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if line.split()[-1] == module:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130 and said
    assert all(line.startswith("import time:") for line in said) and not any(tmp_path.iterdir())
