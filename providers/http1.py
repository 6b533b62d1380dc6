"""HTTP/1.1 on one socket: a request out, an answer in, and the connection kept only if nothing is left on it.

httptools reads the answers with llhttp, the parser of Node.js, as strictly as it can. Whatever a server does beyond one
clean answer to one request closes the connection, and nothing is ever sent twice.
"""

import asyncio
import re
import select
import zlib
from typing import cast

import httptools
import httpx

from providers.messages import Response

#: Of an answer's body, packed or not; and of what comes before it, interim answers included. In bytes.
MAX_ANSWER = 1_048_576
MAX_HEAD = 65_536

_HEAD = re.compile(rb"(?:[^\x00\r\n]+\r\n)+\r\n")
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_FINAL = 200


class Unfit(Exception):
    """A request that would not arrive as one, or an answer that HTTP/1.1 or our limits do not allow: says which."""


def written(request: httpx.Request) -> bytes:
    """The request as it goes over the wire. Raises Unfit where a line would end before its end."""
    headers = request.headers
    lines = [b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    lines += [b"%s: %s" % pair for pair in headers.raw]
    if "accept" not in headers:
        lines.append(b"Accept: application/json")
    if "accept-encoding" not in headers:
        lines.append(b"Accept-Encoding: identity")
    head = b"\r\n".join([*lines, b"", b""])
    if _HEAD.fullmatch(head) is None or head.count(b"\n") != len(lines) + 1:
        raise Unfit("a header with a line end in it")

    return head + request.content


class Connection(asyncio.Protocol):
    """One connection. It carries one exchange at a time, and another one as long as it is `free`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reading: _Reading | None = None
        self._lost = False
        #: When it was last made or used, by the loop's clock.
        self.used_at = self._loop.time()

    @property
    def open(self) -> bool:
        """Whether it may be worth keeping."""
        return not (self._lost or self._transport.is_closing())

    @property
    def free(self) -> bool:
        """Whether it can be used: open, and nothing lies on it, not even in the kernel."""
        return self.open and not (self._reading or self._poll.poll(0))

    async def exchange(self, request: httpx.Request, wire: bytes, *, silence: float, until: float) -> httpx.Response:
        """Send the request, `wire` being all of it, and read its answer.

        Bounded by the longest `silence` (seconds) and by the moment `until` (the loop's clock). Raises whatever went
        wrong: the request may have arrived, and the connection is closed.
        """
        if self._lost:
            raise ConnectionResetError("closed by the other side")
        self._answered = self._loop.create_future()
        self._reading = reading = _Reading()
        self._silence, self._until, self._heard = silence, until, self._loop.time()
        self._timer = self._loop.call_at(self._deadline(), self._on_time)
        try:
            self._transport.write(wire)
            await self._answered
            return reading.response(request)
        except BaseException:
            self._transport.abort()
            raise
        finally:
            self._timer.cancel()
            reading.close()
            self._reading = None
            self.used_at = self._loop.time()

    def close(self) -> None:
        """Close it; an exchange that is under way ends with an error."""
        self._transport.abort()

    # -- what the socket says ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Read on; what nobody has asked for closes the connection."""
        if self._reading is None or self._answered.done():
            self._transport.abort()
            return
        self._heard = self._loop.time()
        try:
            complete = self._reading.feed(data)
        except Unfit as error:
            self._fail(error)
        else:
            if complete:
                self._end(reusable=self._reading.reusable)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end: of an answer that has no other, or of hope."""
        self._lost = True
        if self._reading is not None and not self._answered.done():
            if exc is None and self._reading.ends_with_the_connection:
                self._end(reusable=False)
            else:
                self._fail(exc or ConnectionResetError("closed before the end of the answer"))

    def _end(self, *, reusable: bool) -> None:
        self._answered.set_result(None)
        if not reusable or self._transport.get_write_buffer_size():
            self._transport.close()

    def _fail(self, error: Exception) -> None:
        self._answered.set_exception(error)
        self._transport.abort()

    def _deadline(self) -> float:
        return min(self._heard + self._silence, self._until)

    def _on_time(self) -> None:
        """One timer for both bounds: a byte that came meanwhile is noticed when it fires."""
        if self._answered.done():
            return
        if self._loop.time() < self._deadline():
            self._timer = self._loop.call_at(self._deadline(), self._on_time)
        else:
            self._fail(TimeoutError())


class _Reading:
    """One answer as it comes in. The `on_` methods are called by httptools."""

    __slots__ = ("_body", "_complete", "_headers", "_in_body", "_parser", "_size", "_status", "reusable")

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = self._status = 0
        self._in_body = self._complete = False
        #: Whether the connection may carry another exchange after this one.
        self.reusable = False

    def feed(self, data: bytes) -> bool:
        """Whether the answer is complete. Raises Unfit for what is no answer, or beyond our limits."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise Unfit("a switch to another protocol") from None
        except httptools.HttpParserError as error:
            raise Unfit(f"not HTTP/1.1: {error}") from None
        if self._status and self._parser.get_http_version() not in ("1.1", "1.0"):
            raise Unfit("not HTTP/1.1, but another version")
        self._size += len(data)
        if self._size > MAX_HEAD and not self._in_body:
            raise Unfit(f"more than {MAX_HEAD} bytes before an answer")
        if self._size > MAX_HEAD + MAX_ANSWER:
            raise Unfit(f"HTTP {self._status} with more than {MAX_ANSWER} bytes")

        return self._complete

    @property
    def ends_with_the_connection(self) -> bool:
        """Whether the answer has no other end."""
        names = {name.lower() for name, _ in self._headers}

        return self._in_body and names.isdisjoint((b"content-length", b"transfer-encoding"))

    def response(self, request: httpx.Request) -> httpx.Response:
        """The answer, unpacked. Raises Unfit where it is too large, or packed in a way that we did not ask for."""
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        packed = [value for name, value in self._headers if name.lower() == b"content-encoding"]
        if packed:
            body = _unpacked(body, b",".join(packed).strip().lower())
            self._headers = [each for each in self._headers if each[0].lower() != b"content-encoding"]
        if len(body) > MAX_ANSWER:
            raise Unfit(f"HTTP {self._status} with more than {MAX_ANSWER} bytes")

        return Response(self._status, self._headers, body, request)

    def close(self) -> None:
        """Let the parser go, which leads back here: no cycle is left to the garbage collector."""
        del self._parser

    def on_message_begin(self) -> None:
        """A second answer at once belongs to no request of ours."""
        if self._complete:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep it; a trailer has nothing to say."""
        if not self._in_body:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The body begins."""
        if not self._complete:
            self._status = self._parser.get_status_code()
            self._in_body = self._status >= _FINAL

    def on_body(self, body: bytes) -> None:
        """Keep it."""
        if not self._complete:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """The end, unless it was an interim answer: what follows is the real one."""
        if self._complete:
            return
        if self._in_body:
            self._complete, self.reusable = True, self._parser.should_keep_alive()
        else:
            self._headers.clear()


def _unpacked(body: bytes, encoding: bytes) -> bytes:
    """We ask for `identity`, and read gzip and deflate all the same: some proxies pack what they like."""
    if encoding in (b"identity", b""):
        return body
    if encoding not in (b"gzip", b"x-gzip", b"deflate"):
        raise Unfit("an answer in an encoding that was not asked for")
    unpack = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        plain = unpack.decompress(body, MAX_ANSWER + 1)
    except zlib.error:
        raise Unfit("an answer that cannot be unpacked") from None
    if len(plain) <= MAX_ANSWER and not unpack.eof:
        raise Unfit("an answer that cannot be unpacked to its end")

    return plain
