"""Bodies as bytes: of a known kind, never larger than allowed, never slower than patience lasts."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request

from api.problems import Faulty
from domain.job import MAX_BYTES
from engine.notifications import MAX_BODY as MOST_NOTIFIED

MOST_BATCH = 10 * MAX_BYTES
#: Batches that are read and worked on at once.
TURNS = 2
JSON = "application/json"
LINES = "application/x-ndjson"


async def small_body(request: Request) -> bytes:
    """The JSON of one job."""
    patience: float = request.app.state.engine.settings.api.body_timeout
    _one_of(request, JSON)

    return await _read(request, MAX_BYTES, patience)


async def optional_body(request: Request) -> bytes:
    """A small JSON document, or nothing at all."""
    patience: float = request.app.state.engine.settings.api.body_timeout
    body = await _read(request, MAX_BYTES, patience)
    if body:
        _one_of(request, JSON)

    return body


async def large_body(request: Request) -> AsyncIterator[bytes]:
    """The JSON or the lines of a batch, in its turn: so many batches are in memory at once, until they are answered."""
    turns: asyncio.Semaphore = request.app.state.turns
    patience: float = request.app.state.engine.settings.api.batch_timeout
    _one_of(request, JSON, LINES)
    try:
        await asyncio.wait_for(turns.acquire(), patience)
    except TimeoutError:
        raise Faulty(503, "other batches come first", retry_after=1) from None
    try:
        yield await _read(request, MOST_BATCH, patience)
    finally:
        turns.release()


async def notified_body(request: Request) -> bytes:
    """What a provider sends, as it was sent: its signature covers every byte."""
    patience: float = request.app.state.engine.settings.api.body_timeout

    return await _read(request, MOST_NOTIFIED, patience)


SmallBody = Annotated[bytes, Depends(small_body)]
OptionalBody = Annotated[bytes, Depends(optional_body)]
LargeBody = Annotated[bytes, Depends(large_body, scope="function")]
NotifiedBody = Annotated[bytes, Depends(notified_body)]


def media_type(request: Request) -> str:
    """What the body says it is, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _one_of(request: Request, *kinds: str) -> None:
    _, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.lower().replace(" ", "").replace('"', "")
    if media_type(request) not in kinds or charset not in ("", "charset=utf-8", "charset=utf8"):
        raise Faulty(415, f"Content-Type: {' or '.join(kinds)} is required, in UTF-8")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Faulty(415, "Content-Encoding: bodies are taken as they are, not compressed")


async def _read(request: Request, most: int, patience: float) -> bytes:
    """The body, given up as soon as it is too large: what is left of it is never kept."""
    if int(request.headers.get("content-length") or 0) > most:
        raise _too_large(most)
    parts = bytearray()
    try:
        async with asyncio.timeout(patience):
            async for part in request.stream():
                if len(parts) + len(part) > most:
                    raise _too_large(most)
                parts += part
    except TimeoutError:
        raise Faulty(408, f"the body did not arrive within {patience:g} seconds") from None

    return bytes(parts)


def _too_large(most: int) -> Faulty:
    return Faulty(413, f"at most {most} bytes are taken")
