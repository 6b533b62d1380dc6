"""Refunds over HTTP, on a running server with a PostgreSQL ledger."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from tests.support.api import job


def rows(api, query, **values):
    with api.engine.ledger.read() as connection:
        return [dict(row._mapping) for row in connection.execute(text(query), values)]


def test_a_job_is_accepted_after_the_ledger_has_it(api, client, name):
    answer = client.post("/v1/refunds", json=job(name))
    refund = answer.json()

    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/refunds/{refund['id']}"
    assert "Idempotency-Replayed" not in answer.headers
    assert (refund["object"], refund["state"], refund["reference"]) == ("refund", "queued", name)
    assert client.get(answer.headers["Location"]).json() == refund
    [event] = rows(api, "SELECT actor, data FROM event WHERE subject = :id", id=refund["id"])
    assert event["actor"] == f"key:{name}"
    assert json.loads(event["data"])["via"] == "api"


def test_fifty_at_once_make_one_refund_and_fifty_equal_answers(api, client, name):
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: client.post("/v1/refunds", json=job(name)), range(50)))

    assert {each.status_code for each in answers} == {202}
    assert len({each.content for each in answers}) == 1
    assert sum("Idempotency-Replayed" not in each.headers for each in answers) == 1
    assert rows(api, "SELECT count(*) AS n FROM refund WHERE reference = :name", name=name) == [{"n": 1}]
    assert rows(api, "SELECT reserved FROM payment WHERE ref = :ref", ref=f"TX-{name}") == [{"reserved": 2500}]


def test_a_repeat_is_answered_as_the_first_time_whatever_has_become_of_the_refund(client, name):
    waiting = job(name, not_before="2199-01-01T00:00:00+09:00", customer={"email": "lin@example.com"})
    first = client.post("/v1/refunds", json=waiting)
    cancelled = client.post(f"{first.headers['Location']}/cancel")
    again = client.post("/v1/refunds", json=waiting)

    assert cancelled.json()["state"] == "cancelled"
    assert again.status_code == 202
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.content == first.content
    assert client.get(first.headers["Location"]).json()["state"] == "cancelled"


def test_other_content_under_a_known_reference_is_a_conflict_that_names_the_fields(client, name):
    client.post("/v1/refunds", json=job(name))
    problem = client.post("/v1/refunds", json=job(name, amount=1, metadata={"a": "b"}))

    assert problem.status_code == 409
    assert problem.json()["code"] == "reference-conflict"
    assert [each["pointer"] for each in problem.json()["errors"]] == ["#/amount", "#/metadata"]


@pytest.mark.parametrize(
    ("changes", "status", "code", "pointer"),
    [
        ({"amount": 5001}, 422, "amount-exceeds-refundable", "#/amount"),
        ({"payment": {"id": "TX-over", "order_id": "OR", "currency": "JPY"}, "amount": 1.0}, 422, None, "#/amount"),
        ({"amount": 12.5}, 422, "validation-failed", "#/amount"),
        ({"amount": "2500"}, 422, "validation-failed", "#/amount"),
        ({"amount": True}, 422, "validation-failed", "#/amount"),
        ({"surprise": 1}, 422, "validation-failed", "#/surprise"),
        ({"account": "elsewhere"}, 422, "validation-failed", "#/account"),
        ({"currency": "EUR"}, 422, "currency-mismatch", "#/currency"),
        ({"expect_refundable": 4999}, 412, "expect-refundable-differs", "#/expect_refundable"),
        ({"reference": None}, 422, "validation-failed", "#/reference"),
        ({"reference": "x" * 65}, 422, "validation-failed", "#/reference"),
    ],
)
def test_what_cannot_be_accepted_is_refused_with_the_field_named(client, name, changes, status, code, pointer):
    body = {key: value for key, value in {**job(name), **changes}.items() if value is not None}
    answer = client.post("/v1/refunds", json=body)
    problem = answer.json()

    assert answer.status_code == status, problem
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert code is None or problem["code"] == code
    assert pointer in [each["pointer"] for each in problem["errors"]]
    assert problem["retryable"] is False
    assert client.get("/v1/refunds", params={"reference": name}).json()["data"] == []


def test_more_than_the_payment_has_left_is_refused(client, name):
    payment = job(name)["payment"]
    assert client.post("/v1/refunds", json=job(name)).status_code == 202
    over = client.post("/v1/refunds", json=job(f"{name}-2", payment=payment, amount=2501))

    assert (over.status_code, over.json()["code"]) == (422, "amount-exceeds-refundable")
    left = client.get(f"/v1/accounts/shop/payments/{payment['id']}/refundable").json()
    assert (left["captured"], left["in_flight"], left["refunded"], left["refundable"]) == (5000, 2500, 0, 2500)


def test_an_idempotency_key_stands_for_one_body(client, name):
    def post(key, body):
        return client.post("/v1/refunds", json=body, headers={"Idempotency-Key": key})

    refused = post(f'"{name}"', job(name, amount=0))
    first = post(f'"{name}"', job(name))
    bare = post(name, job(name))
    other = post(name, job(f"{name}-other"))
    same_reference = post(name, job(name, amount=1))

    assert refused.status_code == 422
    assert (first.status_code, first.headers["Idempotency-Key"]) == (202, f'"{name}"')
    assert (bare.content, bare.headers["Idempotency-Replayed"]) == (first.content, "true")
    assert [(each.status_code, each.json()["code"]) for each in (other, same_reference)] == [
        (422, "idempotency-key-reused")
    ] * 2
    assert client.get("/v1/refunds", params={"reference": f"{name}-other"}).json()["data"] == []


def test_two_bodies_at_once_under_one_idempotency_key_make_one_refund(client, name):
    bodies = [job(f"{name}-{number}") for number in range(10)]
    with ThreadPoolExecutor(10) as pool:
        answers = list(
            pool.map(lambda body: client.post("/v1/refunds", json=body, headers={"Idempotency-Key": name}), bodies)
        )

    assert sorted(each.status_code for each in answers) == [202] + [422] * 9
    found = [client.get("/v1/refunds", params={"reference": each["reference"]}).json()["data"] for each in bodies]
    assert sum(map(len, found)) == 1


@pytest.mark.parametrize("fields", [["a", "b"], ["a, b"], [""], ["a b"], ["x" * 256], ['"a'], ["ä"]])
def test_an_idempotency_key_that_is_none_is_refused(client, name, fields):
    headers = [("Idempotency-Key", each.encode()) for each in fields]
    answer = client.post("/v1/refunds", json=job(name), headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency-key-invalid")


def test_a_batch_answers_each_job_in_order(client, name):
    jobs = [job(f"{name}-1"), job(f"{name}-2", amount=1.5), "no job", job(f"{name}-1"), job(f"{name}-1", amount=7)]
    answer = client.post("/v1/refunds/batch", json=jobs)
    results = answer.json()

    assert answer.status_code == 200
    assert [each["status"] for each in results] == [202, 422, 422, 202, 409]
    assert results[3]["refund"] == results[0]["refund"]
    assert results[3]["replayed"] is True
    assert results[1]["problem"]["errors"][0]["pointer"] == "#/amount"
    assert results[4]["problem"]["code"] == "reference-conflict"


def test_a_batch_comes_as_lines_as_well(client, name):
    lines = "\n".join([json.dumps(job(f"{name}-1")), "{broken", "", json.dumps(job(f"{name}-2"))]) + "\n"
    answer = client.post("/v1/refunds/batch", content=lines, headers={"Content-Type": "application/x-ndjson"})

    assert [each["status"] for each in answer.json()] == [202, 400, 202]


def test_ten_thousand_jobs_come_in_one_batch_and_not_one_more(api, client, name):
    jobs = [job(f"{name}-{number}") for number in range(10_000)]
    answer = client.post("/v1/refunds/batch", json=jobs)
    once_more = client.post("/v1/refunds/batch", json=[*jobs, jobs[0]])

    assert {each["status"] for each in answer.json()} == {202}
    assert [each["refund"]["reference"] for each in answer.json()] == [each["reference"] for each in jobs]
    assert once_more.status_code == 422


@pytest.mark.parametrize("body", ["{}", "[]", "1", "null"])
def test_a_batch_that_is_no_array_of_jobs_is_refused(client, body):
    answer = client.post("/v1/refunds/batch", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422


def test_lists_are_paged_by_cursors_that_belong_to_their_filters(client, name):
    payment = {"id": f"P-{name}", "order_id": f"O-{name}", "amount": 70_000, "currency": "JPY"}
    made = [client.post("/v1/refunds", json=job(f"{name}-{n}", payment=payment)).json()["id"] for n in range(7)]
    seen, pages, target = [], 0, f"/v1/refunds?order_id=O-{name}&limit=3&state=queued&state=failed"
    while target:
        answer = client.get(target)
        page = answer.json()
        assert page["has_more"] == ("Link" in answer.headers) == (page["next_cursor"] is not None)
        seen += [each["id"] for each in page["data"]]
        pages += 1
        target = answer.links.get("next", {}).get("url")

    assert (seen, pages) == (made[::-1], 3)
    cursor = client.get(f"/v1/refunds?order_id=O-{name}&limit=3").json()["next_cursor"]
    assert client.get("/v1/refunds", params={"order_id": f"O-{name}", "limit": 2, "cursor": cursor}).status_code == 200
    for params in ({"cursor": cursor}, {"cursor": "AAAA"}, {"cursor": "ä"}, {"cursor": cursor[:-4]}):
        refused = client.get("/v1/refunds", params=params)
        assert (refused.status_code, refused.json()["code"]) == (400, "cursor-invalid")


def test_filters_narrow_the_list(client, name):
    first = client.post("/v1/refunds", json=job(name)).json()
    client.post("/v1/refunds", json=job(f"{name}-2"))

    def references(**params):
        found = client.get("/v1/refunds", params={"limit": 100, **params}).json()["data"]
        return {each["reference"] for each in found} & {name, f"{name}-2"}

    assert references(reference=name) == {name}
    assert references(payment_id=f"TX-{name}") == {name}
    assert references(account="shop") == {name, f"{name}-2"}
    assert references(account="jp-store") == set()
    assert references(state="failed") == set()
    assert references(created_before=first["created_at"]) == set()
    assert references(created_after="2020-01-01T00:00:00Z") == {name, f"{name}-2"}


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"limit": "0"}, "#/limit"),
        ({"limit": "101"}, "#/limit"),
        ({"stat": "failed"}, "#/stat"),
        ({"state": "lost"}, "#/state/0"),
        ({"created_after": "yesterday"}, "#/created_after"),
        ({"created_after": "1700000000"}, "#/created_after"),
        ({"reference": "a\x00b"}, "#/reference"),
    ],
)
def test_a_filter_that_cannot_be_is_named(client, params, pointer):
    answer = client.get("/v1/refunds", params=params)

    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.json()["errors"]] == [pointer]


def test_what_has_not_changed_is_not_sent_again(client, name):
    where = client.post("/v1/refunds", json=job(name, not_before="2199-01-01T00:00:00Z")).headers["Location"]
    tag = client.get(where).headers["ETag"]

    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        unchanged = client.get(where, headers={"If-None-Match": known})
        assert (unchanged.status_code, unchanged.content, unchanged.headers["ETag"]) == (304, b"", tag)
    client.post(f"{where}/cancel")
    assert client.get(where, headers={"If-None-Match": tag}).status_code == 200


def test_the_story_of_a_refund_names_nobody(client, name):
    where = client.post("/v1/refunds", json=job(name)).headers["Location"]
    client.post(f"{where}/cancel", json={"reason": "the customer keeps it"})
    story = client.get(f"{where}/events")

    assert [each["type"] for each in story.json()["data"]] == ["refund.accepted", "refund.cancelled"]
    assert story.json()["data"][1]["data"]["to"] == "cancelled"
    assert name not in story.text
    assert "keeps" not in story.text


def test_cancelling_again_changes_nothing_and_what_was_sent_cannot_be_cancelled(api, client, name):
    where = client.post("/v1/refunds", json=job(name)).headers["Location"]
    first, second = client.post(f"{where}/cancel"), client.post(f"{where}/cancel")
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.content == second.content

    sent = client.post("/v1/refunds", json=job(f"{name}-2")).json()["id"]
    with api.engine.ledger.write() as connection:
        connection.execute(text("UPDATE refund SET state = 'pending' WHERE id = :id"), {"id": sent})
    refused = client.post(f"/v1/refunds/{sent}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "refund-not-cancellable")


@pytest.mark.parametrize("body", ['{"reason": 1}', '{"why": "x"}', '{"reason": ""}', "[]"])
def test_a_cancellation_says_nothing_but_a_reason(client, name, body):
    where = client.post("/v1/refunds", json=job(name)).headers["Location"]
    answer = client.post(f"{where}/cancel", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422
    assert client.get(where).json()["state"] == "queued"


@pytest.mark.parametrize(
    "path", ["/v1/refunds/rf_nobody", "/v1/refunds/%00", "/v1/refunds/RMA-1", "/v1/refunds/x/events"]
)
def test_what_is_not_there_is_not_found(client, path):
    answer = client.get(path)

    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_personal_data_are_answered_masked(client, name):
    body = job(
        name,
        customer={"email": "lin@example.com", "last_name": "Smith"},
        bank_account={"iban": "DE89370400440532013000"},
    )
    answer = client.post("/v1/refunds", json=body)

    assert answer.json()["customer"] == {"email": "l***@***.com", "last_name": "S***"}
    assert "DE89" not in answer.text
    assert "lin@" not in answer.text
