"""A bulk operation whose worker is killed half-way: another goes on, and each refund is done and paid once."""

from domain.bulk import Kind, Phase
from engine import bulk
from engine.bulk_plan import Selection
from engine.people import recognise
from ledger import journal
from tests.support.processes import wait_until

COUNT = 20


def test_a_worker_killed_half_way_is_followed_by_another(stack):
    system = stack(workers=1, smartretry={"max_attempts": 2, "handle_lifetime": "1h"})
    system.faults({"provider": "smartretry", "call": "refund", "fault": "throttled", "probability": 1})
    system.enqueue(system.jobs("smartretry", COUNT))
    wait_until(lambda: system.states().get("review") == COUNT, timeout=60, what="all in review")
    system.faults()
    operation = bulk.start(
        system.engine,
        recognise(system.engine, None),
        Kind.RETRY,
        Selection(query="account:smartretry"),
        count=COUNT,
        reason="the provider takes requests again",
        pace=4,
    )
    wait_until(lambda: bulk.get(system.engine, operation.id).tried > 2, what="some done")
    system.workers[0].kill()
    killed = bulk.get(system.engine, operation.id)
    assert (killed.state, killed.left > 0) == (Phase.RUNNING, True)
    system.start_worker()
    wait_until(lambda: bulk.get(system.engine, operation.id).state is Phase.DONE, timeout=90, what="its end")

    assert system.settle(COUNT, timeout=90) == {"succeeded": COUNT}
    system.assert_paid_once()
    assert bulk.get(system.engine, operation.id).done == COUNT
    with system.engine.ledger.read() as connection:
        for row in system.rows("id"):
            told = [each["type"] for each in journal.story(connection, row["id"])]
            assert told.count("refund.retried") == 1
