"""The socket: one keep-alive connection pool per account and loop, and the one place where its faults are judged.

aiohttp is used directly. The adapter that puts it under httpx maps a connection cut after the request had left to
`ConnectTimeout`, which would read as "never sent"; here each exception stands on one side or the other.
"""

from functools import lru_cache
from typing import Any, Protocol

import aiohttp
import httpx
import yarl

from domain.outcome import NotSent, NotSentReason, Unknown

MAX_ANSWER = 1_048_576

# Raised before the first byte of the request can have left: name resolution, connecting, TLS.
NEVER_LEFT: tuple[type[BaseException], ...] = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
)
Answer = httpx.Response | NotSent | Unknown


class Network(Protocol):
    """Sends one request: a response, or what its absence proves."""

    async def send(self, request: httpx.Request) -> Answer:
        """Never raises for a fault of the network."""

    async def close(self) -> None:
        """Close every connection."""


class Transport:
    """HTTP over aiohttp: no redirects, no retries, answers capped at 1 MiB, every phase bounded in time (seconds)."""

    def __init__(self, *, connect_timeout: float, read_timeout: float) -> None:
        self._timeout = aiohttp.ClientTimeout(
            total=connect_timeout + read_timeout, sock_connect=connect_timeout, sock_read=read_timeout
        )
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: httpx.Request) -> Answer:
        """See `Network`."""
        try:
            return await self._exchange(request)
        except NEVER_LEFT as error:
            return NotSent(reason=NotSentReason.CONNECTION, detail=_words(error))
        except Exception as error:  # noqa: BLE001 - whatever else happens may have happened after the request left
            return Unknown(reason=f"no answer: {_words(error)}")

    async def close(self) -> None:
        """See `Network`."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _exchange(self, request: httpx.Request) -> Answer:
        async with self._open().request(
            request.method,
            _address(str(request.url)),
            headers=request.headers.multi_items(),
            data=request.content or None,
            allow_redirects=False,
        ) as response:
            body = await _capped(response)
            if body is None:
                return Unknown(reason=f"HTTP {response.status} with more than {MAX_ANSWER} bytes")
            headers = [(k, v) for k, v in response.raw_headers if k.lower() != b"content-encoding"]

            return httpx.Response(response.status, headers=headers, content=body, request=request)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_Connector(limit=0, keepalive_timeout=15.0, ttl_dns_cache=30),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                skip_auto_headers=("User-Agent",),
                trust_env=False,
            )

        return self._session


class _Connector(aiohttp.TCPConnector):
    """Uses a connection again only if nothing lies on it.

    aiohttp looks for that when a connection goes back, not when it is taken: what a server sends meanwhile would be
    read as the answer to the next request.
    """

    async def _get(self, key: Any, traces: list[Any]) -> aiohttp.connector.Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()

        return None


@lru_cache(maxsize=256)
def _address(url: str) -> yarl.URL:
    return yarl.URL(url, encoded=True)


async def _capped(response: aiohttp.ClientResponse) -> bytes | None:
    # The length is that of the bytes on the wire; what they unpack to is counted as it comes.
    plain = "Content-Encoding" not in response.headers
    if plain and response.content_length is not None and response.content_length <= MAX_ANSWER:
        return await response.read()
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_ANSWER:
            response.close()
            return None
        parts.append(part)

    return b"".join(parts)


def _words(error: BaseException) -> str:
    """What happened, without the URL: it may hold what should not be logged."""
    name = type(error).__name__

    return f"{name} {error.strerror}" if isinstance(error, OSError) and error.strerror else name
