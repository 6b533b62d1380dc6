import tomllib

import pytest

from cli import toml
from cli.times import money
from domain.decision import Cause
from domain.verdict import Advice
from domain.words import ADVICE, CAUSES, ago, harmless


def test_every_cause_and_every_verdict_has_words():
    assert set(CAUSES) == set(Cause)
    assert set(ADVICE) == set(Advice)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3700, "1 h 1 min"),
        (90_000, "1 d 1 h"),
        (-5, "0 s"),
    ],
)
def test_ages_have_two_units(seconds, words):
    assert ago(seconds) == words


def test_amounts_have_the_decimals_of_their_currency():
    assert money(1250, "EUR") == "12.50 EUR"
    assert money(1250, "JPY") == "1250 JPY"
    assert money(1, "KWD") == "0.001 KWD"
    assert money(None, "EUR") == "the rest"


def test_settings_are_written_as_they_are_read():
    tree = {
        "database": {"url": "sqlite:///x.db"},
        "accounts": {
            "a-b": {"provider": "p", "key": "-----BEGIN\nLINE\n", "n": [0.5, 1], "oauth": {"url": "u"}, "on": True},
            "empty": {},
        },
    }

    assert tomllib.loads(toml.dumps(tree)) == tree


def test_what_is_nothing_is_left_out():
    assert tomllib.loads(toml.dumps({"a": {"b": None, "c": "ü"}})) == {"a": {"c": "ü"}}


@pytest.mark.parametrize("before", ["", " ", "\n", "\r\n ", "\t", "\u00a0", "\u3000", "\ufeff", "\u200b", "\x00"])
@pytest.mark.parametrize("sign", [*"=+-@", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_spreadsheet_runs_what_begins_like_a_formula_whatever_stands_before_it(before, sign):
    assert harmless(f"{before}{sign}1+1") == f"'{before}{sign}1+1"


@pytest.mark.parametrize("value", ["", " ", "RMA-1", "a=b", " a@b.example", "\u3000a", -5, None, 1.5])
def test_what_is_no_formula_stays_as_it_is(value):
    assert harmless(value) == value
