"""The OpenAPI document: as committed, and saying what it must."""

from pathlib import Path

import msgspec
import pytest

from api.__main__ import document
from api.app import ROUTERS, openapi

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi.json"


def operations():
    return [
        (path, method, operation)
        for path, item in openapi()["paths"].items()
        for method, operation in item.items()
        if method in {"get", "post", "put", "delete", "patch"}
    ]


def references(value):
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_the_committed_document_is_this_one():
    assert COMMITTED.read_text() == document(), "refundry openapi > docs/openapi.json"


def test_it_is_openapi_3_1_and_every_reference_leads_somewhere():
    found = openapi()
    names = {f"#/components/schemas/{name}" for name in found["components"]["schemas"]}

    assert found["openapi"] == "3.1.0"
    assert set(references(found)) <= names


def test_every_route_is_in_it():
    routes = {(route.path, method.lower()) for router in ROUTERS for route in router.routes for method in route.methods}

    assert {(path, method) for path, method, _ in operations()} == {
        (path.replace(":path", ""), method) for path, method in routes
    }


@pytest.mark.parametrize(("path", "method", "operation"), operations(), ids=lambda each: str(each)[:40])
def test_every_operation_tells_its_errors_as_problems_and_what_opens_it(path, method, operation):
    errors = {status: each for status, each in operation["responses"].items() if int(status) >= 400}

    assert errors
    for each in errors.values():
        assert list(each["content"]) == ["application/problem+json"]
    assert ("security" in operation) is (path not in ("/healthz", "/readyz", "/v1/webhooks/{account}"))
    assert operation["operationId"]


def test_what_was_posted_can_be_got():
    answer = openapi()["paths"]["/v1/refunds"]["post"]["responses"]["202"]

    assert {each["operationId"] for each in answer["links"].values()} == {"getRefund", "listEvents", "cancelRefund"}


def test_the_example_is_a_job_that_the_rules_allow():
    from domain.job import parse

    example = openapi()["components"]["schemas"]["RefundJob"]["example"]

    assert parse(msgspec.json.encode(example)).reference == "RMA-1001"
