"""Refunds over HTTP: submitted alone or in batches, read, listed, withdrawn."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import islice
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from api import documents
from api.access import Reader, TheEngine, Writer
from api.answers import answered, page, read, start_of
from api.bodies import LINES, LargeBody, OptionalBody, SmallBody, media_type
from api.envelope import traceparent_of
from api.problems import document, of_error
from api.together import Together
from domain.errors import FieldError, InvalidJob
from domain.job import Id64, Id128, Moment, epoch
from domain.refund import Refund
from domain.state import State
from engine import lookup
from engine.bootstrap import Engine
from engine.door import Knock, idempotency_key, submit_each, submit_for
from engine.keys import Machine
from engine.submit import Receipt
from engine.view import refund_view

router = APIRouter(prefix="/v1", tags=["refunds"])

MOST_JOBS = 10_000
#: Jobs of a batch that are accepted in one commit: a smaller one keeps others from waiting for its locks.
CHUNK = 250
MOST_LISTED = 100
_REASON = "withdrawn over the API"

RefundId = Annotated[str, Path(max_length=64, description="A refund's id, `rf_…`.")]


def _known_parameters(request: Request) -> None:
    """A filter that is misspelt would silently narrow nothing."""
    known = {each.alias for each in request.scope["route"].dependant.query_params}
    strange = sorted(set(request.query_params) - known)
    if strange:
        raise InvalidJob(*(FieldError(f"#/{name[:64]}", "there is no such parameter") for name in strange))


#: What was accepted, as it was answered the first time, and whether this is not the first time.
View = tuple[dict[str, Any], bool]
#: Accepts the jobs of requests.
Intake = Together[Knock, View]


def accept(engine: Engine, knocks: Sequence[Knock]) -> list[View | Exception]:
    """What `Intake` does. An error may also be that of a job which was accepted, and cannot be shown."""
    answers = [_or_problem(each) for each in submit_each(engine, knocks)]
    views = iter(_views(engine, [each for each in answers if isinstance(each, Receipt)]))

    return [next(views) if isinstance(each, Receipt) else each for each in answers]


def _or_problem(answer: Receipt | Exception) -> Receipt | Exception:
    return answer.problem if isinstance(answer, Receipt) and answer.problem is not None else answer


@router.post("/refunds", **documents.SUBMIT)
async def submit_refund(request: Request, machine: Writer, body: SmallBody) -> Response:
    """Accept one refund job. 202: it is in the ledger, and will be paid exactly once or put before a person."""
    key = idempotency_key(request.headers.getlist("Idempotency-Key"))
    intake: Intake = request.app.state.intake
    refund, replayed = await intake.ask(Knock(machine, body, traceparent_of(request.scope), key))
    headers = {"Location": f"/v1/refunds/{refund['id']}"}
    headers |= {"Idempotency-Replayed": "true"} if replayed else {}
    headers |= {"Idempotency-Key": f'"{key}"'} if key else {}

    return answered(refund, 202, headers)


@router.post("/refunds/batch", **documents.BATCH)
def submit_batch(request: Request, engine: TheEngine, machine: Writer, body: LargeBody) -> Response:
    """Accept up to 10,000 jobs; one result each, in their order. A refused job stops no other."""
    jobs = _jobs(body, lines=media_type(request) == LINES)
    results: list[dict[str, Any]] = []
    for start in range(0, len(jobs), CHUNK):
        results += _results(request, engine, machine, jobs[start : start + CHUNK])

    return answered(results)


@router.get("/refunds", **documents.LIST)
def list_refunds(
    request: Request,
    engine: TheEngine,
    machine: Reader,
    reference: Id64 | None = None,
    account: Annotated[list[Id64] | None, Query(max_length=20)] = None,
    state: Annotated[list[State] | None, Query(max_length=20)] = None,
    payment_id: Id128 | None = None,
    order_id: Id128 | None = None,
    created_after: Annotated[Moment | None, Query(description="RFC 3339; this moment counts.")] = None,
    created_before: Annotated[Moment | None, Query(description="RFC 3339; this moment does not count.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 25,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """List refunds, newest first. The same parameter twice means either; different ones mean both."""
    _known_parameters(request)
    found, more = lookup.page(
        engine,
        machine,
        accounts=account or (),
        limit=limit,
        before=start_of(request, cursor),
        states=tuple(state or ()),
        reference=reference,
        payment_id=payment_id,
        order_id=order_id,
        created_after=epoch(created_after),
        created_before=epoch(created_before),
    )

    return page(request, [refund_view(engine, each) for each in found], more=more, last=found[-1].id if found else None)


@router.get("/refunds/{refund_id}", **documents.GET)
def get_refund(request: Request, engine: TheEngine, machine: Reader, refund_id: RefundId) -> Response:
    """One refund, as it stands now."""
    return read(request, refund_view(engine, lookup.one(engine, machine, refund_id)))


@router.get("/refunds/{refund_id}/events", **documents.EVENTS)
def list_events(request: Request, engine: TheEngine, machine: Reader, refund_id: RefundId) -> Response:
    """A refund's story, oldest first; all of it in one page."""
    return page(request, lookup.events(engine, machine, refund_id), more=False, last=None)


@router.post("/refunds/{refund_id}/cancel", **documents.CANCEL)
def cancel_refund(engine: TheEngine, machine: Writer, refund_id: RefundId, body: OptionalBody) -> Response:
    """Withdraw a refund that was certainly never sent; one that is withdrawn already stays so."""
    return answered(refund_view(engine, lookup.withdraw(engine, machine, refund_id, reason=_reason(body))))


@router.get("/accounts/{account}/payments/{payment_id:path}/refundable", **documents.REFUNDABLE)
def get_refundable(
    request: Request,
    engine: TheEngine,
    machine: Reader,
    account: Annotated[str, Path(max_length=63)],
    payment_id: Annotated[str, Path(max_length=128)],
) -> Response:
    """What was captured, refunded, is on its way, and may still be refunded, as far as jobs have said."""
    return read(request, lookup.refundable(engine, machine, account, payment_id))


#: As an array: the decoder stops at the first job too many, where a list would be built before it is counted.
_Batch = msgspec.defstruct(
    "_Batch",
    [(f"job_{number}", msgspec.Raw, msgspec.Raw()) for number in range(MOST_JOBS)],
    array_like=True,
    forbid_unknown_fields=True,
)


class _Cancellation(msgspec.Struct, forbid_unknown_fields=True):
    reason: str = _REASON


def _reason(body: bytes) -> str:
    try:
        given = msgspec.json.decode(body or b"{}", type=_Cancellation).reason
    except msgspec.ValidationError as error:
        raise InvalidJob(FieldError("#", str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_json(error) from None
    if not 0 < len(given) <= 255 or not given.isprintable():  # noqa: PLR2004
        raise InvalidJob(FieldError("#/reason", "1 to 255 characters on one line are required"))

    return given


def _jobs(body: bytes, *, lines: bool) -> list[bytes]:
    """The jobs as they were sent, each still to be judged by itself; what is too many is never kept."""
    jobs = list(islice(_lines(body) if lines else _items(body), MOST_JOBS + 1))
    if not 0 < len(jobs) <= MOST_JOBS:
        raise InvalidJob(FieldError("#", f"1 to {MOST_JOBS} jobs are taken"))

    return jobs


def _lines(body: bytes) -> Iterator[bytes]:
    return filter(None, map(bytes.strip, BytesIO(body)))


def _items(body: bytes) -> Iterator[bytes]:
    try:
        batch = msgspec.json.decode(body, type=_Batch)
    except msgspec.ValidationError:
        raise InvalidJob(FieldError("#", f"an array of 1 to {MOST_JOBS} jobs is required")) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_json(error) from None

    return filter(None, map(bytes, msgspec.structs.astuple(batch)))


def _not_json(error: Exception) -> InvalidJob:
    return InvalidJob(FieldError("#", f"not JSON: {str(error)[:200]}"), code="malformed-json")


def _results(request: Request, engine: Engine, machine: Machine, jobs: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    """One chunk's results. A job whose result is an error of ours may have been accepted all the same.

    It may be sent again: its reference makes that safe.
    """
    try:
        receipts = submit_for(engine, machine, jobs, traceparents=[traceparent_of(request.scope)] * len(jobs))
    except Exception as error:  # noqa: BLE001 - every job gets its answer
        problem = of_error(error)
        yield from ({"status": problem.status, "problem": document(problem, request)} for _ in jobs)
        return
    views = iter(_views(engine, [each for each in receipts if each.problem is None]))
    for receipt in receipts:
        yield _result(next(views) if receipt.problem is None else receipt.problem, request)


def _result(answer: View | Exception, request: Request) -> dict[str, Any]:
    if isinstance(answer, Exception):
        problem = of_error(answer)
        return {"status": problem.status, "problem": document(problem, request)}
    refund, replayed = answer

    return {"status": 202, "refund": refund} | ({"replayed": True} if replayed else {})


def _views(engine: Engine, receipts: Sequence[Receipt]) -> list[View | Exception]:
    """What was accepted, in order. It is all committed: an error says of one alone that it cannot be shown."""
    replayed = [each.refund for each in receipts if each.replayed and each.refund is not None]
    firsts = iter(lookup.as_accepted(engine, replayed) if replayed else ())
    shown = [next(firsts) if each.replayed else each.refund for each in receipts]

    return [
        _view(engine, refund, replayed=receipt.replayed)
        for refund, receipt in zip(shown, receipts, strict=True)
        if refund is not None
    ]


def _view(engine: Engine, refund: Refund | Exception, *, replayed: bool) -> View | Exception:
    if isinstance(refund, Exception):
        return refund
    try:
        return refund_view(engine, refund), replayed
    except Exception as error:  # noqa: BLE001 - it becomes an answer
        return error
