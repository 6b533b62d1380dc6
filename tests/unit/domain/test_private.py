import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.private import MASK, masked


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("IBAN DE89370400440532013000 is closed", f"IBAN {MASK} is closed"),
        ("DE89 3704 0044 0532 0130 00", MASK),
        ("GB29NWBK60161331926819 NOT FOUND", f"{MASK} NOT FOUND"),
        ("(NO9386011117947)", f"({MASK})"),
        ("card 4242 4242 4242 4242 declined", f"card {MASK} declined"),
        ("card 4111111111111111 declined", f"card {MASK} declined"),
        ("write to anna.b@shop.example", f"write to {MASK}"),
    ],
)
def test_what_is_private_is_masked_where_it_stands(said, shown):
    assert masked(said) == shown


@pytest.mark.parametrize(
    "said",
    [
        "",
        "OK",
        "4111111111111111",
        "DE88370400440532013000 is no IBAN",
        "payment 4111111111111112 is unknown",
        "rf_01HXYZ at 2026-11-21T23:28:24Z",
        "re_4242424242424242 was refused",
    ],
)
def test_what_is_an_id_stays(said):
    assert masked(said) == said


words = st.text(alphabet="DE0123456789 4@.aA", max_size=40)


@given(words, words)
def test_whatever_stands_around_it_a_bank_account_is_masked(before, after):
    assert "3704004405320130" not in masked(f"{before} DE89370400440532013000 {after}")
