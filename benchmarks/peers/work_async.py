"""The work of every peer that has an event loop: one refund, two commits, one request.

As work.py, with asyncpg and the same aiohttp that the project itself uses: httpx's shared pool would cost these more
the more requests are under way.
"""

import json
import os
import sys
import time

import aiohttp
import asyncpg

TAKE = "UPDATE refund SET state = 'sending', updated_at = $2 WHERE id = $1 AND state = 'queued' RETURNING *"
START = "INSERT INTO attempt (refund_id, no, started_at) VALUES ($1, 1, $2)"
END = "UPDATE attempt SET ended_at = $2, http_status = $3, answer = $4 WHERE refund_id = $1"
CLOSE = "UPDATE refund SET state = $3, provider_refund_id = $4, updated_at = $2 WHERE id = $1"
CONNECTIONS = 20


class Work:
    """One process's connections; opened on the loop that uses them."""

    def __init__(self, database: asyncpg.Pool, http: aiohttp.ClientSession) -> None:
        self._database = database
        self._http = http
        self._url = f"{os.environ['PEER_PROVIDER']}/refunds"

    @classmethod
    async def open(cls) -> "Work":
        """Connect to the database and make the client."""
        address = os.environ["PEER_DATABASE"].replace("+psycopg", "")
        database = await asyncpg.create_pool(address, min_size=CONNECTIONS, max_size=CONNECTIONS)
        return cls(database, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()
        await self._database.close()

    async def pay(self, refund_id: str) -> None:
        """Pay one refund."""
        async with self._database.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(TAKE, refund_id, time.time())
            if row is None:
                return
            await connection.execute(START, refund_id, time.time())
        body = {"payment": row["payment"], "amount": row["amount"], "currency": row["currency"], "reference": refund_id}
        async with self._http.post(self._url, json=body, headers={"Idempotency-Key": refund_id}) as answer:
            status, text = answer.status, await answer.text()
        found = json.loads(text)
        async with self._database.acquire() as connection, connection.transaction():
            await connection.execute(END, refund_id, time.time(), status, text)
            await connection.execute(CLOSE, refund_id, time.time(), found["status"], found["id"])


def wanted() -> list[str]:
    """The refunds named on the command line: `FIRST LAST`."""
    first, last = map(int, sys.argv[1:3])
    return [f"rf_{number}" for number in range(first, last + 1)]
