"""The pump against a real ledger, with a network that is a function and a clock set by hand."""

import asyncio
import hashlib
import itertools

import pytest
from msgspec.structs import replace
from sqlalchemy import select, text
from structlog.testing import capture_logs

from domain.decision import Cause
from domain.errors import Conflict
from domain.outcome import Declined, Facts, NotSent, NotSentReason, Pending, Succeeded
from domain.state import State
from engine import operate, review
from engine.assign import assign
from engine.bulk_plan import Selection
from engine.evidence import Brought, bring_evidence
from engine.people import Actor, Role, recognise
from ledger import journal, queries
from ledger.accounts import switch
from ledger.models import attempt
from tests.support.one_process import Bench, accepted, lost, one_after_another, response

REFUSED = NotSent(reason=NotSentReason.CONNECTION, detail="refused")


@pytest.fixture
def bench(database_url):
    made = Bench(database_url)
    yield made
    made.close()


@pytest.fixture
def system(bench):
    return recognise(bench.engine, None)


def story(bench, refund):
    with bench.engine.ledger.read() as connection:
        return journal.story(connection, refund.id)


def to_review(bench, cause_answers=None):
    """A refund whose answers were lost until its handle had expired."""
    refund = bench.refund()
    bench.answering(lost)
    bench.turn("send")
    bench.wait(90_000)
    bench.turn("recover")

    return bench.read(refund.id)


def test_a_refund_is_sent_polled_and_succeeds(bench):
    refund = bench.refund()
    bench.turn("send")

    assert bench.read(refund.id).state is State.PENDING
    bench.until_due(refund.id)
    bench.turn("poll")
    done = bench.read(refund.id)
    assert done.state is State.SUCCEEDED
    assert done.provider_refund_id is not None
    assert done.due_at is None


def test_the_intent_is_committed_before_the_socket_opens(bench):
    seen = []

    def handler(request):
        with bench.engine.ledger.read() as connection:
            rows = connection.execute(text("SELECT no, body_hash, ended_at FROM attempt")).all()
            [state] = connection.execute(text("SELECT state FROM refund")).scalars()
        seen.append((rows, state, hashlib.sha256(request.content).hexdigest()))
        return accepted(request)

    bench.answering(handler)
    bench.refund()
    bench.turn("send")

    [(rows, state, digest)] = seen
    assert rows == [(1, digest, None)]
    assert state == State.SENDING


def test_a_lost_answer_is_repeated_with_the_same_bytes_and_headers(bench):
    refund = bench.refund(customer={"email": "a@example.com"})
    bench.answering(one_after_another([lost, lost, accepted]))
    bench.turn("send")
    for _ in range(2):
        bench.until_due(refund.id)
        bench.turn("recover")
    first, *others = bench.network.sent

    assert bench.read(refund.id).state is State.PENDING
    assert len(others) == 2
    for other in others:
        assert other.content == first.content
        assert other.headers == first.headers
        assert other.url == first.url


@pytest.mark.parametrize("answer", [REFUSED, response(429), response(400, {"reason_code": "REFUND_AMOUNT_EXCEEDED"})])
def test_a_no_after_a_lost_answer_leaves_it_unknown_and_the_money_reserved(bench, answer):
    refund = bench.refund()
    bench.answering(one_after_another([lost, answer]))
    bench.turn("send")
    bench.until_due(refund.id)
    bench.turn("recover")

    assert bench.read(refund.id).state is State.UNKNOWN
    assert bench.read(refund.id).ambiguous
    with bench.engine.ledger.read() as connection:
        assert connection.execute(text("SELECT reserved FROM payment")).scalar() == 2500


def test_a_refused_connection_is_tried_again_and_nothing_is_in_doubt(bench):
    refund = bench.refund()
    bench.answering(one_after_another([REFUSED, accepted]))
    bench.turn("send")

    assert bench.read(refund.id).state is State.QUEUED
    assert not bench.read(refund.id).ambiguous
    bench.until_due(refund.id)
    bench.turn("send")
    assert bench.read(refund.id).state is State.PENDING


def test_a_final_refusal_releases_the_money(bench):
    refund = bench.refund()
    bench.answering(lambda _: response(400, {"reason_code": "REFUND_AMOUNT_EXCEEDED", "detail": "too much"}))
    bench.turn("send")
    failed = bench.read(refund.id)

    assert (failed.state, failed.failure_code) == (State.FAILED, "REFUND_AMOUNT_EXCEEDED")
    with bench.engine.ledger.read() as connection:
        assert connection.execute(text("SELECT reserved FROM payment")).scalar() == 0


def test_a_worker_that_died_after_its_intent_makes_the_refund_unknown_and_another_recovers_it(bench):
    refund = bench.refund()

    def dying(_request):
        raise asyncio.CancelledError

    bench.answering(dying)
    bench.turn("send")
    assert bench.read(refund.id).state is State.SENDING
    bench.turn("recover")
    assert bench.read(refund.id).state is State.SENDING  # the lease still runs
    bench.answering(accepted)
    bench.wait(bench.engine.accounts["shop"].policy.lease + 1)
    bench.turn("recover")

    assert bench.read(refund.id).state is State.PENDING
    assert bench.read(refund.id).attempts == 2
    assert bench.network.sent[0].content == bench.network.sent[1].content


@pytest.mark.parametrize("with_the_claim", [True, False])
def test_a_worker_that_wakes_up_after_its_lease_sends_nothing(bench, with_the_claim):
    refund = bench.refund()
    pump = bench.pump("send")
    original = pump.steps._send_move
    pump.steps.begin = pump.steps.begin if with_the_claim else lambda _refund: None

    async def slept(*arguments):
        bench.wait(10_000)
        return await original(*arguments)

    pump.steps._send_move = slept

    async def run():
        await pump.turn()
        await pump.stop(5)

    asyncio.run(run())

    assert bench.network.sent == []
    assert bench.read(refund.id).state is State.QUEUED


def test_a_handle_past_its_lifetime_is_not_replayed(bench):
    stuck = to_review(bench)

    assert (stuck.state, stuck.cause) == (State.REVIEW, Cause.HANDLE_EXPIRED)
    assert len(bench.network.sent) == 1
    assert review.verdict_of(bench.engine, stuck).advice == "human_only"


def test_an_account_with_another_identity_does_not_replay(bench):
    refund = bench.refund()
    bench.answering(lost)
    bench.turn("send")
    bench.engine.accounts["shop"].provider._base = "https://elsewhere.example"
    bench.until_due(refund.id)
    bench.turn("recover")

    assert bench.read(refund.id).cause is Cause.FINGERPRINT_CHANGED
    assert len(bench.network.sent) == 1


def test_refused_credentials_pause_the_account_and_fail_nothing(bench, system):
    refunds = [bench.refund() for _ in range(3)]
    bench.answering(lambda _: response(401, {"reason_code": "INVALID_API_KEY"}))
    bench.turn("send")
    bench.wait(3600)
    bench.turn("send")

    assert {bench.read(refund.id).state for refund in refunds} == {State.QUEUED}
    assert len(bench.network.sent) == 3
    with bench.engine.ledger.read() as connection:
        assert switch(connection, "shop").paused
    operate.resume(bench.engine, system, "shop", reason="the key is mended")
    bench.answering(accepted)
    bench.turn("send")
    assert {bench.read(refund.id).state for refund in refunds} == {State.PENDING}
    assert all(bench.read(refund.id).uncounted == 1 for refund in refunds)


def test_a_pause_of_the_queue_stops_every_account_and_no_question(bench, system):
    queued = bench.refund()
    operate.pause_sending(bench.engine, system, reason="a test")
    bench.turn("send")
    assert (bench.read(queued.id).state, bench.network.sent) == (State.QUEUED, [])
    operate.resume_sending(bench.engine, system, reason="over")
    bench.turn("send")

    assert bench.read(queued.id).state is State.PENDING
    assert len(bench.network.sent) == 1


def test_a_pause_stops_first_sendings_and_nothing_else(bench, system):
    pending, unknown, queued = bench.refund(), bench.refund(), bench.refund(not_before="2027-01-15T08:00:01Z")
    bench.answering(one_after_another([accepted, lost, accepted]))
    bench.turn("send")
    operate.pause(bench.engine, system, "shop", reason="a test")
    bench.wait(60)
    for lane in ("send", "recover", "poll"):
        bench.turn(lane)
    states = {bench.read(refund.id).state for refund in (pending, unknown)}

    assert states <= {State.SUCCEEDED, State.PENDING}
    assert bench.read(queued.id).state is State.QUEUED


def test_another_amount_in_the_answer_is_review_with_the_money_kept_reserved(bench):
    refund = bench.refund()
    bench.turn("send")
    bench.answering(
        lambda _: response(
            200,
            {
                "transaction_id": bench.read(refund.id).provider_refund_id,
                "type": "refund",
                "amount": 24,
                "currency": "USD",
                "status": {"status": "APPROVED"},
            },
        )
    )
    bench.until_due(refund.id)
    bench.turn("poll")

    assert (bench.read(refund.id).state, bench.read(refund.id).cause) == (State.REVIEW, Cause.MISMATCH)
    with bench.engine.ledger.read() as connection:
        assert connection.execute(text("SELECT reserved FROM payment")).scalar() == 2500


def test_a_refund_id_of_another_refund_is_a_contradiction_not_a_success(bench):
    first, second = bench.refund(), bench.refund()
    bench.answering(lambda _: response(200, {"transaction_id": "TX2E6G8H", "accepted": True}))
    bench.turn("send")

    states = {bench.read(first.id).state, bench.read(second.id).state}
    assert states == {State.PENDING, State.REVIEW}
    [odd] = [each for each in (bench.read(first.id), bench.read(second.id)) if each.state is State.REVIEW]
    assert odd.cause is Cause.CONTRADICTION
    assert odd.ambiguous


def test_a_note_written_during_the_call_does_not_lose_the_answer(bench, system):
    refund = bench.refund()

    def noting(request):
        review.comment(bench.engine, system, refund.id, "looking at it")
        assign(bench.engine, system, Selection(ids=(refund.id,)), "anna")
        return accepted(request)

    bench.answering(noting)
    bench.turn("send")
    noted = bench.read(refund.id)

    assert noted.state is State.PENDING
    assert noted.assignee == "anna"
    with bench.engine.ledger.read() as connection:
        assert journal.verify(connection)[1] == []


def test_what_is_claimed_while_the_worker_stops_is_answered_and_not_left_in_doubt(bench):
    refund = bench.refund()

    async def run():
        claimed, go_on = asyncio.Event(), asyncio.Event()

        async def slow(work, *arguments, **named):
            done = work(*arguments, **named)
            if work == pump._claim:
                claimed.set()
                await go_on.wait()
            return done

        pump = bench.pump("send", run_blocking=slow)
        turn = asyncio.create_task(pump.turn())
        await claimed.wait()
        stop = asyncio.create_task(pump.stop(5))
        await asyncio.sleep(0.01)
        go_on.set()
        await stop
        assert bench.read(refund.id).state is State.PENDING
        await turn

    asyncio.run(run())

    assert len(bench.network.sent) == 1


def test_a_cancelled_refund_is_not_sent_by_a_worker_that_had_claimed_it(bench, system):
    refund = bench.refund()
    pump = bench.pump("send")
    pump.steps.begin = lambda _refund: None
    original = pump.steps._send

    async def cancelled_first(claimed, begun):
        review.cancel(bench.engine, system, claimed.id, reason="changed my mind")
        await original(claimed, begun)

    pump.steps._send = cancelled_first

    async def run():
        await pump.turn()
        await pump.stop(5)

    asyncio.run(run())

    assert bench.network.sent == []
    assert bench.read(refund.id).state is State.CANCELLED


def test_a_refund_whose_intent_is_written_cannot_be_cancelled(bench, system):
    refund = bench.refund()
    pump = bench.pump("send")
    original = pump.steps._send

    async def too_late(claimed, begun):
        assert begun is not None
        with pytest.raises(Conflict, match="the refund is sending"):
            review.cancel(bench.engine, system, claimed.id, reason="changed my mind")
        await original(claimed, begun)

    pump.steps._send = too_late

    async def run():
        await pump.turn()
        await pump.stop(5)

    asyncio.run(run())

    assert len(bench.network.sent) == 1
    assert bench.read(refund.id).state is State.PENDING


def test_late_evidence_about_a_given_up_handle_brings_a_person_and_stops_the_new_one(bench, system):
    stuck = to_review(bench)
    asked = stuck
    renewed = replace(stuck, handle="a-new-handle")
    with bench.engine.ledger.write() as connection:
        connection.execute(
            text(
                "UPDATE refund SET handle = 'a-new-handle', state = 'queued', ambiguous = :no, cause = NULL "
                "WHERE id = :id"
            ),
            {"id": renewed.id, "no": False},
        )
    account = bench.engine.accounts["shop"]
    told = bring_evidence(bench.engine, account, asked, Succeeded(facts=Facts(provider_refund_id="TXLATE01")))

    assert told is Brought.MOVED
    held = bench.read(stuck.id)
    assert (held.state, held.cause, held.ambiguous) == (State.REVIEW, Cause.TWO_HANDLES, True)
    bench.answering(accepted)
    before = len(bench.network.sent)
    bench.turn("send")
    assert len(bench.network.sent) == before


def test_an_old_handles_refusal_says_nothing_about_the_new_one(bench):
    refund = bench.refund()
    bench.answering(lost)
    bench.turn("send")
    asked = replace(bench.read(refund.id), handle="an-older-handle")
    account = bench.engine.accounts["shop"]

    said = [bring_evidence(bench.engine, account, asked, Declined(code="NO", own_record=True)) for _ in range(2)]

    assert said == [Brought.KEPT] * 2
    assert bench.read(refund.id).state is State.UNKNOWN
    assert [each["type"] for each in story(bench, refund)].count("refund.evidence") == 1


def test_what_the_provider_still_has_of_a_refund_that_failed_is_kept_and_told(bench):
    refund = bench.refund()
    bench.answering(lambda _: response(400, {"reason_code": "REFUND_AMOUNT_EXCEEDED"}))
    bench.turn("send")
    failed = bench.read(refund.id)
    account = bench.engine.accounts["shop"]
    outcome = Pending(facts=Facts(provider_refund_id="TXLATE01"))
    with capture_logs() as logs:
        said = [bring_evidence(bench.engine, account, failed, outcome) for _ in range(2)]

    assert (failed.state, bench.read(refund.id).state) == (State.FAILED, State.FAILED)
    assert said == [Brought.KEPT] * 2
    kept = [each["data"] for each in story(bench, refund) if each["type"] == "refund.evidence"]
    assert [(each["outcome"], each["provider_refund_id"]) for each in kept] == [("pending", "TXLATE01")]
    assert [(each["event"], each["log_level"]) for each in logs] == [("evidence.unplaced", "error")] * 2


def test_a_pending_answer_under_the_id_that_we_know_is_the_present_handles_whoever_was_asked_about(bench):
    """The new handle's own answer came while the provider was asked about what looked like the old one's."""
    refund = bench.refund()
    bench.turn("send")
    stands = bench.read(refund.id)
    asked = replace(stands, handle="an-older-handle", provider_refund_id=None)
    seen = Pending(facts=Facts(provider_refund_id=stands.provider_refund_id))
    bring_evidence(bench.engine, bench.engine.accounts["shop"], asked, seen)

    assert bench.read(refund.id).state is State.PENDING


def test_asking_about_what_was_taken_back_leaves_a_request_to_settle_it_as_it_was(bench, system):
    """The provider says the same no once more: cause, verdict and what the requester saw stay."""
    refund = bench.refund()
    bench.turn("send")
    bench.until_due(refund.id)
    bench.turn("poll")
    account = bench.engine.accounts["shop"]
    no = Declined(code="TAKEN_BACK", own_record=True)
    bring_evidence(bench.engine, account, bench.read(refund.id), no)
    people = [Actor(name, frozenset(Role)) for name in ("anna", "otto")]
    asked = review.ask_settle(
        bench.engine, people[0], refund.id, outcome="not_returned", reason="taken back", evidence=b"a letter"
    )
    bring_evidence(bench.engine, account, bench.read(refund.id), no)

    stands = bench.read(refund.id)
    assert (stands.state, stands.cause) == (State.REVERSED, Cause.REVERSED)
    assert review.verdict_of(bench.engine, stands).advice == "human_only"
    assert review.approve(bench.engine, people[1], asked.approval_id).state is State.SETTLED


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Succeeded(), State.SUCCEEDED),
        (Pending(), State.PENDING),
        (Declined(code="NO", own_record=True), State.FAILED),
        (Declined(code="NO"), State.UNKNOWN),
        (REFUSED, State.UNKNOWN),
    ],
)
def test_evidence_after_the_lease_was_lost_is_brought_to_the_refund_as_it_stands(bench, outcome, state):
    refund = bench.refund()
    bench.answering(lost)
    bench.turn("send")
    asked = bench.read(refund.id)
    bring_evidence(bench.engine, bench.engine.accounts["shop"], asked, outcome)

    assert bench.read(refund.id).state is state


def test_an_answer_that_names_anothers_refund_is_kept_though_the_lease_was_lost(bench):
    first = bench.refund()
    bench.turn("send")
    taken = bench.read(first.id).provider_refund_id
    second = bench.refund()

    def taken_over(_request):
        with bench.engine.ledger.write() as connection:
            connection.execute(text("UPDATE refund SET fence = fence + 1 WHERE id = :id"), {"id": second.id})
        return response(200, {"transaction_id": taken, "order_id": "OR7B9E1D", "accepted": True})

    bench.answering(taken_over)
    bench.turn("send")

    with bench.engine.ledger.read() as connection:
        query = select(attempt.c.outcome, attempt.c.http_status).where(attempt.c.refund_id == second.id)
        assert connection.execute(query).one() == ("pending", 200)
    told = story(bench, second)[-1]
    assert (told["type"], told["data"]["provider_refund_id"]) == ("refund.evidence", taken)
    assert "another refund" in told["data"]["why"]
    stands = bench.read(second.id)
    assert (stands.state, stands.provider_refund_id) == (State.SENDING, None)
    assert bench.read(first.id).provider_refund_id == taken
    with bench.engine.ledger.read() as connection:
        assert journal.verify(connection)[1] == []


def test_asking_in_vain_does_not_change_why_a_person_was_called(bench):
    stuck = to_review(bench)
    with bench.engine.ledger.write() as connection:
        connection.execute(text("UPDATE refund SET due_at = 1 WHERE id = :id"), {"id": stuck.id})
    bench.turn("poll")

    assert bench.read(stuck.id).cause is Cause.HANDLE_EXPIRED
    assert bench.read(stuck.id).due_at is None


def test_a_refund_that_kills_its_workers_again_and_again_ends_in_review(bench):
    refund = bench.refund()
    policy = bench.engine.accounts["shop"].policy
    for _ in range(policy.max_lost_leases + 2):
        with bench.engine.ledger.write() as connection:
            from ledger.refunds import claim

            claim(
                connection,
                "send",
                "shop",
                limit=5,
                now=bench.now,
                until=bench.now + policy.lease,
                worker="w",
                alone=False,
            )
        bench.wait(policy.lease + 1)
    bench.turn("send")

    assert (bench.read(refund.id).state, bench.read(refund.id).cause) == (State.REVIEW, Cause.LEASES_LOST)
    assert bench.network.sent == []


def test_the_books_balance_and_the_journal_verifies_after_all_kinds_of_ends(bench):
    for handler in (accepted, lost, lambda _: REFUSED, lambda _: response(400, {"reason_code": "INVALID_AMOUNT"})):
        bench.answering(handler)
        bench.refund()
        bench.turn("send")
    bench.answering(accepted)
    bench.wait(100)
    for lane in ("recover", "poll", "send"):
        bench.turn(lane)

    with bench.engine.ledger.read() as connection:
        assert queries.balances(connection) == []
        assert journal.verify(connection)[1] == []


def test_an_adapter_that_yields_a_second_move_is_stopped(bench):
    """A third party's adapter may be wrong; it must not be able to pay twice."""
    refund = bench.refund()
    provider = bench.engine.accounts["shop"].provider
    original = provider.refund

    def twice(order):
        yield from original(order)
        outcome = yield from original(order)
        return outcome

    provider.refund = twice
    bench.turn("send")

    assert len(bench.network.sent) == 1
    assert (bench.read(refund.id).state, bench.read(refund.id).cause) == (State.REVIEW, Cause.CONTRADICTION)


def test_an_adapter_whose_question_moves_money_is_stopped(bench):
    refund = bench.refund()
    bench.turn("send")
    provider = bench.engine.accounts["shop"].provider
    provider.status = provider.refund
    bench.until_due(refund.id)
    bench.turn("poll")

    assert len(bench.network.sent) == 1
    assert bench.read(refund.id).state is State.REVIEW


def test_two_refunds_of_one_payment_never_wait_for_each_other(bench):
    """The younger was claimed and its worker died; the older became due meanwhile: one of them must go on."""
    from ledger.refunds import claim

    payment = {"id": "TXSAME01", "order_id": "ORSAME01", "amount": 5000, "currency": "USD"}
    older, younger = (bench.refund(payment=payment, amount=100) for _ in range(2))
    with bench.engine.ledger.write() as connection:
        connection.execute(text("UPDATE refund SET due_at = due_at + 5 WHERE id = :id"), {"id": older.id})
        [claimed] = claim(
            connection, "send", "shop", limit=5, now=bench.now, until=bench.now + 10, worker="w", alone=True
        )
    assert claimed.id == younger.id
    bench.wait(60)
    with bench.engine.ledger.write() as connection:
        again = claim(connection, "send", "shop", limit=5, now=bench.now, until=bench.now + 10, worker="v", alone=True)

    assert [each.id for each in again] == [younger.id]


def too_often(**headers):
    return lambda _request: response(429, {}, **headers)


def test_a_provider_that_is_asked_too_often_is_left_in_peace_as_long_as_it_says(bench):
    bench.refund()
    bench.answering(too_often(**{"Retry-After": "20"}))
    bench.turn("send")
    bench.answering(accepted)
    second = bench.refund()
    bench.wait(19)
    bench.turn("send")
    assert len(bench.network.sent) == 1

    bench.wait(2)
    bench.turn("send")
    assert len(bench.network.sent) == 3
    assert bench.read(second.id).state is State.PENDING


def seconds_of_sending(bench, seconds):
    """In which of them something left, with a new refund in each, and one pump that goes on."""
    pump = bench.pump("send", monotonic=lambda: bench.now)
    sent = []

    async def run():
        for second in range(seconds):
            bench.refund()
            before = len(bench.network.sent)
            await pump.turn()
            sent.extend([second] if len(bench.network.sent) > before else [])
            bench.wait(1)
        await pump.stop(10)

    asyncio.run(run())

    return sent


def test_one_that_says_too_often_to_everything_is_asked_less_and_less(bench):
    bench.answering(too_often())

    assert seconds_of_sending(bench, 32) == [0, 1, 3, 7, 15, 31]


def test_one_that_answers_some_is_asked_again_soon(bench):
    answers = itertools.cycle([too_often(), accepted])

    def by_turns(request):
        return next(answers)(request)

    bench.answering(by_turns)

    assert seconds_of_sending(bench, 8) == list(range(8))
