"""The door for providers: what they report is verified by their adapter, kept, and answered at once."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from api import documents
from api.access import TheEngine
from api.bodies import NotifiedBody
from api.problems import Faulty
from engine.notifications import receive

router = APIRouter(prefix="/v1", tags=["notifications"])


@router.post("/webhooks/{account}", **documents.NOTIFY)
def post_notification(
    request: Request, engine: TheEngine, account: Annotated[str, Path(max_length=63)], body: NotifiedBody
) -> Response:
    """Take a notification of an account's provider. No API key: the adapter verifies the body as it was sent."""
    address = request.client.host if request.client else None
    receipt = receive(engine, account, _headers(request), body, address=address)
    if not receipt.verified and receipt.status >= 400:  # noqa: PLR2004 - the lowest that says no
        raise Faulty(receipt.status, receipt.why or "this is not the provider's")

    return Response(status_code=receipt.status)


def _headers(request: Request) -> dict[str, str]:
    """A header that comes twice is one value, as HTTP has it: two passwords are no password."""
    given: dict[str, str] = {}
    for name, value in request.headers.items():
        given[name] = f"{given[name]}, {value}" if name in given else value

    return given
