"""The network between workers and provider: a small TCP proxy that passes, refuses, swallows, delays or resets."""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine
from enum import StrEnum
from typing import Any

from tests.support.processes import free_port

HOST = "127.0.0.1"
CHUNK = 65_536
_NO_LINGER = struct.pack("ii", 1, 0)  # closing sends RST
_AT_ONCE = 10.0


class Weather(StrEnum):
    """What happens to bytes on their way."""

    FINE = "fine"
    REFUSE = "refuse"  # nobody listens, open connections are reset
    SWALLOW = "swallow"  # connections open and stay open, and no byte arrives
    SLOW = "slow"  # every chunk waits; it arrives even if its sender has left
    RESET = "reset"  # now and then a chunk is lost and both ends get RST


class Proxy:
    """Listens on `port` and leads to `target`, both of 127.0.0.1. Its loop runs in a thread of its own."""

    def __init__(self, target: int, seed: str) -> None:
        self.port = free_port()
        self.seen: Counter[str] = Counter()  # chunks by what happened to them
        self._target = target
        self._chance = random.Random(seed)
        self._weather = Weather.FINE
        self._delay = 0.0
        self._probability = 0.0
        self._open: set[asyncio.StreamWriter] = set()
        self._pairs: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    @property
    def url(self) -> str:
        """Where the provider seems to be."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._do(self._listen())

    def stop(self) -> None:
        """Reset what is open and end the thread."""
        if not self._thread.is_alive():
            return
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_AT_ONCE)
        self._loop.close()

    def turn(self, weather: Weather, *, delay: float = 0.0, probability: float = 0.0) -> None:
        """From now on: `delay` seconds for each chunk (SLOW), `probability` of a reset for each chunk (RESET)."""
        self._do(self._turn(weather, delay, probability))

    # -- on the loop -------------------------------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_AT_ONCE)

    async def _turn(self, weather: Weather, delay: float, probability: float) -> None:
        before, self._weather = self._weather, weather
        self._delay, self._probability = delay, probability
        if Weather.REFUSE in (weather, before) or before is Weather.SWALLOW:
            self._reset_all()  # a stream that has lost bytes must not go on
        if weather is Weather.REFUSE:
            await self._deafen()
        else:
            await self._listen()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def _deafen(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _close(self) -> None:
        await self._deafen()
        self._reset_all()
        for pair in self._pairs:
            pair.cancel()
        await asyncio.gather(*self._pairs, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = asyncio.current_task()
        assert pair is not None
        self._pairs.add(pair)
        self._open.add(writer)
        try:
            await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            _reset(writer)
        finally:
            self._open.discard(writer)
            self._pairs.discard(pair)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_connection(HOST, self._target)
        self._open.add(their_writer)
        ends = (writer, their_writer)
        try:
            await asyncio.gather(
                self._carry(reader, their_writer, ends),
                self._carry(their_reader, writer, ends),
                return_exceptions=True,
            )
        finally:
            self._open.discard(their_writer)
            for end in ends:
                end.close()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: tuple[asyncio.StreamWriter, ...]
    ) -> None:
        """One direction, until its sender has closed."""
        while data := await reader.read(CHUNK):
            self.seen[self._weather] += 1
            match self._weather:
                case Weather.SWALLOW:
                    continue
                case Weather.SLOW:
                    await asyncio.sleep(self._delay)
                case Weather.RESET if self._chance.random() < self._probability:
                    self.seen["reset for real"] += 1
                    for end in ends:
                        _reset(end)
                    return
                case _:
                    pass
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()

    def _reset_all(self) -> None:
        for writer in list(self._open):
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()
