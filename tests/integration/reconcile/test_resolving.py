"""How a difference may end: only in the ways of its kind, by those who may, and by two where it is accepted."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import msgspec
import pytest
from sqlalchemy import text

from domain.decision import Cause
from domain.errors import Conflict, Forbidden, Refused
from domain.reconcile import WAYS, Kind, Source, Standing, Way
from domain.refund import moved
from domain.state import State
from engine import books, differences, reconcile, review, settle
from engine.people import Role, create, recognise
from ledger import external, refunds
from ledger import reconcile as rows
from ledger.refunds import Change
from sandbox.core import RefundState

NAMES = "provider_refund_id,handle,payment_id,amount,currency,at"


def uploaded(world, tmp_path, *lines, name="file.csv"):
    path = tmp_path / name
    path.write_text("\n".join([NAMES, *lines]) + "\n")
    settle.upload(world.engine, world.somebody(), "smartpay", path)


def mismatch(world, tmp_path):
    """A difference of amounts."""
    refund = world.paid("smartpay")
    uploaded(world, tmp_path, f"{refund.provider_refund_id},,,999,JPY,2027-01-15")
    [found] = world.differences(kinds=(Kind.AMOUNT_MISMATCH,))

    return found


def stranger(world, tmp_path, payment="nobody", amount=700):
    uploaded(world, tmp_path, f"made-up,,{payment},{amount},JPY,2027-01-15")
    [found] = world.differences(kinds=(Kind.MISSING_HERE,))

    return found


def resolve(world, actor, difference_id, way):
    match way:
        case Way.ADOPT:
            return differences.adopt(world.engine, actor, difference_id, reason="why")
        case Way.LINK:
            return differences.link(world.engine, actor, difference_id, "rf_x", reason="why")
        case Way.RECHECK:
            return asyncio.run(reconcile.recheck(world.engine, actor, difference_id, world.network))
        case Way.ACCEPT:
            return differences.ask_accept(world.engine, actor, difference_id, code="fee", reason="why")
        case Way.DUPLICATE:
            return differences.report_duplicate(world.engine, actor, difference_id, reason="why")
        case Way.EXTERNAL:
            return differences.book(world.engine, actor, difference_id, reason="why")
        case _:
            return differences.acknowledge(world.engine, actor, difference_id, reason="why")


def test_every_kind_has_a_way_out():
    assert set(WAYS) == set(Kind)
    assert all(Way.ACCEPT in ways for ways in WAYS.values())


@pytest.mark.parametrize("way", sorted(set(Way) - WAYS[Kind.AMOUNT_MISMATCH]))
def test_other_ways_than_those_of_its_kind_are_refused(world, tmp_path, way):
    found = mismatch(world, tmp_path)

    with pytest.raises(Refused, match="can be resolved by accept, recheck"):
        resolve(world, world.somebody(), found.id, way)
    assert world.difference(found.id).state is Standing.OPEN


def test_accepting_takes_two_people_and_never_the_same_one_twice(world, tmp_path):
    found = mismatch(world, tmp_path)
    oli, pia = world.people()
    request = differences.ask_accept(world.engine, oli, found.id, code="fee", reason="the provider keeps one")

    assert world.difference(found.id).state is Standing.OPEN
    with pytest.raises(Forbidden, match="another approver"):
        review.approve(world.engine, oli, request)
    with pytest.raises(Conflict, match="open request"):
        differences.ask_accept(world.engine, oli, found.id, code="fee", reason="again")
    done = review.approve(world.engine, pia, request)
    assert (done.state, done.reason_code, done.closed_by) == (Standing.CLOSED, "fee", "pia")
    with pytest.raises(Conflict):
        review.approve(world.engine, pia, request)


def test_a_request_that_was_denied_leaves_the_difference_open(world, tmp_path):
    found = mismatch(world, tmp_path)
    oli, pia = world.people()
    request = differences.ask_accept(world.engine, oli, found.id, code="rounding", reason="small")
    review.deny(world.engine, pia, request, reason="it is no rounding")

    assert world.difference(found.id).state is Standing.OPEN
    assert differences.ask_accept(world.engine, oli, found.id, code="fee", reason="a fee then") != request


def test_what_changed_since_it_was_asked_about_is_not_accepted(world, tmp_path):
    found = stranger(world, tmp_path)
    oli, pia = world.people()
    request = differences.ask_accept(world.engine, oli, found.id, code="write_off", reason="small")
    differences.report_duplicate(world.engine, oli, found.id, reason="it is ours")

    with pytest.raises(Conflict, match="changed since"):
        review.approve(world.engine, pia, request)


def test_who_only_looks_resolves_nothing(world, tmp_path):
    found = mismatch(world, tmp_path)
    ada = world.somebody()
    create(world.engine, ada, "ada", frozenset({Role.ADMIN}))
    create(world.engine, recognise(world.engine, "ada"), "vic", frozenset({Role.VIEWER}))
    vic = recognise(world.engine, "vic")

    for way in WAYS[Kind.AMOUNT_MISMATCH]:
        with pytest.raises(Forbidden):
            resolve(world, vic, found.id, way)


def test_a_file_moves_no_state(world, tmp_path):
    """Whoever uploads it may have written it: a refund that fails by a forged line would be paid again."""
    refund = world.paid("smartpay")
    world.engine.accounts["smartpay"].notation.verdicts.update({"failed": "failed"})
    path = tmp_path / "forged.csv"
    path.write_text(f"handle,amount,currency,status\n{refund.handle},1000,JPY,failed\n")
    settle.upload(world.engine, world.somebody(), "smartpay", path)
    [found] = world.differences()

    assert found.kind is Kind.STATE_MISMATCH
    with pytest.raises(Refused, match="a file moves no state"):
        resolve(world, world.somebody(), found.id, Way.ADOPT)
    assert world.read(refund.id).state is State.SUCCEEDED
    world.engine.accounts["smartpay"].notation.verdicts.clear()


def test_asking_again_ends_what_agrees_now(world):
    refund = world.paid("smartpay")
    refunds = world.network.app.state.world.refunds
    record = refunds.pop(("smartpay", refund.provider_refund_id))
    world.run("smartpay")
    [found] = world.differences()
    assert resolve(world, world.somebody(), found.id, Way.RECHECK).state is Standing.OPEN
    refunds["smartpay", record.id] = record
    done = resolve(world, world.somebody(), found.id, Way.RECHECK)

    assert (done.state, done.closed_by, done.resolution) == (Standing.CLOSED, "system", "rechecked")


def test_what_others_moved_is_booked_against_its_payment(world, tmp_path):
    refund = world.paid("smartpay", captured=5000)
    found = stranger(world, tmp_path, refund.payment_id)
    done = resolve(world, world.somebody(), found.id, Way.EXTERNAL)
    with world.engine.ledger.read() as connection:
        [booked] = external.listed(connection)

    assert (done.state, done.resolution) == (Standing.CLOSED, "external")
    assert (booked["amount"], booked["booked"]) == (700, True)
    assert books.check(world.engine) == []


def test_linking_takes_a_refund_that_fits(world, tmp_path):
    refund = world.submitted("smart2pay")
    world.network.control("PUT", "faults", [{"provider": "smart2pay", "call": "refund", "fault": "stuck", "first": 1}])
    world.turn("send", "smart2pay")
    pending = world.read(refund.id)
    found = stranger(world, tmp_path, pending.payment_id, amount=1000)
    other = world.paid("smartpay", captured=5000)

    with pytest.raises(Refused, match="of payment"):
        differences.link(world.engine, world.somebody(), found.id, other.id, reason="it is that one")


def test_linking_ends_the_difference_and_takes_the_booking_out(world, tmp_path):
    refund = world.paid("smartpay", captured=5000)
    with world.engine.ledger.write() as connection:
        connection.exec_driver_sql("UPDATE refund SET provider_refund_id = NULL")
    uploaded(world, tmp_path, f"theirs,,{refund.payment_id},1000,JPY,2026-01-01")
    [found] = world.differences(kinds=(Kind.MISSING_HERE,))
    done = differences.link(world.engine, world.somebody(), found.id, refund.id, reason="booked late")

    assert (done.state, done.refund_id, done.resolution) == (Standing.CLOSED, refund.id, "linked")


@pytest.fixture
def nameless(world):
    """What a list shows that we do not know, and two refunds that it may be, given up without an id."""
    paid = world.paid("smartpay", captured=5000)
    made = {"provider": "smartpay", "payment": paid.payment_id, "amount": 700}
    world.network.control("POST", "external", made)
    world.run("smartpay", Source.LIST)
    [found] = world.differences(kinds=(Kind.MISSING_HERE,))
    payment = {"id": paid.payment_id, "order_id": paid.order_id, "amount": 5000, "currency": "JPY"}
    waiting = [world.refund("smartpay", payment=payment, amount=700, currency="JPY") for _ in range(2)]

    return found, [given_up(world, each) for each in waiting]


def given_up(world, refund):
    after = moved(refund, State.REVIEW, world.now, due_at=None, ambiguous=True, cause=Cause.HANDLE_EXPIRED)
    step = Change(before=refund, after=after, type="refund.review", actor="w", fenced=False)
    world.engine.ledger.run(lambda connection: refunds.apply(connection, [step]))

    return world.read(refund.id)


def test_of_two_who_link_at_once_one_is_told_so(world, nameless, monkeypatch):
    found, waiting = nameless
    both, alone = Barrier(2), differences._alone

    def at_once(*arguments):
        both.wait(10)
        return alone(*arguments)

    monkeypatch.setattr(differences, "_alone", at_once)

    def link(refund):
        try:
            return differences.link(world.engine, world.somebody(), found.id, refund.id, reason="that one").state
        except Conflict as error:
            return error.code

    with ThreadPoolExecutor(2) as people:
        said = sorted(people.map(link, waiting))
    theirs = found.listed.provider_refund_id
    linked = [each for each in waiting if world.read(each.id).provider_refund_id == theirs]

    assert said == [Standing.CLOSED, "state-conflict"]
    assert [each.id for each in linked] == [world.difference(found.id).refund_id]
    assert [world.read(each.id).state for each in linked] == [State.SUCCEEDED]
    assert books.check(world.engine) == []


@pytest.mark.parametrize("way", [Way.LINK, Way.ADOPT])
def test_what_has_become_anothers_is_neither_linked_nor_adopted(world, nameless, way):
    found, [ours, other] = nameless
    kind = {Way.LINK: Kind.MISSING_HERE, Way.ADOPT: Kind.STATE_MISMATCH}[way]
    theirs = {"id": other.id, "theirs": found.listed.provider_refund_id}
    with world.engine.ledger.write() as connection:
        connection.execute(text("UPDATE refund SET provider_refund_id = :theirs WHERE id = :id"), theirs)
        values = {"kind": kind, "ours": msgspec.json.encode(differences.ours(ours)).decode(), "refund_id": ours.id}
        rows.change(connection, found, **values)

    chosen = {"refund_id": ours.id} if way is Way.LINK else {}
    with pytest.raises(Conflict, match="another refund"):
        getattr(differences, way)(world.engine, world.somebody(), found.id, **chosen, reason="it says so")
    assert world.difference(found.id).state is Standing.OPEN
    assert world.read(ours.id) == ours


def test_a_duplicate_stays_in_somebodys_hands_and_on_the_refunds_record(world):
    refund = world.paid("smartpay", captured=5000)
    world.network.control("POST", "external", {"provider": "smartpay", "payment": refund.payment_id, "amount": 1000})
    world.run("smartpay", Source.LIST)
    [found] = world.differences()
    done = resolve(world, world.somebody(), found.id, Way.DUPLICATE)

    assert (done.state, done.owner) == (Standing.EXPLAINED, "system")
    with pytest.raises(Refused, match="not by acknowledge"):
        resolve(world, world.somebody(), found.id, Way.ACKNOWLEDGE)
    assert world.read(refund.id).state is State.SUCCEEDED


def test_what_the_ledger_has_followed_is_acknowledged_and_nothing_else_is(world):
    refund = world.submitted("smart2pay")
    world.network.control(
        "PUT", "faults", [{"provider": "smart2pay", "call": "refund", "fault": "decline", "first": 1}]
    )
    world.work("smart2pay", refund)
    inside = world.network.app.state.world
    record = next(each for each in inside.made["smart2pay"] if each.handle == refund.handle)
    record.state = RefundState.SUCCEEDED
    inside._move_money(record, world.now)
    world.run("smart2pay")
    [found] = world.differences()

    with pytest.raises(Refused, match="a reason"):
        differences.acknowledge(world.engine, world.somebody(), found.id, reason=" ")
    assert resolve(world, world.somebody(), found.id, Way.ACKNOWLEDGE).state is Standing.CLOSED
    with pytest.raises(Conflict, match="has closed it"):
        resolve(world, world.somebody(), found.id, Way.ACKNOWLEDGE)
