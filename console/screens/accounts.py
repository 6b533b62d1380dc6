"""S8: accounts at providers: how they answer, and the switches that people hold."""

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from console.pages import go, page
from console.session import Signed, TheEngine
from domain.errors import NotFound, Refused
from domain.words import ago
from engine import operate, overview, samples
from engine.account import Account
from ledger import journal
from signals.limits import Breaker

router = APIRouter()

LONGEST_HOLD = 240
SPREAD = (("p50", "blue"), ("p95", "violet"))
#: How a breaker's position looks in the band below the chart.
TONES = {Breaker.CLOSED: "green", Breaker.HALF_OPEN: "amber", Breaker.OPEN: "red"}
Reason = Annotated[str, Form(max_length=500)]


@router.get("/accounts")
def show(request: Request, engine: TheEngine, _signed: Signed) -> Response:
    return page(request, "accounts.html", live="5", accounts=overview.accounts(engine))


@router.get("/accounts/{name}")
def show_one(request: Request, engine: TheEngine, _signed: Signed, name: str, window: str = "1h") -> Response:
    account = engine.accounts.get(name)
    if account is None:
        raise NotFound("not-found", f"there is no account {name[:63]!r}")
    with engine.ledger.read() as connection:
        history = journal.story(connection, f"account/{name}")[::-1][:20]
    one = [each for each in overview.accounts(engine) if each["account"] is account]

    window = window if window in samples.WINDOWS else "1h"
    latencies, bands = samples.account_charts(engine, window, name)

    return page(
        request,
        "account.html",
        live="5",
        account=account,
        accounts=one,
        card=list(_card(account)),
        history=history,
        window=window,
        windows=list(samples.WINDOWS),
        latencies=latencies,
        lines=SPREAD,
        bands=bands,
        tones=TONES,
    )


def _card(account: Account) -> Iterator[tuple[str, Any]]:
    """What decides about repeats and look-ups, without secrets."""
    able, policy, limit = account.capabilities, account.policy, account.limit
    yield "Identity", account.provider.fingerprint
    yield "After a lost answer", f"{policy.recovery} first"
    yield "Same handle, same bytes", "never paid twice" if policy.deduplicates else "may be paid again"
    yield "Handle lives", ago(policy.handle_lifetime) if policy.handle_lifetime else "not documented"
    yield "Look-up", "by our handle" if able.matches_handle else "by the payment" if able.lookup else "none"
    yield "Partial refunds", "yes" if able.partial else "no"
    yield "Currencies", ", ".join(sorted(able.currencies)) if able.currencies else "any"
    yield "Time-outs", f"connect {account.connect_timeout:g} s, read {account.read_timeout:g} s"
    yield "Rate limit", f"{limit.rate:g} per second" if limit.rate else "none"
    yield "At once", limit.concurrency
    yield "Breaker", f"{limit.failures} faults in {limit.window:g} s open it for {limit.cooldown:g} s"
    yield "Attempts", policy.max_attempts
    yield "Polls until", ago(policy.poll_horizon)


@router.post("/accounts/{name}/pause")
def pause(engine: TheEngine, signed: Signed, name: str, reason: Reason = "") -> Response:
    operate.pause(engine, signed.actor, name, reason=_given(reason))

    return go(f"/accounts/{name}", "Paused: no first sendings until somebody resumes.")


@router.post("/accounts/{name}/resume")
def resume(engine: TheEngine, signed: Signed, name: str, reason: Reason = "") -> Response:
    operate.resume(engine, signed.actor, name, reason=_given(reason))

    return go(f"/accounts/{name}", "It sends again.")


@router.post("/accounts/{name}/breaker/{position}")
def hold(
    engine: TheEngine,
    signed: Signed,
    name: str,
    position: str,
    reason: Reason = "",
    minutes: Annotated[int, Form(ge=1, le=LONGEST_HOLD)] = 30,
) -> Response:
    if position not in ("open", "closed"):
        raise NotFound("not-found", "a breaker is held open or closed")
    operate.force_breaker(engine, signed.actor, name, position=position, seconds=minutes * 60.0, reason=_given(reason))

    return go(f"/accounts/{name}", f"Held {position} for {minutes} minutes.")


def _given(reason: str) -> str:
    if not reason.strip():
        raise Refused("reason-required", "a reason is required")

    return reason.strip()
