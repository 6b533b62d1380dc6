"""Celery's options: a message is a doorbell, so losing one costs latency and doubling one a lease check."""

import math
from typing import Any

from config.settings import Settings

INTAKE = "refundry.intake"
SEND = "refundry.send"
RECOVER = "refundry.recover"
POLL = "refundry.poll"
NOTIFY = "refundry.notify"
RECONCILE = "refundry.reconcile"
QUEUES = (INTAKE, SEND, RECOVER, POLL, NOTIFY, RECONCILE)

ROUTES = {
    "refunds.submit": INTAKE,
    "refunds.send": SEND,
    "refunds.tick": SEND,
    "refunds.recover": RECOVER,
    "refunds.poll": POLL,
    "refunds.notify": NOTIFY,
    "refunds.deliver": NOTIFY,
    "refunds.reconcile": RECONCILE,
    "refunds.compare": RECONCILE,
    "refunds.bulk": RECONCILE,
    "refunds.housekeep": RECONCILE,
    "refunds.purge": RECONCILE,
}

#: Longer than any task runs: a slice of a few seconds and the calls that it still waits for.
_VISIBILITY_TIMEOUT = 600
_MARGIN = 10
#: A tick that nobody took within this many seconds says nothing new: the next one is waiting behind it.
_TICK_EXPIRES = 60
#: Every process of a pool has its own connections; the worker's own needs its concurrency and 20 more.
_MAX_CONNECTIONS = 100
#: Who rings a doorbell has an accepted job to answer for, and lets go of a Redis that says nothing. Seconds; unbounded,
#: kombu tries to connect for six seconds, and waits ten for an answer.
RINGING = {"socket_timeout": 0.25, "socket_connect_timeout": 0.25, "max_retries": 0}


def celery_options(settings: Settings, longest_call: float) -> dict[str, Any]:
    """The options of the Celery app; `longest_call` is the longest total time-out of any account, in seconds.

    ValueError where no Redis is configured.
    """
    return {**_broker(settings, longest_call), **_worker(settings, longest_call), **_messages(), **_beat()}


def _broker(settings: Settings, longest_call: float) -> dict[str, Any]:
    if settings.redis.url is None:
        raise ValueError("redis.url: expected a value, found nothing")
    visibility_timeout = max(_VISIBILITY_TIMEOUT, 2 * math.ceil(longest_call + _MARGIN))
    return {
        "broker_url": settings.redis.url.replace("unix://", "redis+socket://", 1),
        "broker_use_ssl": _tls(settings.redis.url),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "visibility_timeout": visibility_timeout,
            "max_connections": _MAX_CONNECTIONS,
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        "visibility_timeout": visibility_timeout,
    }


def _tls(url: str) -> dict[str, str] | None:
    """Over TLS the server's certificate is checked, which kombu leaves out unless told."""
    return {"ssl_cert_reqs": "required"} if url.startswith("rediss://") and "ssl_" not in url else None


def _worker(settings: Settings, longest_call: float) -> dict[str, Any]:
    return {
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_eta_task_limit": 100,
        "worker_enable_remote_control": settings.celery.remote_control,
        "worker_send_task_events": settings.celery.events,
        "task_send_sent_event": settings.celery.events,
        "worker_soft_shutdown_timeout": longest_call + _MARGIN,
        "worker_enable_soft_shutdown_on_idle": True,
        # Killing a task in the middle of a call would make its outcome unknown.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # The lines go through our own pipeline.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }


def _messages() -> dict[str, Any]:
    return {
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": RECONCILE,
        "task_create_missing_queues": False,
        "task_queues": {name: {"exchange": name, "routing_key": name} for name in QUEUES},
        "task_routes": {task: {"queue": queue} for task, queue in ROUTES.items()},
        "enable_utc": True,
        "timezone": "UTC",
    }


def _beat() -> dict[str, Any]:
    return {"beat_schedule": beat_schedule()}


def beat_schedule() -> dict[str, dict[str, Any]]:
    """The periodic jobs. Beat may run twice or not at all: each of them is idempotent."""
    return {
        "refunds.tick": {
            "task": "refunds.tick",
            "schedule": 1.0,
            "options": {"expires": _TICK_EXPIRES},
        },
        "refunds.housekeep": {
            "task": "refunds.housekeep",
            "schedule": 60.0,
            "options": {"expires": _TICK_EXPIRES},
        },
        "refunds.purge": {
            "task": "refunds.purge",
            "schedule": 600.0,
            "options": {"expires": _TICK_EXPIRES},
        },
        "refunds.compare": {
            "task": "refunds.compare",
            "schedule": 60.0,
            "options": {"expires": _TICK_EXPIRES},
        },
    }
