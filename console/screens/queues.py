"""S9: what waits, and who works."""

from typing import Any

import redis
from fastapi import APIRouter, Request, Response

from config.celery import QUEUES
from console.pages import go, page
from console.session import Signed, TheEngine
from engine import operate, overview
from engine.bootstrap import Engine
from signals.depths import depths

router = APIRouter()


@router.get("/queues")
def show(request: Request, engine: TheEngine, _signed: Signed) -> Response:
    return page(request, "queues.html", live="5", queues=_queues(engine), crew=overview.crew(engine))


def _queues(engine: Engine) -> list[dict[str, Any]] | None:
    """None where Redis does not answer: the ledger's side is shown all the same."""
    if engine.redis is None:
        return None
    try:
        return depths(engine.redis, QUEUES)
    except redis.RedisError:
        return None


@router.post("/workers/drain")
def drain(engine: TheEngine, signed: Signed, name: str) -> Response:
    operate.drain(engine, signed.actor, name)

    return go("/queues", f"{name} takes no more jobs.")
