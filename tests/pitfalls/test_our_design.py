"""Why none of the pitfalls costs us a refund: the ledger row is the job, a message is only a doorbell."""

import ast
import asyncio
from pathlib import Path

import pytest

from config.celery import ROUTES
from domain.state import State
from engine.submit import submit
from engine.tick import tick
from ledger.migrate import upgrade
from tasks.app import app
from tests.pitfalls.conftest import freeze_in_brpop
from tests.support.one_process import Bench
from tests.support.processes import wait_until
from tests.support.servers import RedisServer
from tests.support.stack import Stack

ROOT = Path(__file__).parents[2]
SENT_BY = ("engine", "tasks", "worker", "signals")


@pytest.fixture
def bench(tmp_path):
    made = Bench(f"sqlite:///{tmp_path / 'refundry.db'}")
    yield made
    made.close()


def moves(bench):
    return [request for request in bench.network.sent if request.method == "POST"]


def test_a_doorbell_that_nobody_heard_is_rung_again_by_the_round(bench):
    """M1, M2, M3, M7, M9, M10, M11, M13: however a message is lost, the next round finds the row and rings again."""
    made = bench.refund()
    assert bench.rung == [("send", "shop")]
    bench.rung.clear()

    assert tick(bench.engine) == [("shop", "send")]
    assert bench.rung == [("send", "shop")]
    bench.turn("send")
    assert len(moves(bench)) == 1
    assert bench.read(made.id).state is State.PENDING


def test_a_task_killed_in_its_call_is_recovered_by_the_round(bench):
    """M2, M3, M10: a worker that dies between sending and writing leaves a lease, which runs out, and a round."""
    made = bench.refund()

    def dies(_request):
        raise asyncio.CancelledError  # nothing is written down any more

    answers = bench.network.handler
    bench.answering(dies)
    bench.turn("send")
    assert bench.read(made.id).state is State.SENDING
    bench.answering(answers)
    bench.until_due(made.id)

    assert tick(bench.engine) == [("shop", "recover")]
    bench.turn("recover")
    first, again = moves(bench)
    assert (first.content, first.headers["idempotency-key"]) == (again.content, again.headers["idempotency-key"])
    assert bench.read(made.id).state is State.PENDING


def test_a_doorbell_heard_by_many_at_once_sends_once(bench):
    """M4, M5, M6 and cut connections: a doubled message finds the row leased, and does nothing."""
    made = [bench.refund() for _ in range(5)]

    async def four_at_once():
        pumps = [bench.pump("send") for _ in range(4)]
        await asyncio.gather(*(pump.turn() for pump in pumps))
        await asyncio.gather(*(pump.stop(10) for pump in pumps))

    asyncio.run(four_at_once())
    bench.turn("send")

    assert len(moves(bench)) == len(made)
    assert len({request.headers["idempotency-key"] for request in moves(bench)}) == len(made)
    assert {bench.read(each.id).state for each in made} == {State.PENDING}


def test_no_task_has_a_time_limit_a_retry_or_a_result():
    """M4, M10: what has no ETA, no retry and no time limit cannot be repeated or killed by them."""
    import tasks.jobs

    ours = [task for name, task in app.tasks.items() if name.startswith("refunds.")]

    assert tasks.jobs.__name__ in app.conf.include
    assert {task.name for task in ours} == set(ROUTES)
    for task in ours:
        assert (task.time_limit, task.soft_time_limit, task.max_retries) == (None, None, 0), task.name
        assert (task.autoretry_for if hasattr(task, "autoretry_for") else ()) == ()


def calls():
    for package in SENT_BY:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    yield path.relative_to(ROOT), node


def test_nothing_we_send_has_an_eta():
    """M4, M8: the clock is the ledger's `due_at`; no message is sent for later, none is retried by Celery."""
    forbidden = {"eta", "countdown", "time_limit", "soft_time_limit"}
    for path, call in calls():
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if name in ("send_task", "apply_async", "signature", "s", "si", "task"):
            used = {keyword.arg for keyword in call.keywords}
            assert not used & forbidden, (path, call.lineno)
        assert name != "retry" or path.parts[0] != "tasks", (path, call.lineno)


def test_a_message_names_a_lane_and_an_account_and_nothing_more():
    """M9: no refund stands in a message, so a message that is dropped, repeated or read by others carries nothing."""
    sent = [call for _, call in calls() if isinstance(call.func, ast.Attribute) and call.func.attr == "send_task"]

    assert len(sent) == 1
    [arguments] = [keyword.value for keyword in sent[0].keywords if keyword.arg == "args"]
    assert ast.unparse(arguments) == "[account]"


@pytest.fixture
def stack(tmp_path, redis_server: RedisServer):
    system = Stack(tmp_path / "stack", f"sqlite:///{tmp_path / 'refundry.db'}", redis_server)
    yield system
    system.stop()


def test_m1_does_not_reach_a_refund(stack):
    """M1 on the whole system: a doorbell is handed to a frozen worker, which is killed; the refund is paid once."""
    upgrade(stack.database_url)
    stack.start(workers=1, beats=0)
    client = stack.redis.client()
    [job] = stack.jobs("smartpay", 1)
    freeze_in_brpop(stack.workers[0], client)
    before = client.lrange("refundry.send", 0, -1)
    receipt = submit(stack.engine, job, actor="test", via="api")
    assert receipt.refund is not None
    wait_until(lambda: client.llen("refundry.send") == 0, what="the doorbell handed out")
    assert (before, client.hlen("unacked")) == ([], 0)
    stack.workers[0].kill()
    client.close()

    stack.start_worker(processes=1)
    assert stack.settle(1) == {"succeeded": 1}
    stack.assert_paid_once()


def test_m13_does_not_end_our_worker(stack):
    """M13 on the whole system: an element of our list that is no message is dropped, and the worker goes on."""
    stack.start(workers=1, beats=0)
    with stack.redis.client() as client:
        client.lpush("refundry.send", b"no JSON")
        wait_until(lambda: client.llen("refundry.send") == 0, what="the element taken")
    stack.enqueue(stack.jobs("smartpay", 1))

    assert stack.settle(1, timeout=6) == {"succeeded": 1}
