"""Who asks, what their key opens, and how often they may."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.together import Together
from domain.errors import QuotaExceeded, Unauthenticated
from engine.bootstrap import Engine
from engine.keys import WHO, Machine, Scope

bearer = HTTPBearer(auto_error=False, bearerFormat="rk_…", description="An API key: `refundry keys create`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]
POLICY = "default"
#: Recognises machines by what they send.
Gate = Together[str, Machine]


async def engine_of(request: Request) -> Engine:
    """The engine of this process. A coroutine, for FastAPI takes any other dependency to a thread and back."""
    found: Engine = request.app.state.engine

    return found


TheEngine = Annotated[Engine, Depends(engine_of)]


def opened_by(scope: Scope) -> Callable[..., Coroutine[Any, Any, Machine]]:
    """A dependency: the machine whose key opens `scope`, inside its rate limit."""

    async def enter(request: Request, engine: TheEngine, credentials: Credentials) -> Machine:
        if credentials is None:
            raise Unauthenticated("unauthenticated", WHO)
        gate: Gate = request.app.state.gate
        machine = await gate.ask(credentials.credentials)
        request.state.client = machine.key_id
        machine.require(scope)
        _take_one(engine, request, machine)

        return machine

    return enter


def _take_one(engine: Engine, request: Request, machine: Machine) -> None:
    """Count this request. The figures go with every answer, refusals too."""
    limit = engine.settings.api.rate_limit
    taken = engine.rates.take(machine.key_id, count=limit.count, seconds=limit.period)
    request.state.rate = {
        "RateLimit-Policy": f'"{POLICY}";q={limit.count};w={limit.period:g}',
        "RateLimit": f'"{POLICY}";r={taken.left};t={max(0, round(taken.reset))}',
    }
    if not taken.granted:
        words = f"{limit.count} requests in {limit.period:g} seconds are answered"
        raise QuotaExceeded(POLICY, words, retry_after=taken.reset)


Writer = Annotated[Machine, Depends(opened_by(Scope.WRITE))]
Reader = Annotated[Machine, Depends(opened_by(Scope.READ))]
