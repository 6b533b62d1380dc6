"""Whether this process lives, whether jobs are accepted, and figures for Prometheus."""

import ipaddress

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api import documents
from api.access import Credentials, TheEngine, opened_by
from api.answers import answered
from api.problems import answer
from engine.health import reachable
from engine.keys import Scope
from engine.problems import Problem

router = APIRouter(tags=["probes"])

_metrics = opened_by(Scope.METRICS)
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


@router.get("/healthz", **documents.HEALTHZ)
async def healthz() -> Response:
    """This process answers. It asks nobody else, and does not wait for a free thread."""
    return answered({"status": "ok"})


@router.get("/readyz", **documents.READYZ)
def readyz(request: Request, engine: TheEngine) -> Response:
    """Jobs are accepted as long as the database answers: without Redis they are found by beat's round."""
    found = reachable(engine)
    if found["database"] == "ok":
        return answered({"status": "ready", **found})

    problem = Problem(
        status=503,
        code="database-unreachable",
        title="Not ready",
        detail="the database does not answer",
        retry_after=1,
        more=found,
    )

    return answer(problem, request)


async def _may_see_figures(request: Request, engine: TheEngine, credentials: Credentials) -> None:
    if not (engine.settings.api.metrics_on_loopback and _is_local(request)):
        await _metrics(request, engine, credentials)


@router.get("/metrics", dependencies=[Depends(_may_see_figures)], **documents.METRICS)
def metrics(request: Request) -> Response:
    """With a key of the scope `metrics:read`; where `[api] metrics_on_loopback` says so, from this machine without."""
    body, media_type = request.app.state.figures.text()

    return Response(body, headers={"Content-Type": media_type})


def _is_local(request: Request) -> bool:
    """From a loopback address, and through no proxy that would make everybody look like that."""
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
