import tomllib

import pytest

from cli import toml
from cli.times import money
from domain.decision import Cause
from domain.verdict import Advice
from domain.words import ADVICE, CAUSES, ago


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
