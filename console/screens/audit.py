"""S12: the journal."""

import math
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from console.pages import exact, page
from console.screens.refunds import csv_line
from console.session import Signed, TheEngine
from engine.bootstrap import Engine
from ledger import journal
from ledger.journal import Place

router = APIRouter()

PAGE = 100
MOST_EXPORTED = 10_000
WINDOWS = {"1 h": 3600.0, "24 h": 86_400.0, "7 d": 604_800.0, "90 d": 7_776_000.0}


@router.get("/audit")
def show(
    request: Request,
    engine: TheEngine,
    _signed: Signed,
    actor: str = "",
    kind: str = "",
    subject: str = "",
    within: str = "24 h",
    before: str = "",
) -> Response:
    given = _given(actor, kind, subject, within)
    rows = _rows(engine, given, PAGE + 1, _place(before))

    return page(
        request,
        "audit.html",
        given=given,
        windows=list(WINDOWS),
        rows=rows[:PAGE],
        older=f"/audit?{urlencode({**given, 'before': _behind(rows[PAGE - 1])})}" if len(rows) > PAGE else "",
    )


@router.get("/audit.csv")
def export(
    engine: TheEngine, _signed: Signed, actor: str = "", kind: str = "", subject: str = "", within: str = "24 h"
) -> Response:
    rows = _rows(engine, _given(actor, kind, subject, within), MOST_EXPORTED, None)
    headers = {"Content-Disposition": 'attachment; filename="audit.csv"'}

    return StreamingResponse(_lines(rows), media_type="text/csv; charset=utf-8", headers=headers)


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield csv_line(("at", "actor", "what", "about", "seq", "data", "hash"))
    for each in rows:
        data = msgspec.json.encode(each["data"]).decode()
        yield csv_line(
            (exact(each["at"]), each["actor"], each["type"], each["subject"], each["seq"], data, each["hash"])
        )


def _given(actor: str, kind: str, subject: str, within: str) -> dict[str, str]:
    return {
        "actor": actor.strip(),
        "kind": kind.strip(),
        "subject": subject.strip(),
        "within": within if within in WINDOWS else "24 h",
    }


def _behind(row: Mapping[str, Any]) -> str:
    """Where the next page begins."""
    return f"{row['at']!r} {row['seq']} {row['subject']}"


def _place(before: str) -> Place | None:
    at, _, rest = before.partition(" ")
    seq, _, subject = rest.partition(" ")
    try:
        place = Place(float(at), subject, int(seq))
    except ValueError:
        return None

    return place if math.isfinite(place.at) else None


def _rows(engine: Engine, given: Mapping[str, str], limit: int, before: Place | None) -> list[dict[str, Any]]:
    now = engine.clock()
    with engine.ledger.read() as connection:
        return journal.recent(
            connection,
            limit=limit,
            now=now,
            subject=given["subject"] or None,
            actor=given["actor"] or None,
            kind=given["kind"] or None,
            since=now - WINDOWS[given["within"]],
            before=before,
        )
