"""Events on their way to endpoints: real sockets, both databases."""

import asyncio
import json
import time
from dataclasses import replace

import pytest
import redis
from sqlalchemy import select
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from structlog.testing import capture_logs

from domain.errors import Forbidden, InvalidJob, NotFound, Refused
from domain.state import State
from domain.webhook import Reply, Told
from engine import deliver, health, webhooks
from engine.deliver import Deliveries, Tried, exchange
from engine.fanout import fan_out
from engine.people import Actor, Role
from engine.relay import relay
from engine.tick import housekeep, tick
from ledger import journal
from ledger import webhooks as ledger_webhooks
from ledger.models import event, outbox, webhook_attempt, webhook_delivery, webhook_endpoint
from ledger.webhooks import due_endpoints
from signals.client import connect
from signals.stream import EVENTS
from tests.integration.ledger.support import accepted, every, sql, walk
from tests.support.receiver import Receiver
from tests.unit.engine.support import Rung, an_engine

ADMIN = Actor("ada", frozenset({Role.ADMIN}))
OPERATOR = Actor("oli", frozenset({Role.OPERATOR}))
QUICK = {
    "allow_http": True,
    "allow_networks": ["127.0.0.0/8"],
    "retry_schedule": [0, *[0.05] * 60],
    "timeout": 5,
}


@pytest.fixture
def make_engine(ledger):
    made = []

    def make(**changes):
        url = ledger.url.render_as_string(hide_password=False)
        engine = an_engine(url, Rung(), migrated=True, webhooks={**QUICK, **changes})
        made.append(replace(engine, clock=time.time))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def engine(make_engine):
    return make_engine()


@pytest.fixture
def receivers():
    made = []

    def make(**options):
        made.append(Receiver(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def receiver(receivers):
    return receivers()


def endpoint(engine, receiver, **options):
    made, secret = webhooks.create(engine, ADMIN, receiver.url, **options)
    return made.id, secret


def run(engine, until, *, workers=1, timeout=20.0, patience=10.0, courier=None):
    """Deliver, as a worker and its beat do, until the condition holds."""

    async def work():
        desks = [Deliveries(engine, courier) for _ in range(workers)]
        deadline = time.monotonic() + timeout
        while not until():
            assert time.monotonic() < deadline, every(engine.ledger, webhook_delivery)
            with engine.ledger.read() as connection:
                due = due_endpoints(connection, engine.clock())
            for desk in desks:
                for name in due:
                    desk.wake(name)
            await asyncio.sleep(0.02)
        await asyncio.gather(*(desk.stop(patience) for desk in desks))

    asyncio.run(work())


def webhook(engine, name):
    with engine.ledger.read() as connection:
        return ledger_webhooks.endpoint(connection, name)


def story(ledger, name):
    with ledger.read() as connection:
        return journal.story(connection, f"endpoint/{name}")


def states(engine):
    return [row.state for row in every(engine.ledger, webhook_delivery, webhook_delivery.c.id)]


def delivered(engine, count):
    return lambda: states(engine).count("delivered") == count


def in_order(got):
    """Whether every refund's versions came in order."""
    seen = {}
    for each in got:
        refund, version = each.event
        seen.setdefault(refund, []).append(version)

    return all(versions == sorted(versions) for versions in seen.values())


# -- from the outbox ---------------------------------------------------------------------------------------------------


def test_an_event_says_what_a_shop_needs_and_nothing_personal(engine, ledger, receiver):
    _, secret = endpoint(engine, receiver)
    refund = walk(ledger, accepted(ledger, reference="RMA-1", order_id="O-1"), State.SENDING, State.SUCCEEDED)
    fan_out(engine)
    run(engine, delivered(engine, 3))

    first, _, last = receiver.got
    assert first.json["type"] == "refund.accepted"
    assert last.json == {
        "type": "refund.succeeded",
        "timestamp": last.json["timestamp"],
        "data": {
            "id": refund.id,
            "state": "succeeded",
            "account": "shop",
            "order_id": "O-1",
            "payment_id": refund.payment_id,
            "reference": "RMA-1",
            "amount": 100,
            "currency": "EUR",
            "version": 3,
        },
    }
    assert last.json["timestamp"].endswith("Z")
    assert last.headers["content-type"] == "application/json"
    assert Webhook(secret).verify(last.body, dict(last.headers)) == last.json
    assert len({each.id for each in receiver.got}) == 3


def test_the_relay_makes_deliveries_in_the_transaction_that_empties_the_outbox(
    engine, ledger, receiver, redis_url, monkeypatch
):
    name, _ = endpoint(engine, receiver)
    walk(ledger, accepted(ledger), State.SENDING)
    with connect(redis_url) as client:
        with monkeypatch.context() as broken:
            broken.setattr("ledger.deliveries.add", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                relay(engine, client)
        assert len(every(ledger, outbox)) == 2
        assert states(engine) == []

        assert relay(engine, client) == 2

    assert every(ledger, outbox) == []
    assert states(engine) == ["waiting", "waiting"]
    assert engine.ring.heard == [("deliver", name)]


def test_without_endpoints_no_delivery_is_made(engine, ledger, redis_url):
    accepted(ledger)
    with connect(redis_url) as client:
        assert relay(engine, client) == 1
    accepted(ledger)

    assert fan_out(engine) == 0
    assert states(engine) == []
    assert len(every(ledger, outbox)) == 1


def test_an_endpoint_hears_only_what_it_asked_for(engine, ledger, receivers):
    chosen, other, everything = (receivers() for _ in range(3))
    endpoint(engine, chosen, types=["refund.sent"])
    endpoint(engine, other, accounts=["us"])
    endpoint(engine, everything)
    walk(ledger, accepted(ledger), State.SENDING, State.SUCCEEDED)
    fan_out(engine)
    run(engine, delivered(engine, 4))

    assert [each.json["type"] for each in chosen.got] == ["refund.sent"]
    assert other.got == []
    assert len(everything.got) == 3


def test_while_redis_is_away_endpoints_are_told_and_the_stream_afterwards_each_once(
    engine, ledger, receiver, redis_server
):
    endpoint(engine, receiver)
    refund = accepted(ledger)
    with connect(redis_server.url) as client:
        redis_server.kill()
        for state in (State.SENDING, State.SUCCEEDED):
            refund = walk(ledger, refund, state)
            with pytest.raises(redis.RedisError):
                relay(engine, client)
        run(engine, delivered(engine, 3))
        assert len(every(ledger, outbox)) == 3

        redis_server.start()
        assert relay(engine, client) == 3
        versions = [int(fields[b"version"]) for _, fields in client.xrange(EVENTS)]

    assert versions == [1, 2, 3]
    assert [got.event[1] for got in receiver.got] == [1, 2, 3]
    assert states(engine) == ["delivered"] * 3


def test_a_row_that_appears_below_what_was_heard_is_heard_too(engine, ledger, receiver):
    endpoint(engine, receiver)
    accepted(ledger)
    accepted(ledger)
    first = every(ledger, outbox, outbox.c.no)[0]
    sql(ledger, "DELETE FROM outbox WHERE no = :no", no=first.no)
    fan_out(engine)
    sql(
        ledger,
        "INSERT INTO outbox (no, refund_id, reference, account, state, version, at)"
        " VALUES (:no, :refund_id, 'R', 'shop', 'queued', 1, 1.0)",
        no=first.no,
        refund_id=first.refund_id,
    )

    assert fan_out(engine) == 1
    assert len(states(engine)) == 2


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_receiver_that_fails_for_a_while_gets_every_event_in_order_per_refund(engine, ledger, receiver):
    name, _ = endpoint(engine, receiver)
    receiver.fail()
    refunds = [walk(ledger, accepted(ledger, amount=1), State.SENDING, State.PENDING) for _ in range(6)]
    fan_out(engine)
    run(engine, lambda: len(receiver.got) >= 12)
    for refund in refunds:
        walk(ledger, refund, State.SUCCEEDED)
    fan_out(engine)
    assert webhooks.endpoint(engine, name)["failing_since"]
    receiver.got.clear()
    receiver.work()
    run(engine, delivered(engine, 24))

    assert len(receiver.got) == 24
    assert {each.event for each in receiver.got} == {(each.id, version) for each in refunds for version in range(1, 5)}
    assert in_order(receiver.got)
    assert webhooks.endpoint(engine, name)["failing_since"] is None


def test_the_first_success_spares_the_others_their_long_wait(make_engine, ledger, receiver):
    engine = make_engine(retry_schedule=[0, 0.3, 3600, 3600])
    endpoint(engine, receiver)
    receiver.fail()
    for _ in range(20):
        walk(ledger, accepted(ledger, amount=1), State.SENDING)
    fan_out(engine)
    run(engine, lambda: len(receiver.got) >= 12)
    receiver.work()
    accepted(ledger, amount=1)
    fan_out(engine)
    run(engine, delivered(engine, 41))

    assert in_order(receiver.good)
    assert {row.recovered_at for row in every(ledger, webhook_endpoint)} == {None}


def test_a_failing_event_holds_up_its_own_refund_only(make_engine, ledger, receiver):
    engine = make_engine(retry_schedule=[0, 3600])
    endpoint(engine, receiver)
    bad, good = (walk(ledger, accepted(ledger, amount=1), State.SENDING, State.SUCCEEDED) for _ in range(2))
    receiver.answers = lambda got: (500 if got.event == (bad.id, 2) else 204, {})
    fan_out(engine)
    run(engine, delivered(engine, 4))

    assert [got.event for got in receiver.good if got.event[0] == bad.id] == [(bad.id, 1)]
    assert [got.event[1] for got in receiver.good if got.event[0] == good.id] == [1, 2, 3]


def test_after_the_schedule_an_event_is_given_up_seen_and_sent_again_by_hand(make_engine, ledger, receiver):
    engine = make_engine(retry_schedule=[0, 0.02, 0.02])
    name, _ = endpoint(engine, receiver)
    refund = walk(ledger, accepted(ledger), State.SENDING, State.SUCCEEDED)
    receiver.answers = lambda got: (400 if got.event[1] == 2 else 204, {})
    fan_out(engine)
    with capture_logs() as logs:
        run(engine, delivered(engine, 2))

    assert [got.event[1] for got in receiver.got] == [1, 2, 2, 2, 3]
    assert len({got.id for got in receiver.got if got.event[1] == 2}) == 1
    assert [each["event"] for each in logs if each["log_level"] == "error"] == ["webhook.undelivered"]
    assert health.status(engine)["webhooks"] == {"failing": 0, "undelivered": 1}
    assert health.status(engine)["grade"] == "attention"
    (lost,) = webhooks.sent(engine, state="undelivered")
    receiver.work()
    assert webhooks.resend(engine, OPERATOR, lost["id"]) == 1
    run(engine, delivered(engine, 3))

    assert receiver.got[-1].event == (refund.id, 2)
    assert receiver.got[-1].id == lost["id"]
    assert health.status(engine)["webhooks"] == {"failing": 0, "undelivered": 0}
    tried = webhooks.delivery(engine, lost["id"])["tried"]
    assert [each["status"] for each in tried] == [400, 400, 400, 204]
    assert webhooks.endpoint(engine, name)["undelivered"] == 0


def test_410_switches_the_endpoint_off_and_nothing_is_lost(engine, ledger, receiver):
    name, _ = endpoint(engine, receiver)
    receiver.fail(410)
    accepted(ledger, amount=1)
    fan_out(engine)
    run(engine, lambda: webhooks.endpoint(engine, name)["state"] == "disabled")
    count = len(receiver.got)
    walk(ledger, accepted(ledger, amount=1), State.SENDING)
    fan_out(engine)

    assert tick(engine) == []
    assert health.status(engine)["webhooks"]["failing"] == 1
    assert "410" in webhooks.endpoint(engine, name)["reason"]
    assert [each["type"] for each in story(ledger, name)] == ["endpoint.created", "endpoint.disabled"]
    receiver.work()
    webhooks.enable(engine, ADMIN, name)
    run(engine, delivered(engine, 3))
    assert len(receiver.got) == count + 3
    assert health.status(engine)["webhooks"]["failing"] == 0


def test_a_long_failure_switches_the_endpoint_off(make_engine, ledger, receiver):
    engine = make_engine(disable_after=0.2)
    name, _ = endpoint(engine, receiver)
    receiver.fail()
    accepted(ledger)
    fan_out(engine)
    with capture_logs() as logs:
        run(engine, lambda: webhooks.endpoint(engine, name)["state"] == "disabled")

    assert "webhook.endpoint_disabled" in [each["event"] for each in logs]
    assert states(engine) == ["waiting"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(engine, ledger, receivers, status):
    elsewhere, receiver = receivers(), receivers()
    receiver.fail(status, Location=elsewhere.url)
    endpoint(engine, receiver)
    accepted(ledger)
    fan_out(engine)
    run(engine, lambda: len(receiver.got) >= 2)

    assert elsewhere.got == []
    assert states(engine) == ["waiting"]


def test_retry_after_is_waited_for_by_the_whole_endpoint(engine, ledger, receiver):
    name, _ = endpoint(engine, receiver)
    receiver.fail(429, Retry_After="2")
    for _ in range(20):
        accepted(ledger, amount=1)
    fan_out(engine)
    run(engine, lambda: bool(every(ledger, webhook_attempt)))
    seen = len(receiver.got)
    (row,) = every(ledger, webhook_endpoint)

    assert seen <= 8
    assert row.paused_until > time.time() + 1
    assert tick(engine) == []
    receiver.work()
    run(engine, delivered(engine, 20))
    assert webhooks.endpoint(engine, name)["failing_since"] is None


def test_a_hanging_receiver_is_given_up_in_time_and_holds_nobody_else(make_engine, ledger, receivers):
    engine = make_engine(timeout=3)
    hanging, quick = receivers(), receivers()
    hanging.hang()
    slow_one, _ = endpoint(engine, hanging)
    endpoint(engine, quick)
    for _ in range(10):
        walk(ledger, accepted(ledger, amount=1), State.SENDING)
    fan_out(engine)
    begun = time.monotonic()
    run(engine, delivered(engine, 20), patience=0.01)

    assert time.monotonic() - begun < 3
    assert len(quick.got) == 20
    sql(ledger, "UPDATE webhook_delivery SET due_at = 0, lease = NULL WHERE state = 'waiting'")
    run(engine, lambda: bool(every(ledger, webhook_attempt, webhook_attempt.c.no)[20:]), patience=0.01)
    failed = [row for row in every(ledger, webhook_attempt) if row.status is None]
    assert {row.error for row in failed} <= {"ConnectionTimeoutError", "TimeoutError", "ServerTimeoutError"}
    assert all(2900 <= row.ms <= 4500 for row in failed)
    assert webhooks.endpoint(engine, slow_one)["failing_since"]


def test_nobody_listening_is_a_failure_like_any_other(engine, ledger, receivers):
    receiver = receivers()
    endpoint(engine, receiver)
    receiver.close()
    accepted(ledger)
    fan_out(engine)
    run(engine, lambda: bool(every(ledger, webhook_attempt)))

    assert every(ledger, webhook_attempt)[0].error == "ClientConnectorError"
    assert states(engine) == ["waiting"]


def test_an_answer_is_kept_short_redacted_and_sealed(engine, ledger, receivers):
    receiver = receivers(body=json.dumps({"error": "no", "customer_email": "a@example.com"}).encode() + b" " * 100_000)
    long = receivers(body=b"x" * 1_000_000)
    for each in (receiver, long):
        each.fail(200)
        endpoint(engine, each)
    accepted(ledger)
    fan_out(engine)
    run(engine, delivered(engine, 2))
    answers = [
        each["answer"] for row in webhooks.sent(engine) for each in webhooks.delivery(engine, row["id"])["tried"]
    ]

    assert all(len(each) <= 4096 for each in answers)
    assert not any("a@example.com" in each for each in answers if each.startswith("{"))
    assert all(b"error" not in row.answer for row in every(ledger, webhook_attempt))


# -- workers -----------------------------------------------------------------------------------------------------------


def test_two_workers_at_once_send_every_event_once_and_in_order(engine, ledger, receiver):
    endpoint(engine, receiver)
    for _ in range(15):
        walk(ledger, accepted(ledger, amount=1), State.SENDING, State.SUCCEEDED)
    fan_out(engine)
    run(engine, delivered(engine, 45), workers=3)

    assert len(receiver.got) == 45
    assert in_order(receiver.got)


def test_what_a_dead_worker_held_is_sent_by_another_when_its_lease_ends(make_engine, ledger, receiver):
    engine = make_engine()
    name, _ = endpoint(engine, receiver)
    walk(ledger, accepted(ledger), State.SENDING)
    fan_out(engine)
    dead = exchange(engine, name, (), room=8)
    assert [each.version for each in dead.deliveries] == [1]
    assert exchange(engine, name, (), room=8).deliveries == ()

    later = replace(engine, clock=lambda: time.time() + QUICK["timeout"] + deliver.LEASE_MARGIN + 1)
    run(later, delivered(engine, 2))
    assert [got.event[1] for got in receiver.got] == [1, 2]

    late = Tried(dead.deliveries[0], dead.lease, Reply(at=time.time(), ms=1, status=500))
    exchange(engine, name, [late], room=0)
    assert states(engine) == ["delivered", "delivered"]


def test_a_stopping_worker_writes_down_what_it_was_owed(engine, ledger, receiver):
    name, _ = endpoint(engine, receiver)
    receiver.hang()
    accepted(ledger)
    fan_out(engine)

    async def work():
        desks = Deliveries(engine)
        desks.wake(name)
        while not receiver.got:  # noqa: ASYNC110 - the receiver is a thread
            await asyncio.sleep(0.01)
        receiver.work()
        await desks.stop(10)

    asyncio.run(work())

    assert states(engine) == ["delivered"]


def test_a_ledger_that_is_away_for_a_moment_costs_no_second_delivery(engine, ledger, receiver, monkeypatch):
    from sqlalchemy.exc import OperationalError

    endpoint(engine, receiver)
    accepted(ledger)
    fan_out(engine)
    settle = deliver._settled
    away = iter([True, True])

    def flaky(engine, connection, holder, tried):
        if tried and next(away, False):
            raise OperationalError("gone", None, Exception())
        return settle(engine, connection, holder, tried)

    monkeypatch.setattr(deliver, "_settled", flaky)
    run(engine, delivered(engine, 1))

    assert len(receiver.got) == 1


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_while_secrets_overlap_either_verifies_and_afterwards_only_the_new_one(engine, ledger, receiver):
    name, old = endpoint(engine, receiver)
    new = webhooks.rotate(engine, ADMIN, name, overlap=600.0)
    accepted(ledger, amount=1)
    fan_out(engine)
    run(engine, delivered(engine, 1))
    (first,) = receiver.got
    assert len(first.headers["webhook-signature"].split()) == 2
    assert Webhook(old).verify(first.body, dict(first.headers))
    assert Webhook(new).verify(first.body, dict(first.headers))

    newest = webhooks.rotate(engine, ADMIN, name, overlap=0.0)
    accepted(ledger, amount=1)
    fan_out(engine)
    run(engine, delivered(engine, 2))
    last = receiver.got[-1]
    assert Webhook(newest).verify(last.body, dict(last.headers))
    for gone in (old, new):
        with pytest.raises(WebhookVerificationError):
            Webhook(gone).verify(last.body, dict(last.headers))


def test_a_secret_is_nowhere_in_the_ledger_and_live_ones_are_limited(engine, ledger, receiver):
    name, secret = endpoint(engine, receiver)
    assert secret.startswith("whsec_")
    assert len(webhooks.live_secrets(engine, webhook(engine, name), time.time())) == 1
    for _ in range(3):
        webhooks.rotate(engine, ADMIN, name)
    with pytest.raises(Refused) as refused:
        webhooks.rotate(engine, ADMIN, name)

    assert refused.value.code == "too-many-secrets"
    (row,) = every(ledger, webhook_endpoint)
    assert secret.encode() not in row.secrets
    assert secret[6:] not in str(story(ledger, name))
    assert "whsec" not in str(webhooks.endpoint(engine, name))


# -- people ------------------------------------------------------------------------------------------------------------


def test_only_an_admin_changes_endpoints_and_only_an_operator_sends_again(engine, ledger, receiver):
    name, _ = endpoint(engine, receiver)
    for act in (
        lambda: webhooks.create(engine, OPERATOR, receiver.url),
        lambda: webhooks.rotate(engine, OPERATOR, name),
        lambda: webhooks.disable(engine, OPERATOR, name, reason="x"),
        lambda: webhooks.enable(engine, OPERATOR, name),
        lambda: webhooks.remove(engine, OPERATOR, name),
        lambda: webhooks.resend_range(engine, ADMIN, name, since=0.0),
    ):
        with pytest.raises(Forbidden):
            act()

    assert [each["type"] for each in story(ledger, name)] == ["endpoint.created"]


def test_every_act_is_in_the_journal_and_the_journal_holds(engine, ledger, receiver):
    name, _ = endpoint(engine, receiver)
    webhooks.rotate(engine, ADMIN, name)
    webhooks.disable(engine, ADMIN, name, reason="moving house")
    webhooks.enable(engine, ADMIN, name)
    webhooks.resend_range(engine, OPERATOR, name, since=0.0)
    webhooks.remove(engine, ADMIN, name)
    told = [(each["type"], each["actor"]) for each in story(ledger, name)]

    assert told == [
        ("endpoint.created", "ada"),
        ("endpoint.rotated", "ada"),
        ("endpoint.disabled", "ada"),
        ("endpoint.enabled", "ada"),
        ("webhooks.resent", "oli"),
        ("endpoint.deleted", "ada"),
    ]
    with ledger.read() as connection:
        assert journal.verify(connection)[1] == []
        assert connection.scalar(select(event.c.seq).where(event.c.subject == f"endpoint/{name}").limit(1))


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"url": "https://127.9.9.9:70/"}, "#/url"),
        ({"types": ["refund.exploded"]}, "#/types"),
        ({"accounts": ["nobody"]}, "#/accounts"),
    ],
)
def test_a_bad_endpoint_is_refused_with_the_field(engine, changes, pointer):
    given = {"url": "https://shop.example/", **changes}
    with pytest.raises(InvalidJob) as refused:
        webhooks.create(engine, ADMIN, given.pop("url"), **given)

    assert refused.value.errors[0].pointer == pointer


def test_what_is_not_there_is_said_to_be_not_there(engine, receiver):
    for act in (
        lambda: webhooks.endpoint(engine, "we_none"),
        lambda: webhooks.rotate(engine, ADMIN, "we_none"),
        lambda: webhooks.resend(engine, OPERATOR, "msg_none"),
        lambda: webhooks.delivery(engine, "msg_none"),
    ):
        with pytest.raises(NotFound):
            act()


def test_a_range_is_sent_again_under_the_same_ids(engine, ledger, receivers):
    receiver, other = receivers(), receivers()
    name, _ = endpoint(engine, receiver)
    endpoint(engine, other)
    for _ in range(3):
        walk(ledger, accepted(ledger, amount=1), State.SENDING)
    fan_out(engine)
    run(engine, delivered(engine, 12))
    middle = time.time()
    time.sleep(0.01)
    accepted(ledger, amount=1)
    fan_out(engine)
    run(engine, delivered(engine, 14))
    before = {got.id for got in receiver.got[:6]}
    receiver.got.clear()

    assert webhooks.resend_range(engine, OPERATOR, name, since=middle - 3600, until=middle) == 6
    run(engine, delivered(engine, 14))
    assert {got.id for got in receiver.got} == before
    assert in_order(receiver.got)
    assert webhooks.resend_range(engine, OPERATOR, name, since=0.0, state=Told.UNDELIVERED) == 0
    assert len(other.got) == 7


def test_a_disabled_endpoint_is_enabled_before_anything_is_sent_again(engine, ledger, receiver):
    name, _ = endpoint(engine, receiver)
    webhooks.disable(engine, ADMIN, name, reason="x")

    with pytest.raises(Refused) as refused:
        webhooks.resend_range(engine, OPERATOR, name, since=0.0)
    assert refused.value.code == "endpoint-disabled"


def test_a_deleted_endpoint_gets_nothing_more(engine, ledger, receiver):
    name, _ = endpoint(engine, receiver)
    accepted(ledger, amount=1)
    fan_out(engine)
    webhooks.remove(engine, ADMIN, name)
    accepted(ledger, amount=1)

    assert fan_out(engine) == 0
    assert exchange(engine, name, (), room=8).deliveries == ()
    assert tick(engine) == []
    assert webhooks.endpoints(engine) == []
    assert receiver.got == []


def test_old_deliveries_are_forgotten_with_their_attempts(make_engine, ledger, receiver):
    engine = make_engine(retention=3600)
    endpoint(engine, receiver)
    accepted(ledger, amount=1)
    fan_out(engine)
    run(engine, delivered(engine, 1))
    sql(ledger, "UPDATE webhook_delivery SET created_at = created_at - 7200")
    accepted(ledger, amount=1)
    fan_out(engine)
    housekeep(engine)

    assert states(engine) == ["waiting"]
    assert every(ledger, webhook_attempt) == []


# -- what is due costs little ------------------------------------------------------------------------------------------


def test_events_that_wait_behind_others_are_looked_at_once(make_engine, ledger, receiver):
    """A dead endpoint's backlog: a look costs what may be sent now, not what waits behind it."""
    engine = make_engine(retry_schedule=[0, 3600])
    name, _ = endpoint(engine, receiver)
    for _ in range(60):
        walk(ledger, accepted(ledger, amount=1), State.SENDING, State.PENDING)
    fan_out(engine)
    while (batch := exchange(engine, name, (), room=8)).deliveries:
        assert {each.version for each in batch.deliveries} == {1}
        failed = Reply(at=time.time(), ms=1, status=500)
        exchange(engine, name, [Tried(each, batch.lease, failed) for each in batch.deliveries], room=0)
        sql(ledger, "UPDATE webhook_endpoint SET failing_since = NULL, paused_until = 0")

    due = [row for row in every(ledger, webhook_delivery) if row.due_at <= time.time()]
    assert due == []
    assert len(every(ledger, webhook_attempt)) == 60
