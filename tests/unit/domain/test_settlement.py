import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import to_major
from domain.reconcile import Verdict
from domain.settlement import BadLine, Notation

HEADINGS = ["handle", "amount", "currency", "at"]


def amount(written, currency="EUR", **notation):
    read = Notation(**notation).reader(HEADINGS)

    return read(["h", written, currency, ""]).amount


@pytest.mark.parametrize(
    ("written", "notation", "minor"),
    [
        ("12.50", {}, 1250),
        ("-12.50", {}, 1250),
        ("12.50-", {}, 1250),
        ("12,50", {"decimal": ","}, 1250),
        ("1.234,56", {"decimal": ",", "thousands": "."}, 123456),
        ("1 234.56", {}, 123456),
        ("1'234.5", {"thousands": "'"}, 123450),
        ("1250", {"minor": True}, 1250),
    ],
)
def test_amounts_are_read_in_the_notation_of_the_file(written, notation, minor):
    assert amount(written, **notation) == minor


@pytest.mark.parametrize(
    "written", ["12,50", "12.505", "1e3", "", "-", "--1", "-1-", "0", "0.00", "NaN", "١٢", "1_0", "0x1"]
)
def test_what_is_written_otherwise_is_a_bad_line(written):
    with pytest.raises(BadLine, match=r"^amount: "):
        amount(written)


def test_the_minor_unit_is_that_of_the_currency():
    assert amount("1000", "JPY") == 1000
    assert amount("1.234", "BHD") == 1234
    with pytest.raises(BadLine):
        amount("10.50", "JPY")


@given(st.integers(1, 10**14), st.sampled_from(["JPY", "EUR", "BHD"]))
def test_every_amount_that_we_write_is_read_back(minor, currency):
    assert amount(str(to_major(minor, currency)), currency) == minor


def test_days_stand_for_their_first_moment_in_utc_and_other_ways_are_settings():
    iso, german = Notation().reader(HEADINGS), Notation(dates="%d.%m.%Y").reader(HEADINGS)

    assert iso(["h", "1", "EUR", "1970-01-02"]).at == german(["h", "1", "EUR", "02.01.1970"]).at == 86_400.0
    assert iso(["h", "1", "EUR", "1970-01-01T02:00:00+02:00"]).at == 0.0
    with pytest.raises(BadLine, match=r"^at: "):
        german(["h", "1", "EUR", "1970-01-02"])


def test_lines_about_something_else_are_passed_over():
    read = Notation(only={"type": ("refund",)}).reader([*HEADINGS, "type"])

    assert read(["h", "1", "EUR", "", "payout"]) is None
    assert read(["h", "1", "EUR", "", "refund"]).amount == 100


def test_words_of_the_status_column_mean_what_the_settings_say():
    read = Notation(verdicts={"PAID": Verdict.SUCCEEDED}).reader([*HEADINGS, "status"])

    assert read(["h", "1", "EUR", "", "PAID"]).verdict is Verdict.SUCCEEDED
    with pytest.raises(BadLine, match=r"^status: "):
        read(["h", "1", "EUR", "", "paid"])


def test_short_lines_have_empty_columns():
    with pytest.raises(BadLine, match=r"^currency: "):
        Notation().reader(HEADINGS)(["h", "1"])
