import pytest

from domain.errors import InvalidJob
from engine.search import names_people, parse, written
from ledger.vault import Vault
from tests.support.settings import ENCRYPTION_KEY, INDEX_KEY

VAULT = Vault([ENCRYPTION_KEY], INDEX_KEY)


def test_words_without_a_name_are_one_text():
    assert parse("  R-1 ", VAULT).anything == ("R-1",)
    assert parse("Lin Smith", VAULT).anything == ("Lin Smith",)
    assert VAULT.index("name", "lin smith") in parse("Lin Smith", VAULT).hashes["Lin Smith"]
    assert parse("", VAULT).anything == ()


def test_an_address_is_only_ever_a_hash():
    wanted = parse("Lin@Example.com", VAULT)

    assert (wanted.email_hash, wanted.anything) == (VAULT.index("email", "lin@example.com"), ())


def test_names_narrow_and_the_same_name_twice_means_either():
    wanted = parse('state:review state:unknown order:"A 1" ref:R-1 name:Smith', VAULT)

    assert wanted.states == ("review", "unknown")
    assert (wanted.order_id, wanted.reference) == ("A 1", "R-1")
    assert wanted.name_hash == VAULT.index("name", "smith")


@pytest.mark.parametrize("words", ["state:gone", "colour:blue", '"open', "order:'open"])
def test_what_cannot_be_read_is_named(words):
    with pytest.raises(InvalidJob) as caught:
        parse(words, VAULT)

    assert caught.value.code == "query-invalid"


DAY = 86_400.0
FIRST = 1_793_491_200.0  # 2026-11-01


@pytest.mark.parametrize(
    ("written", "euro", "yen"),
    [
        ("12.50", (1250, 1251), (13, 13)),
        ("12,50", (1250, 1251), (13, 13)),
        (">12", (1201, None), (13, None)),
        (">=12", (1200, None), (12, None)),
        ("<12", (None, 1200), (None, 12)),
        ("<=12.50", (None, 1251), (None, 13)),
        ("10..20", (1000, 2001), (10, 21)),
        ("10..", (1000, None), (10, None)),
        ("..20", (None, 2001), (None, 21)),
    ],
)
def test_an_amount_is_minor_units_of_each_currency(written, euro, yen):
    found = parse(f"amount:{written}", VAULT).amounts
    by_currency = {currency: each for each in found for currency in each.currencies}

    assert by_currency["EUR"][1:] == euro
    assert by_currency["JPY"][1:] == yen


@pytest.mark.parametrize(
    ("written", "after", "before"),
    [
        ("2026-11-01", FIRST, FIRST + DAY),
        (">2026-11-01", FIRST + DAY, None),
        ("<2026-11-01", None, FIRST),
        ("2026-11-01..2026-11-03", FIRST, FIRST + 3 * DAY),
        ("2026-11-01..", FIRST, None),
    ],
)
def test_days_are_whole(written, after, before):
    found = parse(f"created:{written}", VAULT)

    assert (found.created_after, found.created_before) == (after, before)


def test_currencies_are_written_in_any_case():
    assert parse("currency:eur currency:JPY", VAULT).currencies == ("EUR", "JPY")


@pytest.mark.parametrize(
    ("written", "attempts"),
    [("3", (3, 4)), (">3", (4, None)), ("<=3", (None, 4)), ("2..5", (2, 6)), ("2..", (2, None))],
)
def test_attempts_are_counted(written, attempts):
    assert parse(f"attempts:{written}", VAULT).attempts == attempts


@pytest.mark.parametrize(
    "wrong",
    [
        "attempts:many",
        "attempts:1.5",
        "amount:many",
        "amount:1e9",
        "amount:>",
        "amount:-5",
        "created:today",
        "created:>2026-13-01",
    ],
)
def test_what_is_no_amount_and_no_day_is_said(wrong):
    with pytest.raises(InvalidJob, match="expected a value"):
        parse(wrong, VAULT)


def test_what_no_text_can_have_is_refused():
    with pytest.raises(InvalidJob, match="no text has such a sign"):
        parse("ref:a\x00b", VAULT)


def test_what_is_written_is_read_again():
    words = written(cause="leases_lost", account="", failure='it\'s 12 % "odd"')

    assert parse(words, VAULT).causes == ("leases_lost",)
    assert parse(words, VAULT).failure_codes == ('it\'s 12 % "odd"',)
    assert parse(words, VAULT).accounts == ()
    assert written() == ""
    assert parse(written(state=["review", "failed"], created=""), VAULT).states == ("review", "failed")


PEOPLE = ["lin@example.com", "Lin Smith", "state:review smith", "name:!", "email:x", "smith:", "ref:lin@example.com"]


@pytest.mark.parametrize("words", PEOPLE)
def test_a_query_that_may_name_a_person_is_known(words):
    assert names_people(words)


@pytest.mark.parametrize("words", ["", "state:review", "ref:R-1 order:'A 1'", "assignee:oli"])
def test_a_query_that_names_nobody_is_known(words):
    assert not names_people(words)
