"""Any argument of any public function: the right answer, or a refusal in our own words that names it."""

from tests.fuzz.__main__ import Tally, line
from tests.fuzz.process import run

CALLS, SEED = 500, 1


def test_every_call_is_answered_rightly_or_refused_by_name():
    tally, bad = Tally(), []
    for index, text, outcome in run(SEED, range(CALLS)):
        tally.add(outcome)
        if outcome.name not in ("RIGHT", "OURS"):
            bad.append(line(SEED, index, text, outcome))
    assert tally.passes, "\n".join([*bad, tally.table()])
