"""pytest: fixtures `check_gradients` and `check_vjp` whose failure text is the table.

    def test_backward(check_gradients):
        check_gradients(loss, backward, params, X, Y)

    def test_rule(check_vjp):
        check_vjp(f, x)

    pytest --gradients=full --gradients-seed=7

An entry point: every pytest session where jaxnet is installed has it, so it imports the verifier on first use.
"""

import pytest


def pytest_addoption(parser):
    """--gradients and --gradients-seed."""
    group = parser.getgroup("jaxnet", "gradient checks")
    group.addoption("--gradients", choices=("fast", "full"), default="fast", help="witnesses that the checks ask")
    group.addoption("--gradients-seed", type=int, default=0, help="seed of the random draws in the checks")


def pytest_report_header(config):
    """The seed, so that a failure can be repeated."""
    return f"jaxnet gradients: {config.getoption('gradients')}, seed {config.getoption('gradients_seed')}"


@pytest.fixture
def check_gradients(request):
    """jaxnet.verify.check_gradients with the session's witnesses and seed; what it raises is the test's failure."""
    return _failing(request.config, "check_gradients")


@pytest.fixture
def check_vjp(request):
    """jaxnet.verify.check_vjp with the session's witnesses and seed; what it raises is the test's failure."""
    return _failing(request.config, "check_vjp")


def _failing(config, checker: str):
    """A checker whose verdicts that raise end the test, at its line, with the table as its text."""
    seed = config.getoption("gradients_seed")
    given = {"witnesses": "full" if config.getoption("gradients") == "full" else "auto", "key": seed}

    def check(*arguments, **options):
        __tracebackhide__ = True
        from jaxnet.verify import api
        from jaxnet.verify.report import GradientInconclusive, GradientMismatch

        try:
            return getattr(api, checker)(*arguments, **(given | options))
        except (GradientMismatch, GradientInconclusive) as error:
            text = f"{type(error).__name__}\n{error}\n(seed {seed}: --gradients-seed={seed})"
        pytest.fail(text)

    return check
