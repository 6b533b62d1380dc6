"""A file that moves money, a payment taken for another refund, money of others counted wrongly: none may happen."""

from threading import Barrier, Thread

import httpx
import pytest
from msgspec.structs import replace

from domain.decision import Cause
from domain.errors import Refused
from domain.outcome import NotSent, NotSentReason, Unknown
from domain.reconcile import Kind, Listed, Source, Standing, Verdict
from domain.refund import moved
from domain.state import State
from engine import differences, review, settle
from ledger import external, journal, payments, reconcile, refunds
from ledger.refunds import Change
from sandbox.core import RefundState

CUT = Unknown(reason="cut")


def purse(world, refund):
    with world.engine.ledger.read() as connection:
        return payments.standing(connection, refund.account, refund.payment_ref)


def counted(world):
    """Amount, whether it is counted, and the refund of ours that it is."""
    with world.engine.ledger.read() as connection:
        return [(each["amount"], bool(each["booked"]), each["refund_id"]) for each in external.listed(connection)]


def elsewhere(world, refund, amount):
    """A refund made at the provider; its id there."""
    made = world.network.control(
        "POST", "external", {"provider": refund.account, "payment": refund.payment_id, "amount": amount}
    )
    world.wait(3600)

    return made["refund_id"]


def uploaded(world, tmp_path, account, *cells):
    path = tmp_path / "file.csv"
    path.write_text(f"provider_refund_id,payment_id,amount,currency,at\n{','.join(map(str, cells))}\n")
    settle.upload(world.engine, world.somebody(), account, path)


def lost(world, account, answers=50):
    """A refund whose every answer was lost on the way there."""
    refund = world.submitted(account)
    world.network.trouble = [CUT] * answers
    world.turn("send", account)
    assert world.read(refund.id).state is State.UNKNOWN

    return world.read(refund.id)


def nameless(world):
    """The sandbox shows nothing of ours: what only elimination tells apart."""
    send = world.network.send

    async def stripped(request):
        answer = await send(request)
        if isinstance(answer, httpx.Response) and b'"metadata"' in answer.content:
            return httpx.Response(answer.status_code, json=_without_metadata(answer.json()), request=request)
        return answer

    world.network.send = stripped


def _without_metadata(tree):
    if isinstance(tree, dict):
        return {key: _without_metadata(value) for key, value in tree.items() if key != "metadata"}

    return [_without_metadata(each) for each in tree] if isinstance(tree, list) else tree


def settled_as_returned(world):
    """Paid at the provider, its answer lost, settled by two people without the provider's id."""
    refund = world.submitted("smart_glocal", captured=5000)
    world.network.trouble = [lambda _answer: CUT]
    world.turn("send", "smart_glocal")
    nameless(world)
    with world.engine.ledger.write() as connection:
        stands = refunds.get(connection, refund.id)
        after = moved(stands, State.REVIEW, world.now, due_at=None, cause=Cause.HANDLE_EXPIRED)
        refunds.apply(
            connection, [Change(before=stands, after=after, type="refund.review", actor="test", fenced=False)]
        )
    oli, pia = world.people()
    asked = review.ask_settle(world.engine, oli, refund.id, outcome="returned", reason="portal", evidence=b"x")
    review.approve(world.engine, pia, asked.approval_id)
    world.wait(7200)

    return oli, world.read(refund.id)


def test_a_list_run_makes_no_evidence_of_what_a_file_has_said(world, tmp_path):
    victim, refund = world.paid("smartpay", captured=5000), lost(world, "smartpay")
    theirs = elsewhere(world, victim, 3000)
    uploaded(world, tmp_path, "smartpay", theirs, refund.payment_id, refund.amount, "JPY", "2020-01-15")
    world.run("smartpay", Source.LIST)
    [found] = world.differences(kinds=(Kind.MISSING_HERE,))
    assert found.run_id != found.last_run_id

    with pytest.raises(Refused, match="another movement"):
        differences.link(world.engine, world.somebody(), found.id, refund.id, reason="forged")
    assert world.read(refund.id).state is not State.SUCCEEDED
    assert purse(world, victim).refunded == 4000
    assert counted(world) == [(3000, True, None)]


def test_linking_by_a_file_moves_nothing_and_remembers_nothing(world, tmp_path):
    refund = lost(world, "smartpay")
    uploaded(world, tmp_path, "smartpay", "made-up", refund.payment_id, refund.amount, "JPY", "2020-01-15")
    [found] = world.differences(kinds=(Kind.MISSING_HERE,))
    done = differences.link(world.engine, world.somebody(), found.id, refund.id, reason="forged")

    assert (done.state, done.resolution) == (Standing.CLOSED, "linked")
    assert world.read(refund.id) == refund
    assert counted(world) == []


def test_a_cancelled_refund_takes_no_other_refunds_payment(world):
    cancelled = world.submitted("smart_glocal", captured=5000)
    world.network.trouble = [NotSent(reason=NotSentReason.CONNECTION, detail="refused")]
    world.turn("send", "smart_glocal")
    review.cancel(world.engine, world.somebody(), cancelled.id, reason="wrong reference")
    payment = {"id": cancelled.payment_id, "amount": 5000, "currency": "EUR"}
    paid = world.refund("smart_glocal", payment=payment, amount=1000, currency="EUR", reference="second")
    nameless(world)
    world.network.trouble = [lambda _answer: CUT]
    world.now += 5
    world.turn("send", "smart_glocal")
    world.now += 30
    world.run("smart_glocal")

    assert world.read(cancelled.id).state is State.CANCELLED
    assert world.work("smart_glocal", world.read(paid.id)).state is State.SUCCEEDED
    assert purse(world, paid).refunded == 1000


def test_what_two_people_settled_without_an_id_is_shown_and_not_counted_again(world):
    oli, refund = settled_as_returned(world)
    assert purse(world, refund).refunded == 1000
    world.run("smart_glocal", Source.LIST)
    [found] = world.differences()

    assert (found.kind, found.resolution) == (Kind.DUPLICATE_AT_PROVIDER, None)
    assert refund.id in found.note
    assert (purse(world, refund).refunded, counted(world)) == (1000, [])

    done = differences.link(world.engine, oli, found.id, refund.id, reason="it is that one")
    world.run("smart_glocal", Source.LIST)
    assert (done.state, done.refund_id) == (Standing.CLOSED, refund.id)
    assert counted(world) == [(1000, False, refund.id)]
    assert purse(world, refund).refunded == 1000
    assert [each.state for each in world.differences()] == [Standing.CLOSED]
    with world.engine.ledger.read() as connection:
        assert journal.verify(connection)[1] == []


def test_one_that_is_linked_explains_no_second_one(world):
    oli, refund = settled_as_returned(world)
    world.run("smart_glocal", Source.LIST)
    [found] = world.differences()
    differences.link(world.engine, oli, found.id, refund.id, reason="it is that one")
    elsewhere(world, refund, 1000)
    world.run("smart_glocal", Source.LIST)

    assert [each.kind for each in world.differences(states=("open",))] == [Kind.DUPLICATE_AT_PROVIDER]
    assert purse(world, refund).refunded == 2000


def test_what_may_be_a_settled_refund_is_counted_when_a_person_says_that_it_is_not(world):
    oli, refund = settled_as_returned(world)
    world.run("smart_glocal", Source.LIST)
    [found] = world.differences()
    differences.book(world.engine, oli, found.id, reason="the portal shows both")

    assert purse(world, refund).refunded == 2000


def test_what_has_not_happened_is_not_counted_and_what_came_to_nothing_is_taken_out(world):
    refund = world.paid("smart2pay", captured=5000)
    number = elsewhere(world, refund, 3000)
    record = next(each for each in world.network.app.state.world.made["smart2pay"] if str(each.id) == str(number))

    def listed_as(state):
        record.state = state
        world.wait(3600)
        world.run("smart2pay", Source.LIST)
        return purse(world, refund).refunded

    assert listed_as(RefundState.PENDING) == 1000
    assert world.differences() == []
    assert listed_as(RefundState.SUCCEEDED) == 4000
    assert [(each.kind, each.resolution) for each in world.differences()] == [(Kind.MISSING_HERE, "external")]
    assert listed_as(RefundState.DECLINED) == 1000


def test_what_was_said_of_a_handle_that_was_given_up_is_not_adopted(world):
    refund = lost(world, "smartpay")
    theirs = Listed(handle=refund.handle, amount=refund.amount, currency="JPY", verdict=Verdict.FAILED, status="failed")
    run = world.run("smartpay")
    with world.engine.ledger.write() as connection:
        differences.record(
            connection, world.engine, run, [differences.Found(Kind.STATE_MISMATCH, world.read(refund.id), theirs)]
        )
        stands = refunds.get(connection, refund.id)
        after = replace(stands, handle="a-new-handle", handle_no=stands.handle_no + 1)
        refunds.apply(connection, [Change(before=stands, after=after, type="refund.new", actor="test", fenced=False)])
    [found] = world.differences(kinds=(Kind.STATE_MISMATCH,))
    before = world.read(refund.id)

    with pytest.raises(Refused, match="another handle"):
        differences.adopt(world.engine, world.somebody(), found.id, reason="the provider said so")
    assert world.read(refund.id) == before


def test_of_two_anchors_at_once_one_does_nothing(world):
    world.paid("smartpay")
    start, cast, failed = Barrier(2), [], []

    def anchor():
        start.wait()
        try:
            cast.append(world.engine.ledger.run(lambda connection: journal.cast_anchor(connection, world.now)))
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(error)

    for _ in range(5):
        world.paid("smartpay")
        both = [Thread(target=anchor) for _ in range(2)]
        [each.start() for each in both]
        [each.join() for each in both]

    assert failed == []
    assert sum(count > 0 for count in cast) == 5
    with world.engine.ledger.read() as connection:
        assert journal.verify(connection)[1] == []


def test_what_ends_by_itself_and_has_ended_already_is_left_alone(world, monkeypatch):
    refund = world.paid("smartpay")
    records = world.network.app.state.world.refunds
    record = records.pop(("smartpay", refund.provider_refund_id))
    run = world.run("smartpay")
    records["smartpay", refund.provider_refund_id] = record
    with world.engine.ledger.read() as connection:
        stale = reconcile.open_about(connection, [refund.id], (Kind.MISSING_AT_PROVIDER,))
    assert len(stale) == 1
    world.run("smartpay")
    monkeypatch.setattr(reconcile, "open_about", lambda *_: stale)
    with world.engine.ledger.write() as connection:
        assert differences.close_agreeing(connection, world.engine, run.source, [refund]) == 0

    assert [each.state for each in world.differences()] == [Standing.CLOSED]
