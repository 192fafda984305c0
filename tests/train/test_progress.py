"""The bar is shown where somebody looks on, and nowhere else."""

import io
import sys
import warnings
from types import ModuleType, SimpleNamespace

import jax
import pytest

import jaxnet
from tests.train.flower import NET, X, Y, fit


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self):
        return True


def ipython(shell):
    module = ModuleType("IPython")
    module.get_ipython = lambda: shell
    return module


KERNEL, CONSOLE = SimpleNamespace(kernel=object()), SimpleNamespace()
PLACES = {  # standard error, IPython's shell, whether somebody looks on
    "a terminal": (Terminal, None, True),
    "a pipe": (io.StringIO, None, False),
    "a notebook": (io.StringIO, KERNEL, True),
    "IPython on a terminal": (Terminal, CONSOLE, True),
    "IPython into a pipe": (io.StringIO, CONSOLE, False),
    "no standard error": (lambda: None, None, False),
}


def stream_of(place, monkeypatch):
    """Make this the place where the program runs; its standard error, and whether somebody looks on."""
    kind, shell, watched = PLACES[place]
    stream = kind()
    monkeypatch.setattr(sys, "stderr", stream)
    if shell is None:
        monkeypatch.delitem(sys.modules, "IPython", raising=False)
    else:
        monkeypatch.setitem(sys.modules, "IPython", ipython(shell))
    return stream, watched


@pytest.mark.parametrize("place", PLACES)
def test_a_bar_where_somebody_looks_on(place, monkeypatch, capsys):
    stream, watched = stream_of(place, monkeypatch)
    fit()
    text = "" if stream is None else stream.getvalue()
    assert ("5/5" in text and "cost=" in text) == watched
    assert (text != "") == watched and capsys.readouterr().out == ""


@pytest.mark.parametrize("place", PLACES)
def test_a_bar_wherever_it_is_asked_for(place, monkeypatch, capsys):
    stream, _ = stream_of(place, monkeypatch)
    fit(progress="always")
    assert stream is None or ("5/5" in stream.getvalue() and "cost=" in stream.getvalue())
    assert capsys.readouterr().out == ""


def test_a_bar_is_full_where_training_stops_by_itself(monkeypatch):
    stream, _ = stream_of("a terminal", monkeypatch)
    fit(epochs=50, callbacks=lambda loop, history: loop.epoch == 3)
    assert "3/3" in stream.getvalue().rpartition("\r")[2]


def test_a_bar_is_not_full_where_training_fails(monkeypatch):
    stream, _ = stream_of("a terminal", monkeypatch)
    with pytest.raises(ZeroDivisionError):
        fit(epochs=50, callbacks=lambda loop, history: 1 / (3 - int(loop.epoch)))
    assert "3/50" in stream.getvalue()


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="progress is 'allways'; expected one of 'always', or True or False; did you"):
        fit(progress="allways")


@pytest.mark.parametrize("place", ["a terminal", "a notebook"])
def test_no_bar_where_none_is_wanted(place, monkeypatch):
    stream, _ = stream_of(place, monkeypatch)
    fit(progress=False)
    assert stream.getvalue() == ""


def test_a_notebook_without_widgets_has_text_and_no_warning(monkeypatch):
    """tqdm.auto warns there that it would rather have ipywidgets."""
    stream, _ = stream_of("a notebook", monkeypatch)
    for name in [name for name in sys.modules if name.startswith("tqdm.") and name.split(".")[1] != "std"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", ModuleType("ipykernel.zmqshell"))
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(epochs=2)
    assert [str(warning.message) for warning in caught] == [] and "2/2" in stream.getvalue()


def test_a_sweep_has_a_bar_too(monkeypatch):
    stream, _ = stream_of("a notebook", monkeypatch)
    jaxnet.sweep(NET, X, Y, keys=jax.random.key(0), learning_rate=[0.1, 0.2], epochs=2, batch_size=16)
    assert "2/2" in stream.getvalue()
