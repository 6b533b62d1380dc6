"""What stands between us and PostgreSQL: nothing, or a pooler that keeps no connection for anybody."""

from contextlib import ExitStack
from typing import Any

from sqlalchemy import Connection

from ledger.session import Ledger

_CONNECTIONS = 3


def hands_around(ledger: Ledger) -> bool:
    """Whether a pooler gives a server's process to one connection in one transaction and to another in the next.

    Then what a session sets or prepares meets whoever comes next, and is missing where it was made.
    """
    if ledger.sqlite:
        return False
    with ExitStack() as opened:
        connections = [opened.enter_context(ledger.engine.connect()) for _ in range(_CONNECTIONS)]
        first, again = ([_process(each) for each in connections] for _ in range(2))

    return first != again or len(set(first)) < _CONNECTIONS


def _process(connection: Connection) -> int:
    """The server's process that serves a transaction of this connection; a prepared statement would fail here."""
    with connection.begin():
        driver: Any = connection.connection.driver_connection
        (pid,) = driver.execute("SELECT pg_backend_pid()", prepare=False).fetchone()

    return int(pid)
