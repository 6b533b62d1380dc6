"""A DBOS workflow per refund, as a good team would write it: each step is recorded, the queue is in PostgreSQL.

python -m benchmarks.peers.plain_dbos
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

from dbos import DBOS, DBOSClient

from benchmarks.peers import work

ADDRESS = os.environ["PEER_DATABASE"].replace("+psycopg", "")
SYSTEM = f"{ADDRESS}_dbos"
CONCURRENCY = int(os.environ.get("PEER_CONCURRENCY", "32"))


@DBOS.step()
def take(refund_id: str) -> dict[str, object] | None:
    """Take the refund and record the attempt."""
    return work.take(refund_id)


@DBOS.step()
def send(refund_id: str, body: dict[str, object]) -> tuple[int, str]:
    """Ask the provider."""
    return work.send(refund_id, body)


@DBOS.step()
def record(refund_id: str, status: int, answer: str) -> None:
    """Record the answer."""
    work.record(refund_id, status, answer)


@DBOS.workflow(name="refund")
def refund(refund_id: str) -> None:
    """Pay one refund; after a crash it goes on behind the last recorded step."""
    body = take(refund_id)
    if body is not None:
        record(refund_id, *send(refund_id, body))


def hand_in() -> None:
    """Make DBOS's own tables and the queue, and put the refunds named on the command line into it."""
    subprocess.run([Path(sys.executable).with_name("dbos"), "migrate", "--sys-db-url", SYSTEM], check=True)
    client = DBOSClient(system_database_url=SYSTEM)
    client.register_queue("refunds", worker_concurrency=CONCURRENCY, polling_interval_sec=0.1)
    for each in work.wanted():
        client.enqueue({"workflow_name": "refund", "queue_name": "refunds"}, each)
    client.destroy()


def serve() -> None:
    """Work until killed; every process is an executor of its own, else one would recover what another is doing."""
    DBOS(
        config={
            "name": "refunds",
            "system_database_url": SYSTEM,
            "executor_id": str(os.getpid()),
            "log_level": "WARNING",
            "run_admin_server": False,
        }
    )
    DBOS.launch()
    threading.Event().wait()


if __name__ == "__main__":
    hand_in() if len(sys.argv) > 1 else serve()
