"""The progress bar: shown where somebody looks on, a terminal or the kernel of a notebook, or where it is asked for."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from jaxnet._arguments import choice

ALWAYS = "always"


@runtime_checkable
class ProgressBar(Protocol):
    """What is used of tqdm's."""

    n: Any
    total: Any

    def update(self, n: float = 1) -> Any:
        """Move on by that many."""
        ...

    def set_postfix(self, *numbers: Any, **more: Any) -> Any:
        """Show numbers behind the bar."""
        ...


@contextmanager
def progress_bar(progress: bool | str, total: int, unit: str, initial: int = 0) -> Iterator[ProgressBar]:
    """A bar of that many units: of widgets in a notebook that has ipywidgets, else of text on standard error.

    It is full at the end, also where that comes earlier, for a training that stops by itself is done.

    progress: False has it silent wherever it is; "always" shows it where nobody looks on, such as in a log, too.

    Raises:
        ValueError: progress is another word.
    """
    if isinstance(progress, str):
        choice("progress", progress, (ALWAYS,), ", or True or False")
    shown = sys.stderr is not None if progress == ALWAYS else progress and is_watched()
    if shown:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a notebook without ipywidgets: the bar is text there, and that will do
            from tqdm.auto import tqdm
    else:
        from tqdm.std import tqdm
    with tqdm(total=total, unit=unit, initial=initial, disable=not shown) as bar:
        yield bar
        bar.total = bar.n


def is_watched() -> bool:
    """Whether standard error is a terminal, or IPython runs in a kernel, whose standard error never is one."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    shell = get_ipython()  # None outside of IPython
    return getattr(shell, "kernel", None) is not None or (sys.stderr is not None and sys.stderr.isatty())
