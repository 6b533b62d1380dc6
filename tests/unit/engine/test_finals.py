"""What is final is counted as rarely as counting it takes long."""

from domain.state import State
from engine import finals
from engine.finals import Finals


class Slow:
    """A ledger whose count takes a second, and finds one more each time; and the clock beside it."""

    now = 100.0
    count = 0

    def by_state(self, _connection):
        self.now += 1.0
        self.count += 1
        return {"succeeded": self.count, "queued": 7}

    def monotonic(self):
        return self.now


def test_counting_takes_a_fiftieth_of_the_time_at_most(monkeypatch):
    slow = Slow()
    monkeypatch.setattr(finals, "queries", slow)
    counts = Finals(slow.monotonic)

    assert counts.counts(None) == {
        State.SUCCEEDED: 1,
        State.FAILED: 0,
        State.CANCELLED: 0,
        State.SETTLED: 0,
    }
    slow.now += 49.9
    assert counts.counts(None)[State.SUCCEEDED] == 1
    slow.now += 0.1
    assert counts.counts(None)[State.SUCCEEDED] == 2
