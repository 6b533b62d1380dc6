"""S1: how things stand."""

from fastapi import APIRouter, Request, Response

from console.pages import page
from console.session import Signed, TheEngine
from engine import overview, samples

router = APIRouter()

#: A worker that was not heard for so many seconds is not counted.
HEARD = 10.0


#: What each line of the charts is called, and its tone.
FLOW = (("accepted", "blue"), ("succeeded", "green"), ("failed", "red"), ("uncertain", "amber"))
SPREAD = (("p50", "blue"), ("p95", "violet"))
DUE = (("waiting", "blue"), ("stream", "violet"))
OVERDUE = (("overdue", "amber"),)


@router.get("/")
def show(request: Request, engine: TheEngine, _signed: Signed, window: str = "1h") -> Response:
    window = window if window in samples.WINDOWS else "1h"
    charts = samples.charts(engine, window)
    crew = overview.crew(engine)
    now = engine.clock()

    return page(
        request,
        "overview.html",
        live="5",
        window=window,
        windows=list(samples.WINDOWS),
        charts=charts,
        totals={name: sum(row[name] or 0 for row in charts.flow) for name, _ in FLOW},
        counted=any(row["accepted"] is not None for row in charts.flow),
        lines={"flow": FLOW, "spread": SPREAD, "due": DUE, "overdue": OVERDUE},
        crew=crew,
        alive=sum(each["kind"] == "worker" and now - each["beat_at"] < HEARD for each in crew["workers"]),
        accounts=overview.accounts(engine),
    )
