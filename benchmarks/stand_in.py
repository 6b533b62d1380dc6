"""A provider that costs next to nothing: answers every refund with success after a fixed time, and keeps a diary.

    python -m benchmarks.stand_in --port 8099 --latency 0.05

`POST /v1/refunds` is a Smartpay-like refund, final in its answer. `POST /hang/v1/refunds` never answers, and
`POST /throttle/v1/refunds` has always had too many requests. `GET /v1/refunds/{id}` is pending for ever.
`GET /_count` tells how many refunds were paid; `GET /_arrivals` when each `Idempotency-Key` came, and `GET /_asked`
when each refund was first asked about (epoch seconds).
"""

import argparse
import asyncio
import itertools
import json
import time

import uvloop

AMOUNT = 1000
CURRENCY = "JPY"
QUESTION = "/v1/refunds/"
_HEAD_END = b"\r\n\r\n"


class StandIn:
    """What all connections share: the latency, the numbering, the diary."""

    def __init__(self, latency: float) -> None:
        self.latency = latency
        self.arrivals: dict[str, float] = {}
        self.asked: dict[str, float] = {}
        self.doubled = 0
        self.paid = 0
        self._numbers = itertools.count(1)

    def arrived(self, handle: str) -> None:
        """Note a request, and whether its handle came before."""
        self.doubled += handle in self.arrivals
        self.arrivals.setdefault(handle, time.time())

    def pending(self, refund_id: str) -> bytes:
        """The answer to a question about one refund."""
        self.asked.setdefault(refund_id, time.time())
        return b'{"id":"%s","object":"refund","status":"pending"}' % refund_id.encode()

    def receipt(self) -> bytes:
        """The answer to one refund."""
        self.paid += 1
        number = next(self._numbers)
        return b'{"id":"refund_%x","object":"refund","amount":%d,"currency":"%s","status":"succeeded"}' % (
            number,
            AMOUNT,
            CURRENCY.encode(),
        )


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as much of it as one JSON POST needs."""

    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in
        self._loop = asyncio.get_running_loop()
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take as many whole requests as have arrived."""
        self._buffer += data
        while (end := self._buffer.find(_HEAD_END)) >= 0:
            head = self._buffer[:end].decode("latin-1")
            headers = parsed_headers(head)
            whole = end + len(_HEAD_END) + int(headers.get("content-length", 0))
            if len(self._buffer) < whole:
                return
            self._buffer = self._buffer[whole:]
            self._route(head.split(" ", 2)[1], headers)

    def _route(self, path: str, headers: dict[str, str]) -> None:
        match path:
            case "/v1/refunds":
                self._stand_in.arrived(headers.get("idempotency-key", ""))
                self._loop.call_later(self._stand_in.latency, self._pay)
            case "/hang/v1/refunds":
                pass
            case "/throttle/v1/refunds":
                self._answer(b'{"statusCode":429}', b"429 Too Many Requests")
            case "/_asked":
                self._answer(json.dumps(self._stand_in.asked).encode())
            case _ if path.startswith(QUESTION):
                answer = self._stand_in.pending(path.removeprefix(QUESTION))
                self._loop.call_later(self._stand_in.latency, self._answer, answer)
            case "/_count":
                self._answer(json.dumps({"paid": self._stand_in.paid, "doubled": self._stand_in.doubled}).encode())
            case "/_arrivals":
                self._answer(json.dumps(self._stand_in.arrivals).encode())
            case _:
                self._answer(b"{}", b"404 Not Found")

    def _pay(self) -> None:
        self._answer(self._stand_in.receipt())

    def _answer(self, body: bytes, status: bytes = b"200 OK") -> None:
        if not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (status, len(body), body)
            )


def parsed_headers(head: str) -> dict[str, str]:
    """The header fields after the request line, names in lower case."""
    pairs = (line.partition(":") for line in head.split("\r\n")[1:])
    return {name.lower(): value.strip() for name, _, value in pairs}


async def _serve(port: int, latency: float) -> None:
    stand_in = StandIn(latency)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(stand_in), "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds until the answer")
    given = parser.parse_args()
    uvloop.run(_serve(given.port, given.latency))


if __name__ == "__main__":
    main()
