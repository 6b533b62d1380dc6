"""S1: how things stand."""

from fastapi import APIRouter, Request, Response

from console.pages import page
from console.session import Signed, TheEngine
from engine import overview

router = APIRouter()

#: A worker that was not heard for so many seconds is not counted.
HEARD = 10.0


@router.get("/")
def show(request: Request, engine: TheEngine, _signed: Signed, window: str = "1h") -> Response:
    window = window if window in overview.WINDOWS else "1h"
    flow = overview.throughput(engine, window)
    totals = {each: sum(row[each] for row in flow) for each in overview.OUTCOMES}
    ages = overview.ages(engine)
    crew = overview.crew(engine)
    now = engine.clock()

    return page(
        request,
        "overview.html",
        live="5",
        window=window,
        windows=list(overview.WINDOWS),
        outcomes=overview.OUTCOMES,
        flow=flow,
        totals=totals,
        total=sum(totals.values()),
        ages=ages,
        most=max((row["count"] for row in ages), default=1),
        crew=crew,
        alive=sum(each["kind"] == "worker" and now - each["beat_at"] < HEARD for each in crew["workers"]),
        accounts=overview.accounts(engine),
    )
