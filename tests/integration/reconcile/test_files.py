"""Settlement files: what is planted is found, nothing else is, and nothing in a file can do harm."""

import itertools
import tempfile
import zipfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import openpyxl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from domain.errors import Conflict, Forbidden, Refused
from domain.reconcile import Kind
from engine import settle
from ledger import reconcile as rows
from tests.integration.reconcile.conftest import World

DAY = 86_400.0
#: What a planted difference is found as.
FOUND = {
    "missing": Kind.MISSING_AT_PROVIDER,
    "amount": Kind.AMOUNT_MISMATCH,
    "currency": Kind.CURRENCY_MISMATCH,
    "state": Kind.STATE_MISMATCH,
    "unknown": Kind.MISSING_HERE,
    "duplicate": Kind.DUPLICATE_AT_PROVIDER,
}
SETTLEMENT = {"verdicts": {"paid": "succeeded", "failed": "failed"}, "days": 0}
NAMES = "provider_refund_id,handle,payment_id,amount,currency,status,at"


@pytest.fixture
def world(ledger_url):
    bench = World(ledger_url, smartpay={"settlement": SETTLEMENT}, smart2pay={"settlement": SETTLEMENT})
    yield bench
    bench.close()


def file_of(world, account="smartpay", **planted):
    asked = "&".join(f"{name}={count}" for name, count in {"account": account, **planted}.items())

    return world.network.control("GET", f"settlement?{asked}")


def uploaded(world, path, account="smartpay", **window):
    return settle.upload(world.engine, world.somebody(), account, path, **window)


def written(tmp_path, text, name="file.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))

    return path


def line(refund, **changes):
    told = {
        "provider_refund_id": refund.provider_refund_id,
        "handle": refund.handle,
        "payment_id": refund.payment_id,
        "amount": refund.amount,
        "currency": refund.currency,
        "status": "paid",
        "at": "2027-01-15",
        **changes,
    }

    return ",".join(str(told[name] if told[name] is not None else "") for name in NAMES.split(","))


def expected(world, planted, account):
    """The differences that were planted, by our refunds."""
    with world.engine.ledger.read() as connection:
        found = connection.exec_driver_sql(f"SELECT handle, id FROM refund WHERE account = '{account}'").all()
        ours = dict(found)

    return Counter(
        (FOUND[each["kind"]], None if each["kind"] == "unknown" else ours[each["handle"]]) for each in planted
    )


@pytest.mark.parametrize("account", ["smartpay", "smart2pay"])
def test_every_kind_that_is_planted_is_found_and_none_is_invented(world, tmp_path, account):
    for _ in range(12):
        world.paid(account)
        world.wait(60)
    made = file_of(world, account, seed=3, missing=1, amount=2, currency=1, state=1, unknown=2, duplicate=1)
    day = world.now - world.now % DAY
    run = uploaded(world, written(tmp_path, made["csv"]), account, window_from=day - DAY, window_to=day + DAY)

    assert run.state == "complete"
    assert Counter(world.kinds()) == expected(world, made["planted"], account)
    assert run.differing == len(made["planted"]) == 8


HISTORY = st.lists(st.sampled_from(["paid", "declined", "taken back", "a while"]), min_size=1, max_size=7)
PLANTED = st.fixed_dictionaries({}, optional={name: st.integers(1, 2) for name in FOUND})


# An example is a history of its own with an engine of its own: few of them, and a failing one is told as it is.
@settings(max_examples=6, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(history=HISTORY, planted=PLANTED, seed=st.integers(0, 99))
def test_whatever_happened_the_file_shows_exactly_what_was_planted(migrated, history, planted, seed):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        path.write_bytes(migrated)
        world = World(f"sqlite:///{path}", smart2pay={"settlement": SETTLEMENT})
        try:
            for what in history:
                _happens(world, what)
            made = file_of(world, "smart2pay", seed=seed, **planted)
            file = written(Path(folder), made["csv"])
            day = world.now - world.now % DAY
            run = uploaded(world, file, "smart2pay", window_from=day - 9 * DAY, window_to=day + DAY)

            assert run.state == "complete"
            assert Counter(world.kinds()) == expected(world, made["planted"], "smart2pay")
        finally:
            world.close()


def _happens(world, what):
    if what == "a while":
        world.wait(DAY)
        return
    fault = [{"provider": "smart2pay", "call": "refund", "fault": "decline", "first": 1}]
    world.network.control("PUT", "faults", fault if what == "declined" else [])
    refund = world.work("smart2pay", world.submitted("smart2pay"))
    if what == "taken back":
        inside = world.network.app.state.world
        record = next(each for each in inside.made["smart2pay"] if each.handle == refund.handle)
        inside._flip(record, world.now)
        world.run("smart2pay")
        [found] = world.differences(refund_id=refund.id)
        from engine import differences

        differences.acknowledge(world.engine, world.somebody(), found.id, reason="seen")


def test_without_ids_payment_amount_and_day_say_which_refund_it_is(world, tmp_path):
    first = world.paid("smartpay", captured=9000)
    payment = {"id": first.payment_id, "amount": 9000, "currency": "JPY"}
    second = world.work("smartpay", world.refund("smartpay", payment=payment, amount=1000, currency="JPY"))
    other = world.paid("smartpay")
    text = "payment_id,amount,currency,status,at\n" + "".join(
        f"{each.payment_id},1000,JPY,paid,2027-01-15\n" for each in (first, second, other)
    )
    run = uploaded(world, written(tmp_path, text))

    assert (run.state, run.compared, run.matched, run.differing) == ("complete", 3, 3, 0)
    assert world.differences() == []


def test_the_reconciliation_id_is_enough(world, tmp_path):
    refund = world.paid("jpm_smartpay")
    assert refund.reconciliation_id
    text = f"reconciliation_id,amount,currency\n{refund.reconciliation_id},10.00,EUR\n"
    run = uploaded(world, written(tmp_path, text), "jpm_smartpay")

    assert (run.compared, run.matched) == (1, 1)


def test_bad_lines_are_told_with_their_numbers_and_the_good_ones_kept(world, tmp_path):
    refund = world.paid("smartpay")
    bad = [
        line(refund, amount="1.000.1"),
        line(refund, amount="10.5"),
        line(refund, currency="YEN"),
        line(refund, at="yesterday"),
        line(refund, status="maybe"),
        line(refund, amount="1e3"),
        line(refund, amount="99999999999999999999"),
        ",,,1000,JPY,paid,",
    ]
    run = uploaded(world, written(tmp_path, "\n".join([NAMES, *bad, line(refund)]) + "\n"))
    with world.engine.ledger.read() as connection:
        faults = rows.bad_lines(connection, run.id)

    assert [no for no, _ in faults] == list(range(2, 10))
    assert [fault.partition(":")[0] for _, fault in faults[:7]] == [
        *("amount", "amount", "currency", "at", "status", "amount", "amount"),
    ]
    assert (run.state, run.compared, run.bad) == ("partial", 1, 8)


def test_the_same_content_is_taken_once_whatever_its_name(world, tmp_path):
    refund = world.paid("smartpay")
    text = f"{NAMES}\n{line(refund)}\n"
    uploaded(world, written(tmp_path, text))

    with pytest.raises(Conflict, match="compared before"):
        uploaded(world, written(tmp_path, text, "another.csv"))


def test_a_later_file_that_shows_it_ends_what_was_missing(world, tmp_path):
    refund, other = world.paid("smartpay"), world.paid("smartpay")
    uploaded(world, written(tmp_path, f"{NAMES}\n{line(other)}\n"))
    assert world.kinds() == [(Kind.MISSING_AT_PROVIDER, refund.id)]
    uploaded(world, written(tmp_path, f"{NAMES}\n{line(refund, at='2027-01-16')}\n", "late.csv"))

    assert world.kinds() == []


@pytest.mark.parametrize(
    ("encoding", "delimiter"),
    [("utf-8", ","), ("utf-8-sig", ";"), ("utf-16", "\t"), ("utf-16", ","), ("utf-8", "|")],
)
def test_marks_of_encodings_and_usual_delimiters_are_understood(world, tmp_path, encoding, delimiter):
    refund = world.paid("smartpay")
    text = f"{NAMES}\r\n{line(refund)}\r\n".replace(",", delimiter)
    run = uploaded(world, written(tmp_path, text, encoding=encoding))

    assert (run.state, run.matched) == ("complete", 1)


def test_what_cannot_be_read_in_the_encoding_is_a_bad_line_and_not_a_bad_file(world, tmp_path):
    refund = world.paid("smartpay")
    content = f"{NAMES}\n".encode() + b"\xff\xfe\x00," + line(refund).encode() + f"\n{line(refund)}\n".encode()
    path = tmp_path / "odd.csv"
    path.write_bytes(content)
    run = uploaded(world, path)

    assert (run.bad, run.matched) == (1, 1)


def test_a_workbook_is_read_like_csv(world, tmp_path):
    refund = world.paid("smartpay")
    book = openpyxl.Workbook()
    for cells in (NAMES, line(refund)):
        book.active.append([int(cell) if cell == "1000" else cell for cell in cells.split(",")])
    book.save(tmp_path / "file.xlsx")
    run = uploaded(world, tmp_path / "file.xlsx")

    assert (run.state, run.matched, run.differing) == ("complete", 1, 0)


def test_a_workbook_that_would_burst_is_refused(world, tmp_path):
    path = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"0" * 20_000_000)

    with pytest.raises(Refused, match="unpacks to"):
        uploaded(world, path)


def test_a_workbook_with_entities_is_refused(world, tmp_path):
    path, book = tmp_path / "entities.xlsx", openpyxl.Workbook()
    book.save(tmp_path / "plain.xlsx")
    bomb = '<!DOCTYPE w [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><workbook>&b;</workbook>'
    with zipfile.ZipFile(tmp_path / "plain.xlsx") as plain, zipfile.ZipFile(path, "w") as archive:
        for name in plain.namelist():
            archive.writestr(name, bomb if name == "xl/workbook.xml" else plain.read(name))

    with pytest.raises(Refused, match="no workbook"):
        uploaded(world, path)


def test_a_file_without_the_columns_that_are_needed_says_which(world, tmp_path):
    with pytest.raises(Refused, match="no column 'amount'"):
        uploaded(world, written(tmp_path, "handle,currency\nx,EUR\n"))
    with pytest.raises(Refused, match="name a refund or a payment"):
        uploaded(world, written(tmp_path, "amount,currency\n1,EUR\n"))


@contextmanager
def killed_at(monkeypatch, step, number):
    """The process ends in the so-manyth call of a step."""
    done, calls = getattr(settle, step), itertools.count(1)

    def killed(*arguments):
        if next(calls) == number:
            raise KeyboardInterrupt
        done(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(settle, step, killed)
        with pytest.raises(KeyboardInterrupt):
            yield


def test_a_file_whose_reading_was_killed_is_carried_on_with_by_the_same_command(world, tmp_path, monkeypatch):
    refunds = [world.paid("smartpay") for _ in range(5)]
    path = written(tmp_path, "\n".join([NAMES, *map(line, refunds)]) + "\n")
    monkeypatch.setattr(settle, "LOAD", 2)
    with killed_at(monkeypatch, "_keep", 2):
        uploaded(world, path)
    world.another_process()
    with pytest.raises(Conflict, match="just now"):
        uploaded(world, path)
    world.wait(settle.LEASE)
    run = uploaded(world, path)

    assert (run.state, run.compared, run.matched, run.differing) == ("complete", 5, 5, 0)


def test_a_comparison_that_was_killed_is_carried_on_with_by_a_worker(world, tmp_path, monkeypatch):
    refunds = [world.paid("smartpay") for _ in range(5)]
    told = [line(refunds[0], amount=999), *map(line, refunds[1:])]
    path = written(tmp_path, "\n".join([NAMES, *told]) + "\n")
    monkeypatch.setattr(settle, "STRETCH", 2)
    with killed_at(monkeypatch, "_compare", 3):
        uploaded(world, path)
    world.another_process()
    world.wait(settle.LEASE)
    with world.engine.ledger.read() as connection:
        [left] = rows.runs(connection, limit=1)
    run = world.go_on("smartpay", left.id)

    assert (run.state, run.compared, run.matched, run.differing) == ("complete", 5, 4, 1)
    assert world.kinds() == [(Kind.AMOUNT_MISMATCH, refunds[0].id)]


def test_accounts_do_not_see_each_others_refunds(world, tmp_path):
    refund = world.paid("smartpay")
    run = uploaded(world, written(tmp_path, f"{NAMES}\n{line(refund)}\n"), "smart2pay")

    assert (run.matched, run.differing) == (0, 1)
    assert [each.kind for each in world.differences()] == [Kind.MISSING_HERE]


def test_a_file_that_waits_for_a_decision_counts_for_nothing(world, tmp_path):
    """Its lines are there, and another file misses what only they show; once it is confirmed they count."""
    first, second = world.paid("smartpay"), world.paid("smartpay")
    day = world.now - world.now % DAY
    window = {"window_from": day - DAY, "window_to": day + DAY}
    waiting = written(tmp_path, f"{NAMES}\n{line(second)}\n", name="waiting.csv")
    run = settle.read(world.engine, world.somebody(), "smartpay", waiting, **window)
    assert (run.phase, run.state, run.compared, run.leased_by) == (rows.READ, "running", 0, None)
    world.go_on("smartpay", run.id)
    assert world.differences() == []
    uploaded(world, written(tmp_path, f"{NAMES}\n{line(first)}\n", name="other.csv"), **window)
    assert world.kinds() == [(Kind.MISSING_AT_PROVIDER, second.id)]

    settle.confirm(world.engine, world.somebody(), run.id)
    ended = world.go_on("smartpay", run.id)
    assert (ended.state, ended.compared, ended.differing) == ("complete", 1, 0)
    with pytest.raises(Conflict, match="does not wait"):
        settle.confirm(world.engine, world.somebody(), run.id)


def test_a_run_that_is_not_whole_is_none_the_better_for_another_that_was(world, tmp_path):
    refund = world.paid("smartpay")
    whole = uploaded(world, written(tmp_path, f"{NAMES}\n{line(refund)}\n", name="whole.csv"))
    broken = uploaded(world, written(tmp_path, f"{NAMES}\n{line(refund, amount='?')}\n", name="broken.csv"))

    assert (whole.state, broken.state, broken.bad) == ("complete", "partial", 1)


def test_a_file_that_was_put_aside_is_never_clean_and_may_be_read_again(world, tmp_path):
    refund = world.paid("smartpay")
    path = written(tmp_path, f"{NAMES}\n{line(refund)}\n")
    run = settle.read(world.engine, world.somebody(), "smartpay", path)
    aside = settle.put_aside(world.engine, world.somebody(), run.id)
    assert (aside.state, aside.compared) == ("partial", 0)
    with pytest.raises(Conflict, match="does not wait"):
        settle.put_aside(world.engine, world.somebody(), run.id)
    world.go_on("smartpay", run.id)
    assert world.differences() == []

    again = uploaded(world, path)
    assert (again.id, again.state, again.compared) == (run.id, "complete", 1)
    with pytest.raises(Conflict, match="compared before"):
        settle.read(world.engine, world.somebody(), "smartpay", path)


def test_only_an_operator_reads_confirms_and_puts_aside(world, tmp_path):
    refund = world.paid("smartpay")
    path = written(tmp_path, f"{NAMES}\n{line(refund)}\n")
    run = settle.read(world.engine, world.somebody(), "smartpay", path)
    _, pia = world.people()

    for act in (settle.confirm, settle.put_aside):
        with pytest.raises(Forbidden):
            act(world.engine, pia, run.id)
    with pytest.raises(Forbidden):
        settle.read(world.engine, pia, "smartpay", path)
