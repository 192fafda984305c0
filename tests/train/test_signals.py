"""Ctrl-C held back is handled afterwards as it would have been."""

import signal

import pytest

from jaxnet.train import signals


@pytest.fixture
def handler():
    """Sets the handler of SIGINT for one test."""
    former = signal.getsignal(signal.SIGINT)
    yield lambda own: signal.signal(signal.SIGINT, own)
    signal.signal(signal.SIGINT, former)


def test_the_former_handler_is_called_after_the_block_and_may_return(handler):
    seen = []
    own = lambda signum, frame: seen.append((signum, frame is not None))
    handler(own)
    with signals.deferred():
        signal.raise_signal(signal.SIGINT)
        assert seen == []
    assert seen == [(signal.SIGINT, True)] and signal.getsignal(signal.SIGINT) is own


def test_python_s_own_handler_raises_after_the_block(handler):
    handler(signal.default_int_handler)
    after = []
    with pytest.raises(KeyboardInterrupt), signals.deferred():
        signal.raise_signal(signal.SIGINT)
        after.append("the block is done")
    assert after


def test_a_signal_is_not_lost_where_the_block_raises(handler):
    handler(signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt) as caught, signals.deferred():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("in the block")
    assert isinstance(caught.value.__context__, ValueError)


def test_an_ignored_signal_stays_ignored(handler):
    """As under nohup, or in a background job of a shell."""
    handler(signal.SIG_IGN)
    with signals.deferred():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_the_system_s_default_action_is_taken_after_the_block(handler, monkeypatch):
    handler(signal.SIG_DFL)
    send, taken = signal.raise_signal, []
    with signals.deferred():
        send(signal.SIGINT)
        monkeypatch.setattr(signal, "raise_signal", taken.append)  # it would end the tests
    assert taken == [signal.SIGINT] and signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_a_handler_that_is_not_python_s_is_left_alone(monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda signum: None)
    monkeypatch.setattr(signal, "signal", None)  # could not put it back
    with signals.deferred():
        pass
