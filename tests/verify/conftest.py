"""No mistake of the verifier itself can pass for an honest "cannot"."""

import pytest

from jaxnet.verify import trouble


class Mistake(BaseException):
    """What no `except Exception` swallows."""


@pytest.fixture(autouse=True)
def mistakes_are_raised(monkeypatch):
    """Raises what a report would only tell: an error in a line of the verifier's own."""
    told = trouble.mistake

    def raised(error, what):
        text = told(error, what)
        if text:
            raise Mistake(text) from error

    monkeypatch.setattr(trouble, "mistake", raised)
