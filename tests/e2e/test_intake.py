"""What comes in by the stream and by Celery: accepted, or kept with the reason; nothing stops the worker."""

import json

from ledger import rejected
from tests.support.processes import wait_until

BAD = {
    "broken JSON": (b'{"reference": "x"', "#"),
    "not an object": (b"[1, 2]", "#"),
    "not UTF-8": (b'{"reference": "\xff"}', "#"),
    "a float amount": ({"amount": 10.0}, "#/amount"),
    "a float that is whole": (b'{"reference":"f","account":"smartpay","payment":{"id":"x"},"amount":1.0}', "#/amount"),
    "an unknown account": ({"account": "no\x00where"}, "#/account"),
    "an unknown field": ({"amonut": 5}, "#/amonut"),
    "a currency that is none": ({"currency": "YEN"}, "#/currency"),
    "a currency the provider does not take": ({"currency": "EUR", "payment": {"id": "p"}}, "#/currency"),
    "a control character": ({"description": "a\x00b"}, "#/description"),
    "too large": (b'{"reference": "' + b"x" * 10_000_000 + b'"}', "#"),
    "deep": (b'{"metadata":' * 2000 + b"1" + b"}" * 2000, "#"),
    "nothing": (b"", "#"),
}


def bodies(system):
    [good] = system.jobs("smartpay", 1, tag="bad-")
    for number, (name, (what, _)) in enumerate(BAD.items()):
        yield (
            name,
            what if isinstance(what, bytes) else json.dumps({**good, "reference": f"bad-{number}", **what}).encode(),
        )


def open_rejections(system):
    with system.engine.ledger.read() as connection:
        return rejected.listed(connection)


def test_every_bad_job_on_the_stream_is_kept_with_field_and_rule_and_the_good_ones_are_paid(stack):
    system = stack()
    client = system.redis.client()
    good = system.jobs("smartpay", 5)
    for _, body in bodies(system):
        client.xadd("refundry:intake", {"job": body})
    client.xadd("refundry:intake", {"something": "else"})
    system.enqueue(good)

    assert system.settle(len(good)) == {"succeeded": len(good)}
    wait_until(lambda: client.xlen("refundry:intake") == 0, what="an empty stream")
    kept = open_rejections(system)
    assert len(kept) == len(BAD) + 1
    assert client.xlen("refundry:rejected") == len(BAD) + 1
    pointers = {error["pointer"] for each in kept for error in json.loads(each["errors"])["errors"]}
    assert {pointer for _, pointer in BAD.values()} <= pointers
    assert all(each["id"].startswith("rj_") for each in kept)
    large = next(each for each in kept if each["size"] > 9_000_000)
    assert large["body_hash"]
    system.assert_paid_once()


def test_bad_jobs_sent_as_celery_tasks_are_kept_too(stack):
    from tasks.app import app

    system = stack()
    good = system.jobs("smartpay", 3)
    for job in (
        *good,
        {**good[0], "reference": "bad", "amount": 1.5},
        "{",
        7,
        {**good[0], "reference": "\ud800"},
        None,
    ):
        app.send_task("refunds.submit", kwargs={"job": job}, queue="refundry.intake")

    assert system.settle(3) == {"succeeded": 3}
    app.send_task("refunds.submit", kwargs={"job": good[0], "priority": 1}, queue="refundry.intake")
    app.send_task("refunds.submit", queue="refundry.intake")
    wait_until(lambda: len(open_rejections(system)) == 7, what="seven rejected jobs")
    system.assert_paid_once()


def test_state_changes_come_out_on_the_event_stream_in_order(stack):
    system = stack()
    system.enqueue(system.jobs("smartretry", 4))
    system.settle(4)
    client = system.redis.client()
    wait_until(lambda: client.xlen("refundry:events") == 16, what="sixteen events")
    told = {}
    for _, fields in client.xrange("refundry:events"):
        told.setdefault(fields[b"reference"], []).append((int(fields[b"version"]), fields[b"state"].decode()))

    assert len(told) == 4
    for changes in told.values():
        assert changes == sorted(changes)
        assert [state for _, state in changes] == ["queued", "sending", "pending", "succeeded"]


def test_what_a_consumer_left_behind_when_it_died_is_accepted_by_another(stack):
    system = stack(workers=0, beats=0)
    client = system.redis.client()
    jobs = system.jobs("smartpay", 3)
    client.xgroup_create("refundry:intake", "refundry", id="0", mkstream=True)
    system.enqueue(jobs)
    client.xreadgroup("refundry", "a dead one", {"refundry:intake": ">"})
    client.xclaim(
        "refundry:intake", "refundry", "a dead one", 0, [e[0] for e in client.xrange("refundry:intake")], idle=90_000
    )
    system.start_worker()

    assert system.settle(3) == {"succeeded": 3}
    system.assert_paid_once()
