"""The whole sandbox as one ASGI application."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route

from sandbox import jpm_smartpay, smart2pay, smart_glocal, smartpay, smartretry
from sandbox.control import Control
from sandbox.core import DEFAULT_PENDING_SECONDS, Clock, World
from sandbox.edge import Edge, Provider
from sandbox.faults import FaultPlan, parse_plan
from sandbox.notify import Notifier

ALL: dict[str, Provider] = {
    module.PROVIDER.name: module.PROVIDER for module in (smartpay, smartretry, jpm_smartpay, smart2pay, smart_glocal)
}


def create_app(
    *,
    clock: Clock = time.time,
    seed: int | None = None,
    faults: FaultPlan | list[object] | None = None,
    pending_seconds: float = DEFAULT_PENDING_SECONDS,
) -> Starlette:
    """A sandbox with a world of its own, found at `app.state.world`."""
    plan = faults if isinstance(faults, FaultPlan) else parse_plan(faults or [], seed)
    world = World(clock=clock, plan=plan, pending_seconds=pending_seconds)
    notifier = Notifier(world, ALL)
    control = Mount("/_sandbox", routes=Control(world, ALL, notifier).routes())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await notifier.close()

    app = Starlette(
        routes=[*(mount(world, provider, notifier) for provider in ALL.values()), control],
        lifespan=lifespan,
    )
    app.state.world = world
    app.state.notifier = notifier

    return app


def mount(world: World, provider: Provider, notifier: Notifier) -> BaseRoute:
    """A provider's endpoints below its prefix."""
    routes = [
        Route(
            endpoint.path,
            Edge(world, provider, endpoint, notifier.after_call),
            methods=[endpoint.method],
            name=f"{provider.name}:{endpoint.method}:{endpoint.path}",
        )
        for endpoint in provider.endpoints
    ]

    return Mount(provider.prefix, routes=routes)
