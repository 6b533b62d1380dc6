"""httpx's request and response where the whole body is at hand.

httpx leads every body through its streams and decoders: of what a refund costs a worker that was a fifteenth (decision
0027).
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import httpx

_ELSEWHERE = httpx.ByteStream(b"")  # given a stream, httpx looks for no body


class _AtHand:
    """What httpx asks of a body, answered at once."""

    _whole: bytes

    @property
    def content(self) -> bytes:
        """The body."""
        return self._whole

    def read(self) -> bytes:
        """The body."""
        return self._whole


class Request(_AtHand, httpx.Request):
    """A request with a body, over the wire what `httpx.Request` would be, to the byte."""

    def __init__(self, method: str, url: str, headers: Iterable[tuple[str, str]], content: bytes) -> None:
        parsed, host = _parsed(url)
        whole = [("Host", host), *headers, ("Content-Length", str(len(content)))]
        super().__init__(method, parsed, headers=whole, stream=_ELSEWHERE)
        self._whole = content


@lru_cache(maxsize=256)
def _parsed(url: str) -> tuple[httpx.URL, str]:
    """Parsed once, with its host: an account posts to few addresses, most to one."""
    parsed = httpx.URL(url)

    return parsed, parsed.netloc.decode("ascii")


class Response(_AtHand, httpx.Response):
    """An answer as it came, its body unpacked."""

    def __init__(
        self, status: int, headers: Sequence[tuple[bytes, bytes]], content: bytes, request: httpx.Request
    ) -> None:
        super().__init__(status, headers=headers, request=request, stream=_ELSEWHERE)
        self._whole = content
