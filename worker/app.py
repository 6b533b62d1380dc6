"""What Celery is started with: `celery -A worker.app worker`."""

from typing import Any

from celery.apps import worker as celery_worker
from celery.signals import worker_process_init, worker_process_shutdown, worker_shutdown

from config.logging import said
from config.settings import load_settings
from tasks import runtime
from tasks.app import configure
from worker.companion_step import CompanionStep

settings = load_settings()
runtime.prepare(settings)
app = configure(settings)
app.steps["worker"].add(CompanionStep)
# What it says when a signal comes it would write beside the log.
celery_worker.safe_say = lambda words, *_: said("celery.worker", words)  # type: ignore[attr-defined]


@worker_process_init.connect
def _open(**_kwargs: Any) -> None:
    """Build the child's loop, pools and pumps before its first doorbell."""
    runtime.runtime()


@worker_process_shutdown.connect
@worker_shutdown.connect
def _close(**_kwargs: Any) -> None:
    """Finish what is in flight."""
    runtime.close()
