"""`refundry status` and `refundry doctor`: how things stand; exit status 0 fine, 1 a human is needed, 2 unhealthy."""

import asyncio
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from cli.errors import Unusable
from cli.output import Format
from cli.session import NO_REDIS, Session, require_current
from cli.times import money
from domain.state import LABELS, State
from domain.words import ago
from engine import health
from engine.health import Finding, Grade
from engine.view import stamp
from ledger import accounts, migrate

EXITS = {Grade.FINE: 0, Grade.ATTENTION: 1, Grade.UNHEALTHY: 2}
STYLES = {Grade.FINE: "green", Grade.ATTENTION: "yellow", Grade.UNHEALTHY: "red"}
EVERY = 2.0

Watch = Annotated[bool, typer.Option("--watch", help="Keep showing it until Ctrl-C.")]


def show_status(session: Session, *, watch: Watch = False) -> int | None:
    """Show how things stand.

    Exit status: 0 fine, 1 a human is needed, 2 unhealthy.
    """
    if watch:
        return _watch(session)
    overview = _overview(session)
    session.out.one(overview, lambda: [_picture(overview)])

    return EXITS[overview["grade"]]


def _overview(session: Session) -> dict[str, Any]:
    found = health.status(session.engine)
    workers = [
        {"name": each["name"], "kind": each["kind"], "beat_at": stamp(each["beat_at"]), "drain": bool(each["drain"])}
        for each in found["workers"]
    ]

    return {
        "grade": found["grade"],
        **{key: value for key, value in found.items() if key != "grade"},
        "workers": workers,
    }


def _watch(session: Session) -> int:
    if not session.out.for_people:
        return _stream(session)
    overview = _overview(session)
    with Live(_picture(overview), console=session.out.console, auto_refresh=False) as live:
        try:
            while True:
                live.update(_picture(overview), refresh=True)
                time.sleep(EVERY)
                overview = _overview(session)
        except KeyboardInterrupt:
            return EXITS[overview["grade"]]


def _stream(session: Session) -> int:
    """One line after the other for programs."""
    if session.out.format is not Format.JSONL:
        raise typer.BadParameter("--watch shows a table or writes jsonl")
    overview = _overview(session)
    try:
        while True:
            session.out.one(overview, list)
            session.out.console.file.flush()
            time.sleep(EVERY)
            overview = _overview(session)
    except KeyboardInterrupt:
        return EXITS[overview["grade"]]


def _picture(overview: dict[str, Any]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for name, value in _lines(overview):
        table.add_row(name, value)
    words = {
        Grade.FINE: "fine",
        Grade.ATTENTION: "a person is needed",
        Grade.UNHEALTHY: "unhealthy",
    }[overview["grade"]]

    return Group(table, Text(words, style=f"bold {STYLES[overview['grade']]}"))


def _lines(overview: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for state in State:
        if overview["states"][state]:
            yield LABELS[state][0], str(overview["states"][state])
    yield "Dead letters", f"{overview['dead_letters']} refunds, {overview['rejected_jobs']} rejected jobs"
    yield "Open approvals", str(overview["approvals_open"])
    if overview["over_refunded_payments"]:
        yield "Refunded beyond the captured amount", f"{overview['over_refunded_payments']} payments"
    if overview["external_open"]:
        yield "Made elsewhere, to be looked at", f"{overview['external_open']} refunds or chargebacks"
    if overview["differences_open"]:
        twice = overview["duplicates_open"]
        more = f", {twice} of them money that may have moved twice" if twice else ""
        yield "Differences to the providers", f"{overview['differences_open']} open{more}"
    unmatched, refused = overview["notifications_unmatched"], overview["notifications_refused_24h"]
    if unmatched or refused:
        yield "Notifications", f"{unmatched} without a refund, {refused} not the provider's in 24 h"
    for currency, sums in overview["unknown"].items():
        yield "Outcome unknown", f"{sums['count']} refunds, {money(sums['amount'], currency)}"
    if any(overview["webhooks"].values()):
        yield "Webhooks", "{failing} endpoints failing, {undelivered} events given up".format(**overview["webhooks"])
    if overview["paused"]:
        names = ("all accounts" if name == accounts.EVERY else name for name in overview["paused"])
        yield "First sendings paused", ", ".join(names)
    oldest = overview["oldest_due_seconds"]
    yield "Longest overdue", "nothing is due" if oldest is None else ago(oldest)
    yield "Workers", ", ".join(each["name"] for each in overview["workers"]) or "nobody was heard in the last 10 s"


def show_doctor(session: Session) -> int | None:
    """Look at everything that is needed.

    Database, migrations, Redis, beat, workers, clock, and each account's address and credentials. Exit status: 0 fine,
    1 a human is needed, 2 unhealthy.
    """
    engine = session.bare_engine
    findings = [*_migrations(session), *asyncio.run(health.doctor(engine))]
    rows = [{"what": each.what, "grade": each.grade, "says": each.says} for each in findings]
    session.out.rows(
        rows,
        {"What": lambda row: row["what"], "Grade": lambda row: row["grade"], "Says": lambda row: row["says"]},
        empty="",
    )

    return max(EXITS[each.grade] for each in findings)


def _migrations(session: Session) -> list[Finding]:
    try:
        require_current(session.bare_engine)
        fit = migrate.fit(session.bare_engine.ledger.engine)
    except Unusable as error:
        return [Finding("migrations", Grade.UNHEALTHY, str(error)), *_configured(session)]
    except SQLAlchemyError:
        return [Finding("migrations", Grade.UNHEALTHY, "the database does not answer"), *_configured(session)]

    if fit is migrate.Fit.AHEAD:
        words = "the schema is of a newer program than this one: upgrade this one too"
        return [Finding("migrations", Grade.ATTENTION, words), *_configured(session)]

    return [Finding("migrations", Grade.FINE, "up to date"), *_configured(session)]


def _configured(session: Session) -> list[Finding]:
    return [] if session.settings.redis.url is not None else [Finding("redis setting", Grade.UNHEALTHY, NO_REDIS)]
