"""Keys, scopes, accounts, rates and quotas, on a running server."""

import time

import httpx
import pytest
from sqlalchemy import text

from engine import keys
from engine.keys import Scope
from ledger import journal
from tests.support.api import ADMIN, job


def ask(api, key=None, path="/v1/refunds", **headers):
    given = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.get(f"{api.url}{path}", headers=given | headers)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer rk_unknown1_secret",
        "Basic cms6eA==",
        "Bearer rk_",
        "Bearer \x01",
        "Bearer " + "x" * 9000,
    ],
)
def test_whoever_has_no_key_learns_nothing(api, header):
    headers = {} if header is None else {"Authorization": header.encode()}
    answers = [
        httpx.request(method, f"{api.url}{path}", headers=headers, content=b"{")
        for method, path in (("GET", "/v1/refunds"), ("GET", "/v1/refunds/rf_x"), ("POST", "/v1/refunds"))
    ]

    for answer in answers:
        if header == "Bearer \x01":
            assert answer.status_code == 400
        else:
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
            assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_wrong_secret_an_expired_and_a_revoked_key_are_answered_alike(api, name):
    good, expired, revoked = api.key(name), api.key(f"{name}-e", lifetime=0), api.key(f"{name}-r")
    assert ask(api, revoked).status_code == 200
    keys.revoke(api.engine, ADMIN, revoked.rpartition("_")[0])
    wrong = good[:-1] + ("a" if good[-1] != "a" else "b")

    answers = [ask(api, each) for each in (wrong, expired, revoked, "rk_00000000_x")]
    assert {each.status_code for each in answers} == {401}
    assert len({each.json()["detail"] for each in answers}) == 1
    assert ask(api, good).status_code == 200


def test_only_a_hash_of_a_key_is_kept_and_every_act_is_on_record(api, name):
    key = api.key(name)
    key_id, _, secret = key.rpartition("_")
    keys.revoke(api.engine, ADMIN, key_id)
    keys.revoke(api.engine, ADMIN, key_id)

    with api.engine.ledger.read() as connection:
        stored = connection.execute(text("SELECT * FROM api_key WHERE id = :id"), {"id": key_id}).one()
        story = journal.story(connection, f"key/{key_id}")
    assert secret not in str(stored)
    assert [each["type"] for each in story] == ["key.created", "key.revoked"]
    assert secret not in str(story)


def test_a_name_has_two_live_keys_and_both_say_the_same(api, name):
    first, second = api.key(name), api.key(name)
    with pytest.raises(keys.Refused, match="2 live keys"):
        api.key(name)
    with api.client(first) as one, api.client(second) as other:
        made = one.post("/v1/refunds", json=job(name), headers={"Idempotency-Key": name})
        same = other.post("/v1/refunds", json=job(f"{name}-2"), headers={"Idempotency-Key": name})
    keys.revoke(api.engine, ADMIN, first.rpartition("_")[0])

    assert made.status_code == 202
    assert same.json()["code"] == "idempotency-key-reused"
    assert api.key(name)


def test_when_a_key_was_used_is_known_to_the_minute(api, name):
    key = api.key(name)
    before = time.time()
    assert ask(api, key).status_code == 200
    [found] = [each for each in keys.everything(api.engine) if key.startswith(each.id)]

    assert found.last_used_at is not None
    assert found.last_used_at % 60 == 0
    assert before - 60 < found.last_used_at <= time.time()


def test_a_scope_opens_what_it_names_and_nothing_else(api, name):
    reads, writes = api.key(f"{name}-r", scopes=[Scope.READ]), api.key(f"{name}-w", scopes=[Scope.WRITE])
    with api.client(reads) as reader, api.client(writes) as writer:
        refused = [
            reader.post("/v1/refunds", json=job(name)),
            reader.post("/v1/refunds/batch", json=[job(name)]),
            reader.post("/v1/refunds/rf_x/cancel"),
            writer.get("/v1/refunds"),
            writer.get("/v1/refunds/rf_x"),
        ]
        made = writer.post("/v1/refunds", json=job(name))

        assert {(each.status_code, each.json()["code"]) for each in refused} == {(403, "forbidden")}
        assert reader.get(made.headers["Location"]).status_code == 200


def test_anothers_account_does_not_exist(api, client, name):
    theirs = client.post("/v1/refunds", json=job(name, account="jp-store")).json()["id"]
    with api.client(api.key(f"{name}-b", accounts=["shop"])) as bound:
        mine = bound.post("/v1/refunds", json=job(f"{name}-mine")).json()["id"]
        unknown = bound.post("/v1/refunds", json=job(f"{name}-x", account="nowhere"))
        elsewhere = bound.post("/v1/refunds", json=job(f"{name}-x", account="jp-store"))
        paths = (f"/v1/refunds/{theirs}", f"/v1/refunds/{theirs}/events")
        hidden = [bound.get(path) for path in paths] + [bound.post(f"/v1/refunds/{theirs}/cancel")]
        payment = f"/payments/{job(name)['payment']['id']}/refundable"
        hidden.append(bound.get(f"/v1/accounts/jp-store{payment}"))
        listed = {each["account"] for each in bound.get("/v1/refunds", params={"limit": 100}).json()["data"]}

        assert {each.status_code for each in hidden} == {404}
        assert hidden[0].json()["detail"] == bound.get("/v1/refunds/rf_nobody").json()["detail"]
        assert elsewhere.json()["errors"] == [
            {**unknown.json()["errors"][0], "detail": "there is no account 'jp-store'"}
        ]
        assert listed == {"shop"}
        assert bound.get("/v1/refunds", params={"account": "jp-store"}).json()["data"] == []
        assert bound.get(f"/v1/refunds/{mine}").status_code == 200
    assert client.get(f"/v1/accounts/jp-store{payment}").status_code == 200


@pytest.mark.parametrize("redis", [True, False])
def test_a_key_that_asks_too_often_is_told_when_to_come_back(serve, sqlite_url, request, redis):
    url = request.getfixturevalue("redis_url") if redis else None
    api = serve(sqlite_url, url, api={"rate_limit": "3/m"})
    with api.client() as client, api.client(api.key("other")) as other:
        answers = [client.get("/v1/refunds") for _ in range(5)]
        unaffected = other.get("/v1/refunds")

    assert [each.status_code for each in answers] == [200] * 3 + [429] * 2
    assert [each.headers["RateLimit"].split(";")[1] for each in answers] == ["r=2", "r=1", "r=0", "r=0", "r=0"]
    assert answers[0].headers["RateLimit-Policy"] == '"default";q=3;w=60'
    problem = answers[-1].json()
    assert problem["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert (problem["violated-policies"], problem["retryable"]) == (["default"], True)
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
    assert unaffected.status_code == 200


@pytest.fixture
def limited(serve, database_url):
    """A server with quotas, on either database."""
    return serve(database_url, api={"jobs_per_hour": 4, "money_per_hour": {"JPY": 6000}})


def test_an_hour_has_so_many_jobs_and_so_much_money(limited):
    first, second = limited.key(), limited.key()
    with limited.client(first) as one, limited.client(second) as two:
        assert one.post("/v1/refunds", json=job("a", amount=5000)).status_code == 202
        assert two.post("/v1/refunds", json=job("a", amount=5000)).status_code == 202  # the same refund again
        too_much = two.post("/v1/refunds", json=job("b", amount=1001))
        never = two.post(
            "/v1/refunds", json=job("b", amount=6001, payment={"id": "P", "amount": 9000, "currency": "JPY"})
        )
        unknown = two.post("/v1/refunds", json=job("b", amount=None, currency=None, payment={"id": "P"}))
        assert two.post("/v1/refunds", json=job("b", amount=1000)).status_code == 202
        refused = two.post(
            "/v1/refunds", json=job("c", amount=1, payment={"id": "TX-a", "amount": 5000, "currency": "JPY"})
        )
    with limited.client(limited.key("other")) as other:
        results = other.post("/v1/refunds/batch", json=[job(f"x{n}", amount=1) for n in range(6)]).json()

    assert (too_much.status_code, too_much.json()["violated-policies"]) == (429, ["money-per-hour"])
    assert 1 <= int(too_much.headers["Retry-After"]) <= 3600
    assert (never.status_code, never.json()["code"]) == (422, "amount-exceeds-quota")
    assert (unknown.status_code, unknown.json()["code"]) == (422, "amount-required")
    assert refused.status_code == 429
    assert [each["status"] for each in results] == [202] * 4 + [429] * 2
    assert results[-1]["problem"]["violated-policies"] == ["jobs-per-hour"]


def test_jobs_without_an_amount_are_counted(serve, sqlite_url):
    api = serve(sqlite_url, api={"jobs_per_hour": 2})
    with api.client() as client:
        whole = [job(f"w{n}", amount=None, currency=None, payment={"id": f"P{n}"}) for n in range(4)]
        answers = [client.post("/v1/refunds", json=each).status_code for each in whole]

    assert answers == [202, 202, 429, 429]


def test_a_refused_job_costs_no_quota(limited):
    with limited.client() as client:
        over = job("a", payment={"id": "P", "amount": 100, "currency": "JPY"}, amount=100)
        assert client.post("/v1/refunds", json=over).status_code == 202
        for _ in range(6):
            refused = client.post("/v1/refunds", json={**over, "reference": "b"})
            assert (refused.status_code, refused.json()["code"]) == (422, "amount-exceeds-refundable")
        assert [client.post("/v1/refunds", json=job(f"n{n}", amount=1)).status_code for n in range(4)] == [202] * 3 + [
            429
        ]
