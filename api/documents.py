"""What the OpenAPI document says beyond what the functions say by themselves."""

from typing import Any

from domain.job import MAX_BYTES, RefundJob
from domain.state import State
from engine.patience import MEDIA_TYPE

Schema = dict[str, Any]
Responses = dict[int | str, Any]
_REF = "#/components/schemas/"
_PAYMENT = "payment_test_GDEATBKK8XAp9XGf6J4U4"
_ID = "rf_01kat8m3vqe7x2m9z6c4w1b5nd"

IDEMPOTENCY_KEY = (
    "Optional: the `reference` already makes a repeat safe. 1 to 255 of `A-Z a-z 0-9 _ . : -`, quoted or bare, one "
    "field. It stands for one body for 24 hours, for all keys of one name; after a refusal it is free again."
)
EXAMPLE_JOB: Schema = {
    "reference": "RMA-1001",
    "account": "jp-store",
    "payment": {"id": _PAYMENT, "amount": 2100, "currency": "JPY"},
    "amount": 1000,
    "currency": "JPY",
    "reason": "requested_by_customer",
    "metadata": {"rma": "1001"},
}
EXAMPLE_REFUND: Schema = {
    "id": _ID,
    "object": "refund",
    "state": "queued",
    "outcome_certain": True,
    "account": "jp-store",
    "provider": "smartpay",
    "reference": "RMA-1001",
    "amount": 1000,
    "currency": "JPY",
    "payment": {
        "id": _PAYMENT,
        "order_id": None,
        "capture_id": None,
        "amount": 2100,
        "currency": "JPY",
        "method": None,
    },
    "reason": "requested_by_customer",
    "description": None,
    "handle": "9f1c2d34-5a6b-4c7d-8e9f-0a1b2c3d4e5f",
    "provider_refund_id": None,
    "provider_status": None,
    "reconciliation_id": None,
    "failure": None,
    "review": None,
    "attempts": 0,
    "next_action_at": "2026-01-31T12:00:00.000Z",
    "metadata": {"rma": "1001"},
    "customer": None,
    "bank_account": None,
    "created_at": "2026-01-31T12:00:00.000Z",
    "updated_at": "2026-01-31T12:00:00.000Z",
    "final_at": None,
    "version": 1,
}


def _object(properties: Schema, *, optional: tuple[str, ...] = (), **more: Any) -> Schema:
    required = [name for name in properties if name not in optional]

    return {"type": "object", "properties": properties, "required": required, **more}


def _maybe(kind: str, **more: Any) -> Schema:
    return {"type": [kind, "null"], **more}


def _list(of: str, **more: Any) -> Schema:
    return _object(
        {
            "object": {"const": "list"},
            "data": {"type": "array", "items": {"$ref": _REF + of}},
            "has_more": {"type": "boolean"},
            "next_cursor": _maybe("string"),
            **more,
        }
    )


_TIME: Schema = {"type": "string", "format": "date-time"}
_MAYBE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_AMOUNT: Schema = {"type": ["integer", "null"], "description": "In the currency's minor unit."}
_MASKED: Schema = {"type": ["object", "null"], "description": "Masked."}

_REFUND = _object(
    {
        "id": {"type": "string", "pattern": "^rf_[a-z0-9]+$"},
        "object": {"const": "refund"},
        "state": {"enum": [str(state) for state in State]},
        "outcome_certain": {"type": "boolean", "description": "Whether it is known if the money moved."},
        "account": {"type": "string"},
        "provider": {"type": "string"},
        "reference": {"type": "string"},
        "amount": {**_AMOUNT, "description": "In the currency's minor unit; null until the rest is known."},
        "currency": _maybe("string"),
        "payment": _object(
            {
                "id": _maybe("string"),
                "order_id": _maybe("string"),
                "capture_id": _maybe("string"),
                "amount": _AMOUNT,
                "currency": _maybe("string"),
                "method": _maybe("string"),
            }
        ),
        "reason": {"enum": ["requested_by_customer", "duplicate", "fraudulent", "other"]},
        "description": _maybe("string"),
        "handle": {"type": "string", "description": "What we send as idempotency key or reference."},
        "provider_refund_id": _maybe("string"),
        "provider_status": _maybe("string"),
        "reconciliation_id": _maybe("string"),
        "failure": {
            "oneOf": [
                {"type": "null"},
                _object({"code": {"type": "string"}, "class": _maybe("string"), "message": _maybe("string")}),
            ]
        },
        "review": {
            "oneOf": [
                {"type": "null"},
                _object({"cause": {"type": "string"}, "since": _TIME, "verdict": {"type": "object"}}),
            ]
        },
        "attempts": {"type": "integer"},
        "next_action_at": _MAYBE_TIME,
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
        "customer": _MASKED,
        "bank_account": _MASKED,
        "created_at": _TIME,
        "updated_at": _TIME,
        "final_at": _MAYBE_TIME,
        "version": {"type": "integer", "description": "Grows with every change: order by it, never by arrival."},
    },
    description="Members may be added; ignore those that you do not know.",
    example=EXAMPLE_REFUND,
)
_PROBLEM = _object(
    {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string", "description": "Stable: for programs."},
        "request_id": {"type": "string"},
        "retryable": {"type": "boolean", "description": "Whether the same request, unchanged, may succeed later."},
        "errors": {
            "type": "array",
            "items": _object({"pointer": {"type": "string"}, "detail": {"type": "string"}}),
        },
        "violated-policies": {"type": "array", "items": {"type": "string"}},
    },
    optional=("violated-policies",),
    description="RFC 9457.",
)
_EVENT = _object(
    {
        "object": {"const": "event"},
        "seq": {"type": "integer"},
        "type": {"type": "string", "examples": ["refund.accepted"]},
        "at": _TIME,
        "data": {"type": "object"},
    }
)
_RESULT: Schema = {
    "oneOf": [
        _object(
            {"status": {"const": 202}, "refund": {"$ref": _REF + "Refund"}, "replayed": {"const": True}},
            optional=("replayed",),
        ),
        _object({"status": {"type": "integer", "minimum": 400}, "problem": {"$ref": _REF + "Problem"}}),
    ]
}
_REFUNDABLE = _object(
    {
        "object": {"const": "refundable"},
        "account": {"type": "string"},
        "payment_id": {"type": "string"},
        "currency": _maybe("string"),
        "captured": {**_AMOUNT, "description": "Null: no job has said, and the provider was not asked yet."},
        "refunded": {"type": "integer"},
        "in_flight": {"type": "integer"},
        "refundable": _AMOUNT,
        "over_refunded": {"type": "boolean"},
    }
)
_HEALTH = _object(
    {
        "status": {"enum": ["ready"]},
        "database": {"enum": ["ok", "unreachable"]},
        "redis": {"enum": ["ok", "unreachable", "not configured"]},
    }
)
_CANCELLATION = {
    "type": "object",
    "properties": {"reason": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]*$"}},
    "additionalProperties": False,
}


def schemas() -> Schema:
    """Every schema of the document by name."""
    job = RefundJob.model_json_schema(ref_template=_REF + "{model}")
    parts = job.pop("$defs", {})

    return {
        **parts,
        "RefundJob": {**job, "example": EXAMPLE_JOB},
        "Refund": _REFUND,
        "RefundList": _list("Refund"),
        "Event": _EVENT,
        "EventList": _list("Event"),
        "BatchResults": {"type": "array", "items": _RESULT},
        "Cancellation": _CANCELLATION,
        "Refundable": _REFUNDABLE,
        "Readiness": _HEALTH,
        "Problem": _PROBLEM,
    }


_LIMITS = {
    "RateLimit": {"schema": {"type": "string"}, "description": 'What is left: `"default";r=99;t=30`.'},
    "RateLimit-Policy": {"schema": {"type": "string"}, "description": 'The limit: `"default";q=6000;w=60`.'},
    "X-Request-ID": {"schema": {"type": "string"}},
    "traceparent": {"schema": {"type": "string"}},
}
_ETAG = {"ETag": {"schema": {"type": "string"}}}
_WORDS = {
    400: "Not JSON, no notification, or a header or cursor that cannot be read.",
    401: "No valid API key; for a notification: not shown to be the provider's.",
    403: "The key lacks the scope.",
    404: "There is no such thing, or it is another account's.",
    408: "The body took too long.",
    409: "The reference is used with other content (`reference-conflict`), or the refund cannot be cancelled any more.",
    412: "`expect_refundable` is not what is refundable.",
    413: "The body is too large.",
    415: "Neither JSON nor, for a batch, JSON lines.",
    422: "Refused: the fields and rules are named.",
    429: "The rate limit or a quota is reached; `Retry-After` says when to come back.",
    500: "A defect; repeating the request is safe.",
    503: "The database does not answer; nothing was lost, come back.",
}


def _ok(status: int, schema: str, words: str, *, headers: Schema | None = None, **more: Any) -> Responses:
    content = {"application/json": {"schema": {"$ref": _REF + schema}}}

    return {status: {"description": words, "content": content, "headers": {**_LIMITS, **(headers or {})}, **more}}


def _plain(status: int, words: str, content: Schema | None = None) -> Responses:
    return {status: {"description": words} | ({"content": content} if content else {})}


def _problems(*statuses: int) -> Responses:
    content = {MEDIA_TYPE: {"schema": {"$ref": _REF + "Problem"}}}

    return {
        status: {
            "description": _WORDS[status],
            "content": content,
            **({"headers": {"Retry-After": {"schema": {"type": "integer"}}}} if status == 429 else {}),  # noqa: PLR2004
        }
        for status in (*statuses, 500, 503)
    }


def _body(content: Schema, *, required: bool = True) -> Schema:
    return {"requestBody": {"required": required, "content": content}}


_COMMON = (401, 403, 422, 429)
_LINKS = {
    name: {"operationId": operation, "parameters": {"refund_id": "$response.body#/id"}, "description": words}
    for name, operation, words in (
        ("GetRefund", "getRefund", "The refund as it stands now."),
        ("ListEvents", "listEvents", "Its story."),
        ("CancelRefund", "cancelRefund", "Withdraw it, as long as it was not sent."),
    )
}
_LOCATION = {
    "Location": {"schema": {"type": "string"}},
    "Idempotency-Replayed": {"schema": {"type": "string"}, "description": "`true`: this is the first answer again."},
}
_NOT_MODIFIED: Responses = {304: {"description": "Not changed since the ETag of If-None-Match."}}


def _route(operation: str, responses: Responses, extra: Schema | None = None, status: int = 200) -> Schema:
    return {
        "operation_id": operation,
        "status_code": status,
        "response_model": None,
        "responses": responses,
        "openapi_extra": extra,
    }


SUBMIT = _route(
    "submitRefund",
    _ok(202, "Refund", "Accepted: it is in the ledger.", headers=_LOCATION, links=_LINKS)
    | _problems(400, *_COMMON, 408, 409, 412, 413, 415),
    {
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": IDEMPOTENCY_KEY,
                "schema": {"type": "string", "pattern": '^("[A-Za-z0-9_.:-]{1,255}"|[A-Za-z0-9_.:-]{1,255})$'},
            }
        ],
        **_body({"application/json": {"schema": {"$ref": _REF + "RefundJob"}}}),
    },
    202,
)
BATCH = _route(
    "submitBatch",
    _ok(200, "BatchResults", "One result per job, in their order.") | _problems(400, *_COMMON, 408, 413, 415),
    _body(
        {
            "application/json": {
                # Each job is judged by itself: what is wrong with one is no fault of the request.
                "schema": {"type": "array", "items": {}, "minItems": 1, "maxItems": 10_000},
                "example": [EXAMPLE_JOB],
            },
            "application/x-ndjson": {"schema": {"type": "string", "minLength": 1}},
        }
    ),
)
LIST = _route(
    "listRefunds",
    _ok(200, "RefundList", "A page.", headers={**_ETAG, "Link": {"schema": {"type": "string"}}})
    | _NOT_MODIFIED
    | _problems(400, *_COMMON),
)
GET = _route("getRefund", _ok(200, "Refund", "The refund.", headers=_ETAG) | _NOT_MODIFIED | _problems(404, *_COMMON))
EVENTS = _route(
    "listEvents", _ok(200, "EventList", "Its story.", headers=_ETAG) | _NOT_MODIFIED | _problems(404, *_COMMON)
)
CANCEL = _route(
    "cancelRefund",
    _ok(200, "Refund", "It is cancelled.") | _problems(400, 404, *_COMMON, 408, 409, 413, 415),
    _body({"application/json": {"schema": {"$ref": _REF + "Cancellation"}}}, required=False),
)
REFUNDABLE = _route(
    "getRefundable",
    _ok(200, "Refundable", "The payment's money.", headers=_ETAG) | _NOT_MODIFIED | _problems(404, *_COMMON),
)
NOTIFY = _route(
    "receiveNotification",
    _plain(200, "Kept.")
    | _plain(204, "Kept; what the provider expects to hear.")
    | _problems(400, 401, 404, 408, 413, 422, 429),
    _body({"*/*": {"schema": {"type": "string", "description": "As the provider signs it."}}}),
)
HEALTHZ = _route("healthz", _plain(200, "This process answers.") | _problems())
READYZ = _route("readyz", _ok(200, "Readiness", "Jobs are accepted, with or without Redis.") | _problems())
METRICS = _route(
    "metrics",
    _plain(200, "Prometheus' text.", {"text/plain": {"schema": {"type": "string"}}}) | _problems(401, 403, 429),
)

TAGS: list[Schema] = [
    {"name": "refunds", "description": "Refund jobs in, their outcomes out."},
    {"name": "notifications", "description": "For providers: no API key, the adapter verifies what they send."},
    {"name": "probes", "description": "For load balancers and Prometheus."},
]
DESCRIPTION = f"""\
Every job that is answered 202 is in the ledger, and is paid exactly once or put before a person.

**Repeats are safe.** The same `reference` of an account with the same content is the same refund: 202 with the body of
the first answer and `Idempotency-Replayed: true`. With other content it is refused with 409 and the differing fields
named. Send a job again, unchanged, until it is answered with 202 or with a problem whose `retryable` is false.

**Amounts** are integers of the currency's minor unit. A float is refused, `1.0` too.

**Errors** are RFC 9457 problems; `code` is for programs. Bodies may have {MAX_BYTES} bytes, those of a batch ten times
as many. Unknown members are refused.
"""
