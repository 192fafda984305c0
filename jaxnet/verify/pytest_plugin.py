"""pytest: a `check_gradients` fixture whose failure text is the table.

    def test_backward(check_gradients):
        check_gradients(loss, backward, params, X, Y)

    pytest --gradients=full --gradients-seed=7

An entry point: every pytest session where jaxnet is installed has it, so it imports the verifier on first use.
"""

import pytest


def pytest_addoption(parser):
    """--gradients and --gradients-seed."""
    group = parser.getgroup("jaxnet", "gradient checks")
    group.addoption("--gradients", choices=("fast", "full"), default="fast", help="witnesses that check_gradients asks")
    group.addoption("--gradients-seed", type=int, default=0, help="seed of the random draws in check_gradients")


def pytest_report_header(config):
    """The seed, so that a failure can be repeated."""
    return f"jaxnet gradients: {config.getoption('gradients')}, seed {config.getoption('gradients_seed')}"


@pytest.fixture
def check_gradients(request):
    """jaxnet.verify.check_gradients with the session's witnesses and seed; INCONCLUSIVE fails too, saying so."""
    full = request.config.getoption("gradients") == "full"
    seed = request.config.getoption("gradients_seed")

    def check(loss, grad_fn, params, *args, **options):
        __tracebackhide__ = True
        from jaxnet.verify.check import check_gradients as run
        from jaxnet.verify.report import GradientMismatch

        options = {"witnesses": "full" if full else "auto", "key": seed, **options}
        if not options.get("raise_", True):
            return run(loss, grad_fn, params, *args, **options)
        try:
            report = run(loss, grad_fn, params, *args, **{**options, "raise_": False})
        except GradientMismatch as error:  # trees that differ
            report = error.report
        if not report:
            pytest.fail(f"{GradientMismatch.__name__}\n{report}\n(seed {seed}: --gradients-seed={seed})", pytrace=False)
        return report

    return check
