"""Tasks that leave a trace of each start and end in a file."""

import os
import time
from pathlib import Path
from typing import Any

from celery import shared_task


@shared_task(bind=True)
def note(self: Any, path: str, name: str, seconds: float = 0.0, again: float = 0.0) -> None:
    """Take `seconds` the first time and `again` every further time."""
    journal = Path(path)
    seen = f"start {name} " in journal.read_text() if journal.exists() else False
    _write(journal, "start", name)
    time.sleep(again if seen else seconds)
    _write(journal, "end", name)


def _write(journal: Path, what: str, name: str) -> None:
    with journal.open("a") as file:
        file.write(f"{what} {name} {os.getpid()} {time.time()}\n")
