"""The edge of the server: a provider's endpoint as an ASGI app, with the call's fault acted out.

A provider is plain functions from a Call to a Reply; everything that goes wrong on the wire
(lost answers, cut connections, half bodies) happens here and is the same for all of them.
"""

import asyncio
import dataclasses
import hashlib
import json
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import httpx
from starlette.types import Receive, Scope, Send

from sandbox.core import Json, Payment, Received, Refund, Stored, World
from sandbox.faults import MAX_HANG_SECONDS, Fault, Kind, Rule

CUT_EXTENSION = "sandbox.cut"
HTML = b"<!DOCTYPE html>\n<html><head><title>Service</title></head><body>Please wait.</body></html>\n"
INVALID: Any = object()

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it is written to the wire."""

    status: int
    payload: Json | None
    headers: Headers = ()
    media_type: str = "application/json"

    def encoded(self) -> bytes:
        """The body's bytes."""
        return b"" if self.payload is None else dump(self.payload)

    def with_headers(self, *headers: tuple[str, str]) -> "Reply":
        """The same answer with more headers."""
        return dataclasses.replace(self, headers=(*self.headers, *headers))


@dataclass(slots=True)
class Call:
    """A request as a provider sees it."""

    method: str
    path: str
    params: dict[str, str]
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    rule: Rule | None = None
    stored: Stored | None = None
    refund: Refund | None = None
    _parsed: Any = field(default=None, repr=False)

    def json(self) -> Any:
        """The body as JSON (fractions as Decimal), INVALID where it is none or not said to be."""
        if self._parsed is None:
            media_type = self.headers.get("content-type", "").partition(";")[0].strip()
            is_json = media_type.lower() == "application/json"
            self._parsed = parse_json(self.body) if is_json else INVALID

        return self._parsed

    def member(self, *path: str) -> Any:
        """A member of the body, None where there is none."""
        value = self.json()
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None

        return value

    def text(self, *path: str) -> str | None:
        """A member of the body if it is a string."""
        value = self.member(*path)

        return value if isinstance(value, str) else None

    def basic(self) -> tuple[str, str] | None:
        """User and password of an HTTP Basic header."""
        scheme, _, encoded = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            user, colon, password = b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return None

        return (user, password) if colon else None

    def fingerprint(self) -> str:
        """What makes two requests under one key the same."""
        return hashlib.sha256(self.path.encode() + b"\n" + self.body).hexdigest()


Handler = Callable[[World, Call], Reply]
Find = Callable[[World, Call], Payment | None]


def no_handle(_: Call) -> str | None:
    """For calls that carry no handle."""
    return None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path of one provider."""

    method: str
    path: str
    kinds: tuple[Kind, ...]
    handle: Handler
    payment: Find
    handle_of: Callable[[Call], str | None] = no_handle


@dataclass(frozen=True, slots=True)
class Message:
    """A signed notification."""

    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Provider:
    """Everything the server needs to know of one provider."""

    name: str
    prefix: str
    endpoints: tuple[Endpoint, ...]
    failure: Callable[[int], Reply]
    garble: Callable[[World, Call, Reply, Fault], Reply]
    notification: Callable[[World, Refund], Message | None]
    new_payment: Callable[[World, Payment], None]
    new_refund: Callable[[World, Payment], tuple[str, Json]]
    states: tuple[str, ...]
    default_currency: str
    methods: tuple[str, ...] = ()
    notifies_flips: bool = True
    scopes: Callable[[Payment | None], tuple[str, ...]] | None = None

    def scopes_of(self, payment: Payment | None) -> tuple[str, ...]:
        """The names under which a fault may address a call."""
        return self.scopes(payment) if self.scopes else (self.name,)


def dump(payload: Json) -> bytes:
    """JSON as bytes; fractions that the merchant sent go back as numbers."""
    return json.dumps(payload, default=float).encode()


Flush = Callable[[Call | None], Awaitable[None]]


def parse_json(body: bytes) -> Any:
    """Strict JSON with exact fractions; INVALID for anything else."""
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return INVALID


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


class Edge:
    """An endpoint as an ASGI application."""

    def __init__(self, world: World, provider: Provider, endpoint: Endpoint, notify: Flush) -> None:
        """Bind the endpoint to its world; `notify` sends what has become final."""
        self.world = world
        self.provider = provider
        self.endpoint = endpoint
        self.notify = notify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive one call, let the fault act, answer."""
        call = await read_call(scope, receive)
        self.world.settle()
        payment = self.endpoint.payment(self.world, call)
        call.rule = self._pick(payment)
        record = self._record(call, payment)
        fault = call.rule.fault if call.rule else None
        wire = Wire(scope, receive, send, record)
        if fault is Fault.REQUEST_LOST:
            await wire.cut()
            return
        if fault is Fault.ERROR_500_BEFORE:
            await wire.answer(self.provider.failure(500))
            return
        if fault is Fault.THROTTLED:
            await wire.answer(self.provider.failure(429).with_headers(("Retry-After", "1")))
            return
        reply = self._process(call, fault)
        await self.notify(call)
        await self._answer(wire, reply, call.rule)

    def _pick(self, payment: Payment | None) -> Rule | None:
        if not self.world.plan.rules or not self.endpoint.kinds:
            return None

        return self.world.plan.pick(
            scopes=self.provider.scopes_of(payment),
            kinds=self.endpoint.kinds,
            payment=payment.id if payment else None,
            number=payment.number if payment else 0,
        )

    def _record(self, call: Call, payment: Payment | None) -> Received:
        record = Received(
            provider=self.provider.name,
            call=self.endpoint.kinds[0] if self.endpoint.kinds else "other",
            method=call.method,
            path=call.path,
            payment=payment.id if payment else None,
            handle=self.endpoint.handle_of(call),
            sha256=hashlib.sha256(call.body).hexdigest(),
            at=self.world.clock(),
            fault=call.rule.fault if call.rule else None,
        )
        self.world.requests.append(record)

        return record

    def _process(self, call: Call, fault: Fault | None) -> Reply:
        reply = self.endpoint.handle(self.world, call)
        if fault in (Fault.UNKNOWN_STATUS, Fault.WRONG_AMOUNT) and fault is not None:
            reply = self.provider.garble(self.world, call, reply, fault)
            if call.stored is not None:
                call.stored.reply = dataclasses.replace(call.stored.reply, payload=reply.payload)

        return reply

    async def _answer(self, wire: "Wire", reply: Reply, rule: Rule | None) -> None:
        match rule.fault if rule else None:
            case Fault.ANSWER_LOST:
                await wire.cut()
            case Fault.ERROR_500_AFTER:
                await wire.answer(self.provider.failure(500))
            case Fault.SLOW if rule:
                await asyncio.sleep(rule.duration)
                await wire.answer(reply)
            case Fault.HANG if rule:
                await wire.hang(rule.duration)
            case Fault.HTML:
                await wire.write(200, HTML, "text/html; charset=utf-8", reply.headers)
            case Fault.TRUNCATED:
                whole = reply.encoded()
                half = whole[: len(whole) // 2]
                await wire.write(reply.status, half, reply.media_type, reply.headers)
            case _:
                await wire.answer(reply)


async def read_call(scope: Scope, receive: Receive) -> Call:
    """The whole request."""
    chunks: list[bytes] = []
    more = True
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    query = scope["query_string"]

    return Call(
        method=scope["method"],
        path=scope["path"],
        params=scope["path_params"],
        query=dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {},
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        body=b"".join(chunks),
    )


class Wire:
    """The way back to the client, and the ways of failing on it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, record: Received) -> None:
        """Take one request's channels."""
        self.scope = scope
        self.receive = receive
        self.send = send
        self.record = record

    async def answer(self, reply: Reply) -> None:
        """Write an answer as it is."""
        await self.write(reply.status, reply.encoded(), reply.media_type, reply.headers)

    async def write(self, status: int, body: bytes, media_type: str, headers: Headers) -> None:
        """Write status, headers and body; the length is the body's."""
        self.record.answered = status
        fields = [(b"content-type", media_type.encode()), (b"content-length", b"%d" % len(body))]
        fields += [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        await self.send({"type": "http.response.start", "status": status, "headers": fields})
        await self.send({"type": "http.response.body", "body": body})

    async def cut(self) -> None:
        """Close the TCP connection with no byte of an answer.

        In-process clients, which have no connection, see the exception a real one would raise.
        """
        self.record.answered = "cut"
        extension = self.scope.get("extensions", {}).get(CUT_EXTENSION)
        if extension is None:
            message = "Server disconnected without sending a response."
            raise httpx.RemoteProtocolError(message)
        extension["abort"]()
        await self._gone()

    async def hang(self, seconds: float) -> None:
        """Say nothing until the client leaves, or for so long."""
        self.record.answered = "cut"
        try:
            await asyncio.wait_for(self._gone(), min(seconds, MAX_HANG_SECONDS))
        except TimeoutError:
            await self.cut()

    async def _gone(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
