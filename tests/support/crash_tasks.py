"""Tasks for tests that end a worker in the middle of one."""

import os
import time
from pathlib import Path
from typing import Any

from celery import shared_task


@shared_task(bind=True, acks_late=True)
def slow(self: Any, path: str, seconds: float) -> int:
    """Take so long the first time and no time again; each start and end is a line of the file."""
    journal = Path(path)
    starts = journal.read_text().count("start") if journal.exists() else 0
    redelivered = self.request.delivery_info.get("redelivered")
    with journal.open("a") as file:
        file.write(f"start {starts} {os.getpid()} redelivered={redelivered}\n")
    time.sleep(0 if starts else seconds)
    with journal.open("a") as file:
        file.write(f"end {starts} {os.getpid()}\n")
    return starts
