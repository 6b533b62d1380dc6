"""Reconciliation by page: a file is read before it is compared, a run that is not whole never looks clean."""

import re

import pytest

from domain.reconcile import Kind, Listed, Source
from engine import differences, schedule
from engine.differences import Found
from engine.submit import submit
from ledger import journal
from ledger import reconcile as rows

GOOD = "provider_refund_id,handle,payment_id,amount,currency,at\n"
OURS = {"sec-fetch-site": "same-origin"}


def run_id(answer):
    assert answer.status_code == 303, answer.text
    return re.fullmatch(r"/recon/runs/(rc_\w+)", answer.headers["location"])[1]


def uploaded(somebody, text, name="november.csv"):
    return somebody.post("/recon/files", {"account": "smartpay"}, files={"file": (name, text.encode(), "text/csv")})


@pytest.fixture(scope="module")
def engine(staffed):
    return staffed.stack.engine


@pytest.fixture
def found(engine, request):
    """A difference of a kind, as a run of the provider's list has found it."""

    def make(kind, **theirs):
        name = f"{request.node.name}-{kind}"
        job = {
            "reference": name[-64:],
            "account": "smartpay",
            "payment": {"id": name[-64:], "amount": 900, "currency": "JPY"},
        }
        refund = submit(engine, {**job, "amount": 700, "currency": "JPY"}, actor="shop", via="api").refund
        run = schedule.begin(engine, "smartpay", Source.STATUS, started_by="test")
        shown = Listed(provider_refund_id=f"theirs-{name}", payment_id=refund.payment_id, currency="JPY", **theirs)
        ours = None if kind is Kind.MISSING_HERE else refund

        def work(connection):
            [made] = differences.record(connection, engine, run, [Found(kind, ours, shown)])
            run_ended = rows.lease(connection, run.id, "test", engine.clock(), engine.clock() + 9)
            assert rows.finish(connection, run_ended, now=engine.clock())
            return made

        return refund, engine.ledger.run(work)

    return make


def test_a_file_is_shown_as_it_was_read_before_anything_is_compared(engine, visitor):
    oli = visitor()
    answer = uploaded(oli, GOOD + "a,,p,700,JPY,2026-11-01\nb,,p,sieben,JPY,2026-11-01\n,,,5,JPY,2026-11-01\n")
    run = run_id(answer)
    page = oli.get(f"/recon/runs/{run}").text

    assert "waits for your decision" in page
    assert "line 3" not in page
    assert re.search(r">3</th><td>amount: &#39;sieben&#39;", page)
    assert "it names no refund and no payment" in page
    assert "700 JPY" in page
    with engine.ledger.read() as connection:
        assert rows.get(connection, run).compared == 0
        assert rows.running(connection, "smartpay", engine.clock() + 10_000) == []
    assert (
        uploaded(oli, GOOD + "a,,p,700,JPY,2026-11-01\nb,,p,sieben,JPY,2026-11-01\n,,,5,JPY,2026-11-01\n")
        .headers["location"]
        .endswith(run)
    )

    assert oli.post(f"/recon/runs/{run}/put-aside").status_code == 303
    aside = oli.get(f"/recon/runs/{run}").text
    assert "not whole" in aside
    assert "put aside by oli: not compared" in aside
    assert "all equal" not in oli.get("/recon/runs").text
    again = run_id(uploaded(oli, GOOD + "a,,p,700,JPY,2026-11-01\nb,,p,sieben,JPY,2026-11-01\n,,,5,JPY,2026-11-01\n"))
    assert again == run
    assert oli.post(f"/recon/runs/{run}/compare", {"from": "2026-11-01", "to": "2026-11-02"}).status_code == 303
    assert oli.post(f"/recon/runs/{run}/compare").status_code == 409
    with engine.ledger.read() as connection:
        [waiting] = rows.running(connection, "smartpay", engine.clock() + 10_000)
        story = [each["type"] for each in journal.story(connection, f"recon/{run}")]
    assert (waiting.phase, waiting.window_to - waiting.window_from) == ("pair", 2 * 86_400)
    assert story == ["file.uploaded", "file.put_aside", "file.confirmed"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "choose a file"), ("x;y\n1;2\n", "there is no column"), ("PK\x03\x04broken", "there is no column")],
)
def test_what_is_no_settlement_file_is_refused_with_its_reason(visitor, text, words):
    answer = uploaded(visitor(), text, name="../../etc/passwd")

    assert answer.status_code == 422
    assert words in answer.text


def test_a_window_has_an_end_after_its_start_and_31_days_at_most(visitor):
    for window in ({"from": "2026-01-01", "to": "2026-03-01"}, {"from": "2026-03-02", "to": "2026-03-01"}):
        answer = visitor().post("/recon/runs", {"account": "smart2pay", **window})
        assert answer.status_code == 422
        assert "31 days at most" in answer.text
    assert visitor().post("/recon/runs", {"account": "smart2pay", "from": "2026-11-01"}).status_code == 303


def test_both_sides_stand_field_by_field_and_what_differs_is_marked(found, visitor):
    _, difference = found(Kind.AMOUNT_MISMATCH, amount=650)
    page = visitor().get(f"/recon/differences/{difference.id}").text

    assert re.search(r'class="differs"><th scope="row">amount</th><td>700 JPY</td><td>650 JPY</td>', page)
    assert "The provider has another amount" in page
    assert difference.id in visitor().get("/recon").text


def test_what_others_made_is_linked_only_to_a_refund_that_fits(engine, found, visitor):
    refund, difference = found(Kind.MISSING_HERE, amount=700)
    oli, address = visitor(), f"/recon/differences/{difference.id}"
    assert refund.reference in oli.get(address).text
    form = {"way": "link", "reason": "seen in the portal"}
    assert oli.post(f"{address}/resolve", form).status_code == 422
    unknown = oli.post(f"{address}/resolve", {**form, "other": "nothing"})
    assert (unknown.status_code, "there is no refund &#39;nothing&#39;" in unknown.text) == (422, True)
    other, _ = found(Kind.AMOUNT_MISMATCH, amount=1)
    assert "theirs of" in oli.post(f"{address}/resolve", {**form, "other": other.reference}).text
    assert oli.post(f"{address}/resolve", {**form, "refund": refund.id, "reason": " "}).status_code == 422
    assert oli.post(f"{address}/resolve", {**form, "refund": refund.id}).status_code == 303

    assert differences.get(engine, difference.id).state == "closed"
    assert oli.post(f"{address}/resolve", {**form, "refund": refund.id}).status_code == 409


def test_accepting_takes_a_second_person(engine, found, visitor):
    _, difference = found(Kind.AMOUNT_MISMATCH, amount=699)
    form = {"way": "accept", "code": "rounding", "reason": "one yen of rounding"}
    asked = visitor("ove").post(f"/recon/differences/{difference.id}/resolve", form)
    approval = asked.headers["location"].rsplit("/", 1)[1]
    assert visitor("ove").post(f"/approvals/{approval}/approve", {"confirm": "699 JPY"}).status_code == 403
    assert "a second person decides" in visitor().get(f"/recon/differences/{difference.id}").text
    done = visitor("pia").post(f"/approvals/{approval}/approve", {"confirm": "699 JPY"})

    assert done.headers["location"] == f"/recon/differences/{difference.id}"
    assert differences.get(engine, difference.id).closed_by == "pia"


@pytest.mark.parametrize("who", ["vic", "pia", "ada"])
def test_who_may_not_act_changes_nothing(found, engine, visitor, who):
    _, difference = found(Kind.AMOUNT_MISMATCH, amount=2)
    somebody, address = visitor(who), f"/recon/differences/{difference.id}"
    forms = {"reason": "x", "code": "fee", "to": who, "account": "smartpay"}
    for way in ("recheck", "accept", "adopt"):
        assert somebody.post(f"{address}/resolve", {**forms, "way": way}).status_code == 403
    for path in (f"{address}/assign", "/recon/runs", "/recon/runs/rc_x/compare", "/recon/runs/rc_x/put-aside"):
        assert somebody.post(path, forms).status_code == 403, path
    assert uploaded(somebody, GOOD).status_code == 403

    assert differences.get(engine, difference.id).state == "open"


def test_a_provider_that_does_not_answer_changes_nothing_and_it_is_said(engine, found, visitor):
    _, difference = found(Kind.AMOUNT_MISMATCH, amount=3)
    answer = visitor().post(f"/recon/differences/{difference.id}/resolve", {"way": "recheck"})

    assert answer.status_code == 303
    assert differences.get(engine, difference.id).state == "open"


def test_what_is_open_is_counted_everywhere(engine, found, visitor):
    _, difference = found(Kind.DUPLICATE_AT_PROVIDER, amount=700)
    page = visitor().get("/").text
    assert "money that may have moved twice" in page
    assert visitor().post(f"/recon/differences/{difference.id}/assign", {"to": "oli"}).status_code == 303
    assert differences.get(engine, difference.id).owner == "oli"
