"""The door for providers: what they report is verified by their adapter, kept, and answered at once."""

import asyncio
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from domain.errors import NotFound
from engine.bootstrap import Engine
from engine.notifications import MAX_BODY, receive
from engine.writer import AWAY

router = APIRouter(tags=["notifications"])

#: Seconds in which the whole body must have come.
PATIENCE = 10.0
#: Seconds after which a provider may try again while the ledger is away.
RETRY_AFTER = "5"
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Kept (204 where the provider expects that)."},
    400: {"description": "The provider's, and not a notification."},
    401: {"description": "Not shown to be the provider's: counted, and without any effect."},
    404: {"description": "There is no such account."},
    408: {"description": "The body did not come in time."},
    413: {"description": f"More than {MAX_BODY} bytes."},
    503: {"description": "The ledger is away; the provider repeats it."},
}


@router.post("/v1/webhooks/{account}", operation_id="receiveNotification", responses=ANSWERS)
async def post_notification(account: str, request: Request) -> Response:
    """Take a notification of an account's provider. No API key: the adapter verifies the body as it was sent."""
    body = await _read(request)
    engine: Engine = request.app.state.engine
    try:
        receipt = await run_in_threadpool(receive, engine, account, _headers(request), body)
    except NotFound as error:
        raise HTTPException(404, str(error)) from None
    except AWAY:
        raise HTTPException(503, "the ledger is away", {"Retry-After": RETRY_AFTER}) from None
    if not receipt.verified and receipt.status >= 400:  # noqa: PLR2004 - the lowest that says no
        raise HTTPException(receipt.status, receipt.why)

    return Response(status_code=receipt.status)


def _headers(request: Request) -> dict[str, str]:
    """A header that comes twice is one value, as HTTP has it: two passwords are no password."""
    given: dict[str, str] = {}
    for name, value in request.headers.items():
        given[name] = f"{given[name]}, {value}" if name in given else value

    return given


async def _read(request: Request) -> bytes:
    """The body; given up as soon as it is too large or too slow."""
    parts = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            async for part in request.stream():
                parts += part
                if len(parts) > MAX_BODY:
                    raise HTTPException(413, f"a notification has at most {MAX_BODY} bytes")
    except TimeoutError:
        raise HTTPException(408, f"the body did not come within {PATIENCE:g} seconds") from None

    return bytes(parts)
