"""Forged, replayed, early, late, doubled, out of order: a notification leaves one right outcome, at every provider."""

import asyncio
import hashlib

import msgspec
import pytest
from sqlalchemy.exc import OperationalError

from domain.decision import Cause
from domain.errors import QuotaExceeded, Refused
from domain.outcome import NotSent, NotSentReason
from domain.refund import moved
from domain.state import FINAL, State
from engine import look as look_up
from engine import notifications, operate, refusals, review
from engine.people import Actor, Role
from ledger import external, journal, notification, queries, refunds
from ledger.notification import Due
from ledger.payments import standing
from ledger.refunds import Change
from providers.base import Notification
from tests.support.one_process import response
from tests.support.processes import wait_until
from tests.support.sandbox_network import CUT, PROVIDERS, SandboxBench

DASHBOARD = PROVIDERS
FINAL_IN_ITS_ANSWER = ("smartpay",)
CHARGEBACKS = ("jpm_smartpay", "smart_glocal")
ACKNOWLEDGED = {"smart2pay": 204, "smart2pay_card": 204}
ANNA, OTTO = Actor("anna", frozenset(Role)), Actor("otto", frozenset(Role))
DAY = 86_400
each_provider = pytest.mark.parametrize("provider", PROVIDERS)


def lost_after(_answer):
    """The provider has done it; nobody hears of it."""
    return CUT


@pytest.fixture
def world(database_url):
    bench = SandboxBench(database_url)
    yield bench
    bench.close()


def paid(bench, provider, amount=2100, **options):
    """A payment at the sandbox; its block in a job."""
    currency = {"smartpay": "JPY", "smartretry": "USD"}.get(provider, "EUR")
    asked = {"provider": provider, "amount": amount, "currency": currency, **options}
    [block] = bench.network.control("POST", "payments", asked)["payments"]

    return {key: value for key, value in block.items() if value is not None}


def submitted(bench, provider, amount=1000, **options):
    payment = paid(bench, provider, **options)

    return bench.refund(provider, payment=payment, amount=amount, currency=payment["currency"])


def told_of(bench, provider, refund_id):
    """The sandbox's signed notification of a refund: headers and body."""
    asked = {"provider": provider, "refund_id": refund_id}
    message = bench.network.control("POST", "notification", asked)

    return message["headers"], message["body"].encode()


def tell(bench, provider, refund_id):
    return notifications.receive(bench.engine, provider, *told_of(bench, provider, refund_id))


def look(bench, provider):
    """Look at everything that is due."""

    async def run():
        account = bench.engine.accounts[provider]
        while await look_up.process(bench.engine, account, bench.network, inline):
            pass

    asyncio.run(run())


async def inline(work, *arguments, **named):
    return work(*arguments, **named)


def work(bench, provider, refund, rounds=40):
    """Everything that is due, until the refund rests."""
    for _ in range(rounds):
        found = bench.read(refund.id)
        if found.state in FINAL or found.state is State.REVIEW:
            return found
        bench.now = max(bench.now + 0.01, found.due_at or 0.0)
        for lane in ("send", "recover", "poll"):
            bench.turn(lane, provider)
        look(bench, provider)

    return bench.read(refund.id)


def rows(bench, **which):
    with bench.engine.ledger.read() as connection:
        return notification.listed(connection, **which)


def booked(bench):
    with bench.engine.ledger.read() as connection:
        return external.listed(connection)


def purse(bench, provider, payment):
    with bench.engine.ledger.read() as connection:
        return standing(connection, provider, payment["id"])


def entries(bench):
    """What the provider moved for us."""
    return [each for each in bench.network.control("GET", "ledger") if not each["external"]]


def provider_ids(bench):
    return [each["refund_id"] for each in bench.network.control("GET", "ledger")]


def sound(bench):
    with bench.engine.ledger.read() as connection:
        _, flaws = journal.verify(connection)
        return flaws == [] and queries.balances(connection) == []


@each_provider
def test_what_the_provider_tells_of_a_final_refund_is_acknowledged_and_changes_nothing(world, provider):
    refund = work(world, provider, submitted(world, provider))
    receipt = tell(world, provider, refund.provider_refund_id)
    look(world, provider)

    assert (receipt.status, receipt.verified) == (ACKNOWLEDGED.get(provider, 200), True)
    assert world.read(refund.id).state is State.SUCCEEDED
    assert [(row["state"], row["refunds"]) for row in rows(world)] == [("done", [refund.id])]
    assert booked(world) == []
    assert len(entries(world)) == 1
    assert sound(world)


@each_provider
def test_it_comes_before_our_own_answer_and_no_second_refund_is_made_or_booked(world, provider):
    refund = submitted(world, provider, pending_seconds=0)
    heard = []

    def early(answer):
        """The provider's notification overtakes its own answer, which is lost."""
        heard.append(tell(world, provider, provider_ids(world)[-1]))
        return CUT

    world.network.trouble = [early]
    world.turn("send", provider)
    look(world, provider)
    assert heard[0].fresh
    assert booked(world) == []
    done = work(world, provider, refund)
    world.now += 4000
    look(world, provider)

    assert done.state is State.SUCCEEDED, (done.cause, done.note)
    assert len(entries(world)) == 1
    assert booked(world) == []
    assert [row["state"] for row in rows(world)] == ["done"]
    assert purse(world, provider, {"id": done.payment_ref}).refunded == 1000
    assert sound(world)


@each_provider
def test_while_a_worker_has_the_refund_it_is_left_alone(world, provider):
    refund = submitted(world, provider, pending_seconds=0)
    leased = []

    def early(answer):
        tell(world, provider, provider_ids(world)[-1])
        world.now += 1
        leased.append(world.read(refund.id))
        return answer

    world.network.trouble = [early]
    world.turn("send", provider)
    look(world, provider)
    done = work(world, provider, refund)

    assert leased[0].leased_by is not None
    assert done.state is State.SUCCEEDED
    assert len(entries(world)) == 1
    assert booked(world) == []


@each_provider
def test_twice_is_once(world, provider):
    refund = work(world, provider, submitted(world, provider))
    message = told_of(world, provider, refund.provider_refund_id)
    fresh = [notifications.receive(world.engine, provider, *message).fresh for _ in range(3)]
    look(world, provider)

    assert fresh == [True, False, False]
    assert [row["deliveries"] for row in rows(world)] == [3]
    assert world.read(refund.id).state is State.SUCCEEDED


def told_while_looking(bench, provider, again):
    """A final refund is told of once more, in the way `again`, while the provider is asked about it."""
    refund = work(bench, provider, submitted(bench, provider))
    message = told_of(bench, provider, refund.provider_refund_id)
    receipt = notifications.receive(bench.engine, provider, *message)
    send = bench.network.send

    async def meanwhile(request):
        bench.network.send = send
        again(receipt.id, message)
        return await send(request)

    bench.network.send = meanwhile
    look(bench, provider)


def test_the_same_words_while_they_are_looked_at_are_looked_at_once_more(world):
    provider = "jpm_smartpay"
    told_while_looking(world, provider, lambda _, message: notifications.receive(world.engine, provider, *message))
    asked = len(world.network.asked)
    assert rows(world)[0]["due_at"] == world.now + notifications.AGAIN
    world.now += notifications.AGAIN
    look(world, provider)

    assert len(world.network.asked) > asked
    assert [(row["state"], row["due_at"], row["deliveries"]) for row in rows(world)] == [("done", None, 2)]


def test_the_same_words_just_after_a_look_are_looked_at_once_more_and_no_more(world):
    refund = work(world, "jpm_smartpay", submitted(world, "jpm_smartpay"))
    message = told_of(world, "jpm_smartpay", refund.provider_refund_id)
    notifications.receive(world.engine, "jpm_smartpay", *message)
    look(world, "jpm_smartpay")
    for _ in range(3):
        world.now += 1
        notifications.receive(world.engine, "jpm_smartpay", *message)

    assert [row["due_at"] for row in rows(world)] == [world.now - 2 + notifications.AGAIN]


def test_a_replay_while_it_is_looked_at_is_a_look_of_its_own(world):
    told_while_looking(world, "jpm_smartpay", lambda stored, _: notifications.replay(world.engine, ANNA, stored))
    assert rows(world)[0]["due_at"] == world.now
    look(world, "jpm_smartpay")

    assert [(row["state"], row["due_at"], row["tries"]) for row in rows(world)] == [("done", None, 1)]
    assert rows(world)[0]["result"].endswith("succeeded")


def test_whoever_was_lost_does_not_overwrite_what_the_next_one_found(world):
    refund = work(world, "jpm_smartpay", submitted(world, "jpm_smartpay"))
    tell(world, "jpm_smartpay", refund.provider_refund_id)
    claim = notification.claim
    [lost, taken] = [
        world.engine.ledger.run(lambda c, now=now: claim(c, "jpm_smartpay", limit=1, now=now, until=now + 300))[0]
        for now in (world.now, world.now + 300)
    ]
    told = {"refunds": [], "due_at": None, "now": world.now}
    settled = [
        world.engine.ledger.run(
            lambda c, due=due, state=state: notification.settle(c, due, state=state, result=state, **told)
        )
        for due, state in ((lost, "unmatched"), (taken, "done"), (lost, "unmatched"))
    ]

    assert settled == [False, True, False]
    assert [row["state"] for row in rows(world)] == ["done"]


@each_provider
def test_a_forged_one_changes_nothing_is_counted_and_visible(world, provider):
    refund = work(world, provider, submitted(world, provider))
    headers, body = told_of(world, provider, refund.provider_refund_id)
    asked = len(world.network.asked)
    forged = {name: value for name, value in headers.items() if name == "Content-Type"}
    wrong = {**headers, **{name: value[:-4] + "AAAA" for name, value in headers.items() if name != "Content-Type"}}
    receipts = [notifications.receive(world.engine, provider, each, body) for each in (forged, wrong)]
    look(world, provider)

    assert [(each.status, each.verified) for each in receipts] == [(401, False)] * 2
    assert len(world.network.asked) == asked
    (row,) = rows(world, unverified=True)
    assert (row["state"], bool(row["verified"]), row["deliveries"], row["refunds"]) == ("refused", False, 2, [])
    assert row["why"]
    with world.engine.ledger.read() as connection:
        assert notification.refused_since(connection, world.now) == {provider: 2}


@each_provider
def test_a_forged_one_does_not_keep_the_true_one_out(world, provider):
    refund = work(world, provider, submitted(world, provider))
    headers, body = told_of(world, provider, refund.provider_refund_id)
    notifications.receive(world.engine, provider, {}, body)
    receipt = notifications.receive(world.engine, provider, headers, body)
    look(world, provider)

    assert receipt.fresh
    assert sorted(row["state"] for row in rows(world)) == ["done", "refused"]


@pytest.mark.parametrize("provider", [each for each in PROVIDERS if each not in FINAL_IN_ITS_ANSWER])
def test_a_pending_refund_is_asked_about_at_once(world, provider):
    refund = submitted(world, provider, pending_seconds=3)
    world.turn("send", provider)
    waiting = world.read(refund.id)
    assert waiting.state is State.PENDING
    world.now += 3.5
    world.rung.clear()
    tell(world, provider, waiting.provider_refund_id)
    look(world, provider)

    assert world.read(refund.id).due_at <= world.now
    assert world.rung == [("notify", provider), ("poll", provider)]
    world.turn("poll", provider)
    assert world.read(refund.id).state is State.SUCCEEDED


def test_a_lost_answer_is_not_looked_up_before_that_could_mean_something(world):
    refund = submitted(world, "jpm_smartpay", pending_seconds=0)
    world.network.trouble = [lost_after]
    world.turn("send", "jpm_smartpay")
    unknown = world.read(refund.id)
    policy = world.engine.accounts["jpm_smartpay"].policy
    counts_from = unknown.last_send_end + policy.total_timeout + policy.lookup_delay
    tell(world, "jpm_smartpay", provider_ids(world)[-1])
    before = unknown.due_at
    look(world, "jpm_smartpay")

    assert unknown.state is State.UNKNOWN
    assert world.read(refund.id).due_at == min(before, counts_from)


def test_what_no_look_up_finds_is_found_by_the_id_that_was_told(world):
    """SmartRetry finds no refund by our handle, and after a day its key is forgotten: the notification names the id."""
    refund = submitted(world, "smartretry", pending_seconds=0)
    world.network.trouble = [lost_after]
    world.turn("send", "smartretry")
    world.now += 2 * 86_400
    work(world, "smartretry", refund)
    assert world.read(refund.id).state is State.REVIEW
    tell(world, "smartretry", provider_ids(world)[-1])
    look(world, "smartretry")

    done = world.read(refund.id)
    assert (done.state, done.provider_refund_id) == (State.SUCCEEDED, provider_ids(world)[-1])
    assert len(entries(world)) == 1
    assert sound(world)


def renewed(bench, refund):
    """Two people give the refund a new handle."""
    asked = review.ask_new_handle(bench.engine, ANNA, refund.id, reason="nothing there", evidence=b"a letter")

    return review.approve(bench.engine, OTTO, asked.approval_id)


def lost_but(ids):
    """The answer is lost; the id in it is noted."""

    def lost(answer):
        ids.append(answer.json()["transaction_id"])
        return CUT

    return lost


def given_up(bench, ids, **fault):
    """SmartRetry decides a refund after five days. Its answer was lost, and a new handle waits to be sent."""
    if fault:
        bench.network.control("PUT", "faults", [{"provider": "smartretry", "first": 1, **fault}])
    refund = submitted(bench, "smartretry", pending_seconds=5 * DAY)
    bench.network.trouble = [lost_but(ids)]
    bench.turn("send", "smartretry")
    bench.now += 2 * DAY
    assert work(bench, "smartretry", refund).cause is Cause.HANDLE_EXPIRED

    return renewed(bench, refund)


@pytest.mark.parametrize("arrives", [None, False, True])
def test_a_yes_to_a_handle_that_was_given_up_stops_the_new_one(world, arrives):
    """SmartRetry's record shows our id alone, which is the same under both handles."""
    ids = []
    refund = given_up(world, ids)
    world.now += 4 * DAY
    if arrives is not None:
        world.network.trouble = [lost_after if arrives else CUT]
        world.turn("send", "smartretry")
        assert world.read(refund.id).state is State.UNKNOWN
    sent = len(world.network.bodies)
    tell(world, "smartretry", ids[0])
    look(world, "smartretry")

    held = world.read(refund.id)
    assert (held.state, held.cause, held.ambiguous) == (State.REVIEW, Cause.TWO_HANDLES, True)
    for lane in ("send", "recover", "poll"):
        world.now += 3600
        world.turn(lane, "smartretry")
    assert len(world.network.bodies) == sent
    assert purse(world, "smartretry", {"id": refund.payment_ref}).reserved == 1000
    assert sound(world)


def test_a_no_to_a_handle_that_was_given_up_is_none_to_the_new_one(world):
    ids = []
    refund = given_up(world, ids, fault="decline")
    world.now += 4 * DAY
    world.network.trouble = [lost_but(ids)]
    world.turn("send", "smartretry")
    tell(world, "smartretry", ids[0])
    look(world, "smartretry")

    stands = world.read(refund.id)
    assert (stands.state, stands.provider_refund_id) == (State.UNKNOWN, None)
    assert purse(world, "smartretry", {"id": refund.payment_ref}).reserved == 1000
    with world.engine.ledger.read() as connection:
        kept = [each for each in journal.story(connection, refund.id) if each["type"] == "refund.evidence"]
    assert [each["data"]["provider_refund_id"] for each in kept] == [ids[0]]
    world.now = stands.due_at
    world.turn("recover", "smartretry")
    known = world.read(refund.id)
    assert (known.state, known.provider_refund_id) == (State.PENDING, ids[1])
    world.now += 5 * DAY
    tell(world, "smartretry", ids[1])
    look(world, "smartretry")
    world.turn("poll", "smartretry")
    assert world.read(refund.id).state is State.SUCCEEDED
    assert len(entries(world)) == 1


def test_while_the_new_handles_answer_may_come_nothing_is_taken_for_the_old_ones(world):
    ids = []
    refund = given_up(world, ids)
    send = world.network.send
    told = []

    async def overtaken(request):
        answer = await send(request)
        if request.method == "POST" and not told:
            told.append(answer.json()["transaction_id"])
            hint = Notification(provider_refund_ids=(told[0],), refund_id=refund.id)
            words = msgspec.json.encode(hint).decode()
            due = Due(id="nt", account="smartretry", kind="", hint=words, tries=0, received_at=world.now, due_at=0)
            early = look_up.Look(world.engine, world.engine.accounts["smartretry"], world.network, inline, due)
            await early.take()
            told.append(early.open)
        return answer

    world.network.send = overtaken
    world.turn("send", "smartretry")

    stands = world.read(refund.id)
    assert told[1] == [f"a worker has {refund.id}"]
    assert (stands.state, stands.provider_refund_id) == (State.PENDING, told[0])


def test_what_a_lost_worker_left_is_not_sent_anew_once_the_first_was_paid(world):
    ids = []
    refund = given_up(world, ids)
    world.now += 4 * DAY
    send = world.network.send

    async def dies(_request):
        raise asyncio.CancelledError

    world.network.send = dies
    world.turn("send", "smartretry")
    world.network.send = send
    tell(world, "smartretry", ids[0])
    look(world, "smartretry")
    assert world.read(refund.id).state is State.SENDING
    policy = world.engine.accounts["smartretry"].policy
    world.now += policy.total_timeout + 1
    look(world, "smartretry")
    world.now += policy.lease
    world.turn("recover", "smartretry")

    assert world.read(refund.id).cause is Cause.TWO_HANDLES
    assert len(entries(world)) == 1


def test_after_a_refusal_for_certain_what_is_told_is_about_the_new_handle(world):
    """What was refused for certain has no record that could be meant."""
    refund = submitted(world, "smartretry", pending_seconds=0)
    world.network.trouble = [response(403, {"reason_code": "TERMINAL_NOT_FOUND"})]
    world.turn("send", "smartretry")
    assert world.read(refund.id).cause is Cause.STORED_REFUSAL
    world.now += 3600
    renewed(world, refund)
    operate.resume(world.engine, ANNA, "smartretry", reason="mended")
    world.network.trouble = [lost_after]
    world.turn("send", "smartretry")
    assert world.read(refund.id).state is State.UNKNOWN
    tell(world, "smartretry", provider_ids(world)[0])
    look(world, "smartretry")

    assert world.read(refund.id).state is State.SUCCEEDED
    assert len(entries(world)) == 1


@each_provider
def test_a_success_that_is_taken_back_is_noticed(world, provider):
    world.network.control("PUT", "faults", [{"provider": provider, "fault": "late_flip", "seconds": 500, "first": 1}])
    refund = work(world, provider, submitted(world, provider))
    assert refund.state is State.SUCCEEDED
    world.now += 1000
    receipt = tell(world, provider, refund.provider_refund_id)
    look(world, provider)

    assert receipt.verified
    assert world.read(refund.id).state is State.REVERSED
    assert sound(world)


@pytest.mark.parametrize("provider", DASHBOARD)
def test_a_refund_made_elsewhere_counts_in_the_cap(world, provider):
    refund = work(world, provider, submitted(world, provider))
    made = world.network.control(
        "POST", "external", {"provider": provider, "payment": refund.payment_id, "amount": 300}
    )
    tell(world, provider, made["refund_id"])
    tell(world, provider, made["refund_id"])
    look(world, provider)

    (row,) = booked(world)
    assert (row["provider_refund_id"], row["kind"], row["amount"]) == (made["refund_id"], "refund", 300)
    assert bool(row["booked"])
    assert msgspec.json.decode(row["evidence"])["the_provider_was_asked"] is True
    money = purse(world, provider, {"id": refund.payment_ref})
    assert (money.refunded, money.refundable, money.over_refunded) == (1300, 800, False)
    assert world.read(refund.id).state is State.SUCCEEDED
    assert rows(world)[0]["state"] == "done"
    assert sound(world)


@pytest.mark.parametrize("provider", CHARGEBACKS)
def test_a_chargeback_beyond_the_cap_holds_back_what_was_not_sent(world, provider):
    payment = paid(world, provider)
    first = work(world, provider, world.refund(provider, payment=payment, amount=1000, currency=payment["currency"]))
    second = world.refund(provider, payment=payment, amount=1000, currency=payment["currency"])
    made = world.network.control(
        "POST",
        "external",
        {"provider": provider, "payment": first.payment_id, "amount": 500, "chargeback": True},
    )
    tell(world, provider, made["refund_id"])
    look(world, provider)

    (row,) = booked(world)
    assert (row["kind"], row["alert"]) == ("chargeback", "400 more than was captured is refunded or on its way")
    assert purse(world, provider, payment).over_refunded
    held = world.read(second.id)
    assert (held.state, held.cause) == (State.REVIEW, Cause.OVER_REFUNDED)
    assert len(entries(world)) == 1


@pytest.mark.parametrize("provider", ["smartpay", "smart2pay"])
def test_what_nobody_is_found_for_is_parked_then_shown(world, provider):
    payment = paid(world, provider)
    made = world.network.control("POST", "external", {"provider": provider, "payment": payment["id"], "amount": 100})
    tell(world, provider, made["refund_id"])
    world.network.send = away
    look(world, provider)
    (parked,) = rows(world, unmatched=True)
    world.now += world.engine.settings.notifications.wait + 1
    look(world, provider)

    (shown,) = rows(world, unmatched=True)
    assert (parked["state"], shown["state"]) == ("parked", "unmatched")
    assert "could not be asked" in shown["result"]
    assert booked(world) == []


async def away(_request):
    return NotSent(reason=NotSentReason.CONNECTION, detail="refused")


def test_parked_ones_are_matched_when_the_provider_answers_again(world):
    payment = paid(world, "smart2pay")
    made = world.network.control("POST", "external", {"provider": "smart2pay", "payment": payment["id"], "amount": 100})
    tell(world, "smart2pay", made["refund_id"])
    there, world.network.send = world.network.send, away
    look(world, "smart2pay")
    world.network.send = there
    world.now += 60
    look(world, "smart2pay")

    assert [row["amount"] for row in booked(world)] == [100]
    assert [row["state"] for row in rows(world)] == ["done"]


def test_a_dashboard_refund_waits_for_an_answer_that_may_be_the_same(world):
    """Smart Glocal shows no handle here: while our own refund has no id yet, an unknown one may be ours."""
    refund = submitted(world, "smart_glocal", echo_metadata=False, pending_seconds=0)
    world.network.trouble = [lost_after]
    world.turn("send", "smart_glocal")
    tell(world, "smart_glocal", provider_ids(world)[-1])
    look(world, "smart_glocal")
    assert booked(world) == []
    assert [row["state"] for row in rows(world, unmatched=True)] == ["parked"]
    done = work(world, "smart_glocal", refund)
    world.now += 4000
    look(world, "smart_glocal")

    assert done.state is State.SUCCEEDED
    assert booked(world) == []
    assert [row["state"] for row in rows(world)] == ["done"]
    assert purse(world, "smart_glocal", {"id": refund.payment_ref}).refunded == 1000


def test_a_sale_is_not_a_refund(world):
    work(world, "smartretry", submitted(world, "smartretry"))
    asked = len(world.network.asked)
    other = paid(world, "smartretry")
    made = world.network.control("POST", "external", {"provider": "smartretry", "payment": other["id"]})
    tell(world, "smartretry", made["refund_id"])
    look(world, "smartretry")

    assert len(world.network.asked) == asked
    assert rows(world)[0]["result"] == "it is not about a refund"


def test_nothing_shows_who_sent_it_where_no_user_is_agreed(tmp_path):
    nobody = {"webhook_user": "", "webhook_password": ""}
    bench = SandboxBench(f"sqlite:///{tmp_path / 'ledger.db'}", jpm_smartpay=nobody)
    refund = work(bench, "jpm_smartpay", submitted(bench, "jpm_smartpay"))
    _, body = told_of(bench, "jpm_smartpay", refund.provider_refund_id)
    receipt = notifications.receive(bench.engine, "jpm_smartpay", {}, body)
    look(bench, "jpm_smartpay")
    (row,) = rows(bench, unverified=True)
    bench.close()

    assert (receipt.status, receipt.verified) == (200, False)
    assert (row["state"], row["why"]) == ("done", "nothing shows who sent it: no user is configured")
    assert row["refunds"] == [refund.id]


def refused(bench):
    with bench.engine.ledger.read() as connection:
        return notification.refused_since(connection, bench.now)


def test_a_flood_of_forged_ones_is_counted_and_takes_little_room(world):
    for number in range(3 * notifications.REFUSED_KEPT):
        notifications.receive(world.engine, "smartpay", {}, b"%d" % number * 20_000)

    wait_until(
        lambda: refused(world) == {"smartpay": 3 * notifications.REFUSED_KEPT}, timeout=10, what="all are counted"
    )
    assert len(rows(world, limit=1000)) == notifications.REFUSED_KEPT
    world.now += 3600
    assert notifications.receive(world.engine, "smartpay", {}, b"one more").id is not None


def test_once_the_hour_is_full_a_forged_one_costs_no_write_and_is_not_taken_apart(world, monkeypatch):
    monkeypatch.setattr(notifications, "REFUSED_KEPT", 1)
    receipts = [notifications.receive(world.engine, "smartpay", {}, b"%d" % number) for number in range(2)]
    monkeypatch.setattr(notifications, "_kept", None)
    with monkeypatch.context() as patch:
        patch.setattr(refusals, "PAUSE", 60.0)
        patch.setattr(world.engine.ledger, "run", None)
        receipts += [notifications.receive(world.engine, "smartpay", {}, b"x" * 10_000) for _ in range(10)]
    assert refused(world) == {"smartpay": 2}
    world.engine.refusals.flush()

    assert [each.id is None for each in receipts] == [False, *[True] * 11]
    assert {each.status for each in receipts} == {401}
    assert refused(world) == {"smartpay": 12}


def test_what_could_not_be_counted_is_counted_later(world, monkeypatch):
    monkeypatch.setattr(refusals, "PAUSE", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(notification, "count_refused", lost_database)
        world.engine.refusals.count("smartpay", world.now)
        world.engine.refusals.flush()
        assert refused(world) == {}

    wait_until(lambda: refused(world) == {"smartpay": 1}, timeout=10, what="it is counted")


def lost_database(*_):
    raise OperationalError("", {}, Exception("gone"))


def test_an_address_that_is_refused_too_often_is_limited_and_what_is_genuine_never_is(world, monkeypatch):
    monkeypatch.setattr(notifications, "REFUSED_RATE", 2)
    refund = work(world, "smartpay", submitted(world, "smartpay"))
    headers, body = told_of(world, "smartpay", refund.provider_refund_id)

    def receive(sent, address):
        return notifications.receive(world.engine, "smartpay", sent, body, address=address).status

    assert [receive({}, "192.0.2.1") for _ in range(2)] == [401, 401]
    with pytest.raises(QuotaExceeded) as limited:
        receive({}, "192.0.2.1")
    assert 0 < limited.value.retry_after <= notifications.REFUSED_PERIOD
    assert receive({}, "192.0.2.2") == 401
    assert [receive(headers, "192.0.2.1") for _ in range(5)] == [200] * 5
    world.engine.refusals.flush()
    assert refused(world) == {"smartpay": 4}


def test_a_large_forged_one_is_kept_by_its_head_without_what_is_private(world):
    body = b'{"email":"anna@shop.example","name":"Anna","x":"' + b"y" * 100_000 + b'"}'
    receipt = notifications.receive(world.engine, "smartpay", {}, body)
    with world.engine.ledger.read() as connection:
        found = notification.get(connection, receipt.id)
    shown = world.engine.vault.open(found["body"])

    assert (found["size"], found["body_hash"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert shown.startswith(b'{"email":"***","name":"***","x":"yyy')
    assert len(shown) == notifications.REFUSED_HEAD


def test_old_ones_are_forgotten_and_those_to_be_looked_at_are_not(world):
    refund = work(world, "smart2pay", submitted(world, "smart2pay"))
    tell(world, "smart2pay", refund.provider_refund_id)
    look(world, "smart2pay")
    notifications.receive(world.engine, "smart2pay", {}, b"forged")
    world.now += world.engine.settings.notifications.keep + 1
    tell(world, "smart2pay", refund.provider_refund_id)
    notifications.housekeep(world.engine)

    assert [row["deliveries"] for row in rows(world)] == [2]


def test_a_replay_looks_once_more_and_is_on_record(world):
    refund = work(world, "smart_glocal", submitted(world, "smart_glocal"))
    tell(world, "smart_glocal", refund.provider_refund_id)
    look(world, "smart_glocal")
    (row,) = rows(world)
    world.rung.clear()
    notifications.replay(world.engine, ANNA, row["id"])
    look(world, "smart_glocal")

    assert world.rung == [("notify", "smart_glocal")]
    assert rows(world)[0]["state"] == "done"
    assert world.read(refund.id).state is State.SUCCEEDED
    with world.engine.ledger.read() as connection:
        story = journal.story(connection, f"notification/{row['id']}")
    assert [(each["type"], each["actor"]) for each in story] == [("notification.replayed", "anna")]


def test_what_waits_for_a_person_is_not_sent_beyond_what_others_left(world):
    payment = paid(world, "smart_glocal")
    refund = world.refund("smart_glocal", payment=payment, amount=2100, currency=payment["currency"])
    given_up = moved(refund, State.REVIEW, world.now, due_at=None, cause=Cause.ATTEMPTS_EXHAUSTED)
    step = Change(before=refund, after=given_up, type="refund.review", actor="w", fenced=False)
    world.engine.ledger.run(lambda connection: refunds.apply(connection, [step]))
    made = {"provider": "smart_glocal", "payment": payment["id"], "amount": 500, "chargeback": True}
    tell(world, "smart_glocal", world.network.control("POST", "external", made)["refund_id"])
    look(world, "smart_glocal")

    with pytest.raises(Refused, match="500 more than was captured"):
        review.retry(world.engine, ANNA, refund.id, reason="again")
    assert entries(world) == []
