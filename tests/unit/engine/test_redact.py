import json

import httpx
import pytest

from engine import redact
from engine.redact import HEAD, MASK, MAX_PARTS, redacted, redacted_body, redacted_head


@pytest.mark.parametrize("name", ["name", "Name", "full_name", "fullName", "first_name", "surname", "email", "x" * 65])
def test_what_people_are_called_is_masked(name):
    assert json.loads(redacted_body(json.dumps({"data": [{name: "Anna"}]}).encode())) == {"data": [{name: MASK}]}


@pytest.mark.parametrize("name", ["event_name", "status", "customer_id", "id"])
def test_what_an_answer_is_about_stays(name):
    assert json.loads(redacted_body(json.dumps({name: "x"}).encode())) == {name: "x"}


def test_long_names_of_members_are_not_remembered():
    redact._sounds_private.cache_clear()
    redacted_body(json.dumps({f"{number}{'x' * 65}": 1 for number in range(100)}).encode())

    assert redact._sounds_private.cache_info().currsize == 0


@pytest.mark.parametrize("body", [b"[" + b"[]," * 80_000 + b"[]]", b"[" * 200_000, b'{"a":' * 50_000])
def test_what_has_too_many_parts_is_not_taken_apart(body, monkeypatch):
    monkeypatch.setattr(redact, "_masked", None)

    assert redacted_body(body) == body[:HEAD]


def test_as_many_parts_as_are_allowed_are_taken_apart():
    assert redacted_body(b"[" + b"[]," * (MAX_PARTS - 2) + b"[]]", 10**6).count(b"[]") == MAX_PARTS - 1


def test_addresses_and_long_numbers_are_masked_in_what_is_not_json():
    page = b"<p>anna.b@shop.example (a%40b.example) paid 4111 1111 1111 1111 from DE89370400440532013000 no 1234567"
    answer = httpx.Response(502, content=page)

    assert redacted(answer) == f"<p>{MASK} ({MASK}) paid {MASK} from {MASK} no 1234567".encode()


def test_what_the_cut_would_make_unrecognisable_is_masked_too():
    for pad in range(HEAD):
        shown = redacted_head(b"." * pad + b" 12345678901234567890 anna@shop.example " + b"." * HEAD)
        assert b"1" not in shown
        assert b"a" not in shown
        assert len(shown) <= HEAD


def test_the_head_of_a_document_that_goes_on_shows_no_private_member():
    body = json.dumps({"id": "re_1", "name": "Anna", "address": 'Sto"ckholm', "birth_year": 1970, "a": "x" * 3000})
    shown = redacted_head(body.encode(), 2048)

    assert shown.startswith(b'{"id": "re_1", "name":"***", "address":"***", "birth_year":"***", "a": "xx')
    assert len(shown) == 2048
