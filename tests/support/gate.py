"""A TCP listener that passes everything on to a server of this machine, over TLS in front if asked."""

import contextlib
import socket
import ssl
import threading

from tests.support.certificates import Certificates


class Gate:
    """Listens on `address`, on a free port unless one is given, and leads to `target`, a port of 127.0.0.1."""

    def __init__(self, address: str, target: int, *, port: int = 0, tls: Certificates | None = None) -> None:
        self._target = target
        self._server = socket.create_server((address, port))
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            self._server = context.wrap_socket(self._server, server_side=True)
        self.port: int = self._server.getsockname()[1]
        self._open = True
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let nobody else in."""
        self._open = False
        self._server.shutdown(socket.SHUT_RDWR)  # ends a waiting accept
        self._thread.join()
        self._server.close()

    def _accept(self) -> None:
        while self._open:
            with contextlib.suppress(OSError):  # a client that does not trust us leaves in the handshake
                client, _ = self._server.accept()
                threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        _notice_when_it_is_gone(client)
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as server:
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join()


def _notice_when_it_is_gone(client: socket.socket) -> None:
    """As the server behind would, sooner: a machine that is cut off says nothing, and this end would wait for ever."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 3)):
        client.setsockopt(socket.IPPROTO_TCP, option, value)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
