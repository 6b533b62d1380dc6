"""Answers as JSON, with what a client needs to ask again cheaply."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from fastapi import Request
from starlette.responses import Response

from domain.errors import Refused

MEDIA_TYPE = "application/json"
_CURSOR_LENGTH = 200


def answered(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as JSON."""
    return Response(msgspec.json.encode(value), status, headers=headers, media_type=MEDIA_TYPE)


def read(request: Request, value: Any, headers: Mapping[str, str] | None = None) -> Response:
    """What a GET answers: with an ETag, or 304 where the client has it already."""
    body = msgspec.json.encode(value)
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    more = {**(headers or {}), "ETag": tag}
    if known & {tag, "*"}:
        return Response(status_code=304, headers=more)

    return Response(body, headers=more, media_type=MEDIA_TYPE)


def page(request: Request, data: list[Any], *, more: bool, last: str | None) -> Response:
    """One page of a list. `last`: the id of its last object."""
    cursor = cursor_after(request, last) if more and last else None
    value = {"object": "list", "data": data, "has_more": more, "next_cursor": cursor}
    link = {} if cursor is None else {"Link": f'<{_next(request, cursor)}>; rel="next"'}

    return read(request, value, link)


def cursor_after(request: Request, last: str) -> str:
    """Where to go on, for these filters only; opaque to the client."""
    return base64.urlsafe_b64encode(msgspec.json.encode([last, _filters(request)])).decode().rstrip("=")


def start_of(request: Request, cursor: str | None) -> str | None:
    """The id to go on after. Raises Refused for a cursor that is not ours, or of other filters."""
    if cursor is None:
        return None
    try:
        padded = cursor[:_CURSOR_LENGTH] + "=" * (-len(cursor) % 4)
        last, filters = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=tuple[str, str])
    except (ValueError, msgspec.MsgspecError):
        raise Refused("cursor-invalid", "this is no cursor of ours") from None
    if filters != _filters(request) or not last.isascii() or not last.isprintable():
        raise Refused("cursor-invalid", "this cursor belongs to a list with other filters")

    return last


def _others(request: Request, *without: str) -> list[tuple[str, str]]:
    return sorted((name, value) for name, value in request.query_params.multi_items() if name not in without)


def _filters(request: Request) -> str:
    return hashlib.sha256(msgspec.json.encode(_others(request, "cursor", "limit"))).hexdigest()[:16]


def _next(request: Request, cursor: str) -> str:
    return f"{request.url.path}?{urlencode([*_others(request, 'cursor'), ('cursor', cursor)])}"
