"""A pooler that shares PostgreSQL's connections by transaction, as PgBouncer does with `pool_mode = transaction`.

Only what trusted connections without TLS need: enough of the protocol to know where a transaction ends.
"""

import contextlib
import socket
import struct
import threading
from typing import Any

_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104


class Pooler:
    """Listens on a port of 127.0.0.1 in front of a server on another one."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._free: list[tuple[socket.socket, bytes]] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = [self._listening]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            startup = self._startup(client)
            server, greeting = self._server(startup)
            client.sendall(greeting)
            self._free.append((server, greeting))
            while True:
                self._transaction(client, startup)

    def _startup(self, client: socket.socket) -> bytes:
        """The client's wish for a database; wishes for encryption are refused."""
        while True:
            length = _exactly(client, 4)
            body = _exactly(client, struct.unpack("!I", length)[0] - 4)
            if struct.unpack("!I", body[:4])[0] not in (_SSL_REQUEST, _GSS_REQUEST):
                return length + body
            client.sendall(b"N")

    def _server(self, startup: bytes) -> tuple[socket.socket, bytes]:
        """The connection that was given back last, else a new one; and how it greeted."""
        if self._free:
            return self._free.pop()
        server = socket.create_connection(("127.0.0.1", self._server_port))
        self._open.append(server)
        server.sendall(startup)
        greeting = message = b""
        while message[:1] != b"Z":
            _, message = _message(server)
            greeting += message

        return server, greeting

    def _transaction(self, client: socket.socket, startup: bytes) -> None:
        """Everything until the server stands outside of a transaction again."""
        server: Any = None
        greeting = b""
        while True:
            kind, message = _message(client)
            if kind == b"X":
                raise EOFError
            if server is None:
                server, greeting = self._server(startup)
            server.sendall(message)
            if kind in (b"Q", b"S") and self._answered(client, server):
                self._free.append((server, greeting))
                return

    @staticmethod
    def _answered(client: socket.socket, server: socket.socket) -> bool:
        """Hand over an answer; whether the transaction is over with it."""
        while True:
            kind, message = _message(server)
            client.sendall(message)
            if kind == b"Z":
                return message[-1:] == b"I"


def _message(peer: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(peer, 5)

    return head[:1], head + _exactly(peer, struct.unpack("!I", head[1:])[0] - 4)


def _exactly(peer: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = peer.recv(count - len(found))
        if not part:
            raise EOFError
        found += part

    return found
