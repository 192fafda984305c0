"""The notebook of the notes runs from its first cell to its last, and what it asserts can fail."""

import re
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from tests.marks import slow_but

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "experiments" / "notebook.py"
CELLS = re.split(r"^# %%", NOTEBOOK.read_text(), flags=re.MULTILINE)
SLIPS = {  # what stands there, and what somebody might write
    "z1 = W1 @ x + b1": "z1 = W1 @ x - b1 + 1",
    "np.tanh(W1 @ X[:, [i]] + b1) + b2": "np.tanh(W1 @ X[:, [i]]) + b2 - 1",
    "(W2 @ b1 + b2)": "(W2 @ b1 - b2 + 1)",
    "(1 - A1**2)": "(1 - A1)",
    "grads, dX = jaxnet.backward(net, params, cache, (A - Y) / X.shape[1])": (
        "grads, dX = jaxnet.backward(net, params, cache, A - Y)"
    ),
}


def headings(text):
    return re.findall(r"^(?:# )?## (\d+\. .*)$", text, re.MULTILINE)


def run(text, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(text, str(NOTEBOOK), "exec"), {"__name__": "notebook"})


@pytest.mark.usefixtures("implicit_promotion", "untyped")
def test_it_runs(monkeypatch, capsys):
    run(NOTEBOOK.read_text(), monkeypatch)
    assert "the rows of W[1] are equal" in capsys.readouterr().out
    assert not plt.get_fignums()


@pytest.mark.usefixtures("implicit_promotion", "untyped")
@pytest.mark.parametrize("right", slow_but(list(SLIPS)[:1], SLIPS))
def test_a_slip_is_seen(right, monkeypatch):
    text = NOTEBOOK.read_text()
    assert text.count(right) == 1
    with pytest.raises(AssertionError):
        run(text.replace(right, SLIPS[right]), monkeypatch)
    plt.close("all")


def test_its_cells_are_those_of_the_percent_format():
    assert CELLS[0] == "" and len(CELLS) > 25
    for cell in CELLS[1:]:
        first, *lines = cell.splitlines()
        assert first in (" [markdown]", "")
        assert first == "" or all(line.startswith("#") or line == "" for line in lines), cell
        assert first == " [markdown]" or re.search("^[^#\n]", "\n".join(lines), re.MULTILINE), cell


def test_it_has_the_sections_of_the_notes():
    assert headings(NOTEBOOK.read_text()) == headings((ROOT / "jaxnet" / "NOTES.md").read_text())
