"""The console's pages over a million refunds: how long each takes, and how much a first visit loads.

    python -m benchmarks --only console

The ledger is PostgreSQL with everything that a page could look at: refunds (most of them paid, some in every other
state), their payments, attempts and events, a delivery of each to a webhook endpoint, notifications, differences of
reconciliation, and the charts' figures of seven days. The console is a process of its own, and one operator who has
signed in asks for each page in turn; a time is that from the request to the last byte of the answer.
"""

import contextlib
import itertools
import os
import re
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from psycopg import Cursor

from benchmarks.ground import Ground, Installation, job, smartpay
from benchmarks.measured import Row, percentile, short, spread
from domain.ids import made_of
from domain.job import canonical, parse
from engine import people, samples, sessions, webhooks
from engine.bootstrap import Engine, bootstrap
from engine.people import Actor, Role
from tests.support.processes import LocalProcess, free_port, wait_until

ROWS, FEW = 1_000_000, 100_000
ROUNDS = 20
ALLOWED_MS, ALLOWED_BYTES = 150, 120_000
PASSWORD = "correct horse battery"
SPAN = 30 * 86_400.0
MINUTES = 7 * 1440
#: Of a thousand refunds so many stand in each state.
STATES = {"review": 4, "unknown": 2, "pending": 6, "queued": 8, "failed": 20, "reversed": 1}
OPEN = ("queued", "pending", "unknown")
FINAL = ("succeeded", "failed", "reversed")
CAUSES = {"review": "mismatch", "reversed": "reversed"}
OUTCOMES = ["succeeded"] * 47 + ["pending", "unknown", "declined"]
PAGES = {
    "overview": "/",
    "overview, 7 days": "/?window=7d",
    "refunds": "/refunds",
    "refunds by state": "/refunds?state=failed",
    "refunds in a state that none is in": "/refunds?state=sending",
    "refunds by account": "/refunds?account=shop&state=pending",
    "refunds of a day": "/refunds?from={day}&to={day}",
    "refunds by amount": "/refunds?q=amount:10..20",
    "refunds by e-mail": "/refunds?q=nobody@example.com",
    "refunds by any id": "/refunds?q=nothing",
    "a later page of refunds": "/refunds?before={middle}",
    "a refund": "/refunds/{middle}",
    "the form": "/refunds/new",
    "dead letters": "/dead",
    "a group of dead letters": "/dead?cause=mismatch",
    "approvals": "/approvals",
    "reconciliation": "/recon",
    "runs": "/recon/runs",
    "accounts": "/accounts",
    "an account": "/accounts/shop",
    "queues": "/queues",
    "received": "/webhooks",
    "received without a refund": "/webhooks?only=unmatched",
    "sent": "/webhooks/sent",
    "sent and given up": "/webhooks/sent?state=undelivered",
    "endpoints": "/webhooks/endpoints",
    "audit": "/audit",
    "audit, 90 days": "/audit?within=90+d",
    "audit of a person": "/audit?within=90+d&actor=oli",
    "audit of a kind": "/audit?within=90+d&kind=refund.retried",
    "settings": "/settings",
}


def measure(*, quick: bool) -> list[Row]:
    """Every page against its bar, and the first visit against its own."""
    with Ground() as ground:
        installation = ground.installation({"shop": smartpay(ground.provider)})
        engine = bootstrap(installation.load())
        try:
            known = _fill(engine, FEW if quick else ROWS)
            with _console(ground, installation) as url, _operator(url) as browser:
                times = {name: _times(browser, path.format(**known)) for name, path in PAGES.items()}
                return [_pages_row(times), _visit_row(browser)]
        finally:
            engine.close()


def _times(browser: httpx.Client, path: str) -> list[float]:
    """Milliseconds of each request but the first, which prepares statements."""
    taken = []
    for _ in range(1 + ROUNDS):
        started = time.perf_counter()
        answer = browser.get(path)
        taken.append(1000 * (time.perf_counter() - started))
        assert answer.status_code == httpx.codes.OK, f"{path}: {answer.status_code}"

    return taken[1:]


def _pages_row(times: dict[str, list[float]]) -> Row:
    slowest = max(times, key=lambda name: percentile(times[name], 95))
    worst = percentile(times[slowest], 95)

    return Row(
        what="the console's slowest page",
        figure=f"p95 {short(worst)} ms: {slowest}",
        bar=f"below {ALLOWED_MS} ms",
        holds=worst < ALLOWED_MS,
        details={name: spread(values, "ms") for name, values in times.items()},
        raw=[{"page": name, "ms": value} for name, values in times.items() for value in values],
    )


def _visit_row(browser: httpx.Client) -> Row:
    """What the overview and all that it names come to, as they go over the wire."""
    page = browser.get("/")
    sizes = {"page": len(zlib.compress(page.content))}
    for path in sorted(set(re.findall(r'(?:src|href)="(/static/[^"#]+)', page.text))):
        with browser.stream("GET", path) as answer:
            answer.read()
            sizes[path.partition("?")[0].rpartition("/")[2]] = answer.num_bytes_downloaded
    total = sum(sizes.values())

    return Row(
        what="a first visit to the console",
        figure=f"{total / 1000:.0f} kB compressed",
        bar=f"at most {ALLOWED_BYTES // 1000} kB",
        holds=total <= ALLOWED_BYTES,
        details={name: spread([size / 1000], "kB") for name, size in sizes.items()},
    )


# -- the console and who asks ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _console(ground: Ground, installation: Installation) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "console", "--port", str(port)]
    env = {**installation.env, "PYTHONPATH": str(Path.cwd()), "REFUNDRY_LOGGING__LEVEL": "WARNING"}
    console = LocalProcess("console", command, ground.folder, env=env, port=port)
    console.start()
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(url), what="the console's first answer")
        yield url
    finally:
        console.remove()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=2).is_success
    except httpx.TransportError:
        return False


@contextlib.contextmanager
def _operator(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=120, headers={"sec-fetch-site": "same-origin"}) as browser:
        form = {"name": "oli", "password": PASSWORD}
        assert browser.post("/sign-in", data=form).status_code == httpx.codes.SEE_OTHER
        yield browser


# -- the rows --------------------------------------------------------------------------------------------------------


def _fill(engine: Engine, rows: int) -> dict[str, str]:
    """A ledger as thirty days leave it; answers what the pages' addresses name."""
    started = time.perf_counter()
    first = Actor("system", frozenset(Role), alone=True)
    for name, roles in (("ada", {Role.ADMIN}), ("oli", {Role.OPERATOR})):
        people.create(engine, first, name, frozenset(roles))
        sessions.set_password(engine, first, name, PASSWORD)
    endpoint, _ = webhooks.create(engine, Actor("ada", frozenset({Role.ADMIN})), "https://shop.example/hooks")
    now = engine.clock()
    ids = [made_of("rf", now - SPAN + SPAN * n / rows, n.to_bytes(10)) for n in range(rows)]
    times = [now - SPAN + SPAN * n / rows for n in range(rows)]
    raw: Any = engine.ledger.engine.raw_connection()
    with raw.cursor() as cursor:
        for table, given in _tables(ids, times, endpoint.id, now).items():
            _copy(cursor, table, given)
        raw.commit()
    raw.close()
    assert samples.take(engine)  # the last minutes, and the hours' sums
    with engine.ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE)")  # as autovacuum has done meanwhile
    os.sync()
    print(f"  {rows} refunds made in {time.perf_counter() - started:.0f} s", flush=True)

    return {"middle": ids[rows // 2], "day": time.strftime("%Y-%m-%d", time.gmtime(times[rows // 2]))}


def _copy(cursor: "Cursor[Any]", table: str, rows: Iterator[dict[str, Any]]) -> None:
    first = next(rows)
    with cursor.copy(f"COPY {table} ({', '.join(first)}) FROM STDIN".encode()) as copy:
        for row in itertools.chain([first], rows):
            copy.write_row(list(row.values()))


def _tables(ids: list[str], times: list[float], endpoint: str, now: float) -> dict[str, Iterator[dict[str, Any]]]:
    template = canonical(parse(job("shop", 4242)).public()).decode()
    each = list(zip(range(len(ids)), ids, times, strict=True))
    told, found = each[::20], each[::1000]

    return {
        "refund": (_refund(n, key, at, template, now) for n, key, at in each),
        "payment": (_payment(n, at) for n, _, at in each),
        "attempt": (_attempt(n, key, at) for n, key, at in each),
        "event": (_event(key, at, seq) for _, key, at in each for seq in (1, 2)),
        "webhook_delivery": (_delivery(key, at, endpoint) for _, key, at in each),
        "notification": (_notification(n, key, at) for n, key, at in told),
        "recon_run": iter([_run(len(ids), now)]),
        "recon_difference": (_difference(n, key, at) for n, key, at in found),
        "sample": _samples(int(now) // 60 * 60),
    }


def _refund(n: int, key: str, at: float, template: str, now: float) -> dict[str, Any]:
    state = _state(n % 1000)
    known = {"id": key, "account": "shop", "provider": "smartpay", "reference": f"shop-{n}", "job": template}
    paid = {"payment_ref": f"payment_{n}", "payment_id": f"payment_{n}", "order_id": f"order_{n}", "state": state}
    money = {"amount": 1000 + n % 4000, "currency": "JPY", "resolved": True, "handle": f"h{n}", "attempts": 1}
    hashes = {"content_hash": "0" * 64, "email_hash": f"{n % 500_000:064x}", "chain": "0" * 64, "version": 3}
    due = (now + n if state == "queued" else at + 60) if state in OPEN else None
    stands = {
        "due_at": due,
        "cause": CAUSES.get(state),
        "ambiguous": state == "unknown",
        "provider_refund_id": None if state == "queued" else f"refund_{n}",
        "final_at": at + 2 if state in FINAL else None,
    }

    return known | paid | money | hashes | stands | {"since": at, "created_at": at, "updated_at": at}


def _state(place: int) -> str:
    for state, count in STATES.items():
        if place < count:
            return state
        place -= count

    return "succeeded"


def _payment(n: int, at: float) -> dict[str, Any]:
    return {"account": "shop", "ref": f"payment_{n}", "currency": "JPY", "captured": 5000, "created_at": at}


def _attempt(n: int, key: str, at: float) -> dict[str, Any]:
    sent = {"handle": f"h{n}", "method": "POST", "url": "/v1/refunds", "headers": "{}", "body": b"{}"}
    by = {"body_hash": "0" * 64, "fingerprint": "shop", "worker": "worker", "fence": 1}
    said = {"outcome": OUTCOMES[n % len(OUTCOMES)], "http_status": 200, "started_at": at, "ended_at": at + 0.2}

    return {"refund_id": key, "no": 1} | sent | by | said


def _event(key: str, at: float, seq: int) -> dict[str, Any]:
    kind = "refund.accepted" if seq == 1 else "refund.succeeded"

    actor = "key:shop" if seq == 1 else "host:1"

    return {"subject": key, "seq": seq, "type": kind, "at": at + seq, "actor": actor, "data": "{}", "hash": "0" * 64}


def _delivery(key: str, at: float, endpoint: str) -> dict[str, Any]:
    what = {"id": f"msg_{key[3:]}", "endpoint": endpoint, "refund_id": key, "version": 1, "type": "refund.succeeded"}

    return what | {"payload": "{}", "created_at": at, "state": "delivered", "due_at": at, "touched_at": at}


def _notification(n: int, key: str, at: float) -> dict[str, Any]:
    what = {"id": f"nt_{n}", "account": "shop", "key": f"{n:064x}", "kind": "refund", "verified": True, "hint": "{}"}
    kept = {"body": b"", "size": 0, "body_hash": "0" * 64, "state": "done", "refunds": f'["{key}"]'}

    return what | kept | {"received_at": at, "last_at": at}


def _run(rows: int, now: float) -> dict[str, Any]:
    what = {"id": "rc_first", "account": "shop", "source": "list", "state": "complete", "phase": "missing"}

    return what | {"bookmark": "", "started_by": "oli", "started_at": now - 60, "compared": rows, "matched": rows}


def _difference(n: int, key: str, at: float) -> dict[str, Any]:
    what = {"id": f"rd_{n:026}", "identity": f"{n:064x}", "account": "shop", "kind": "late", "refund_id": key}
    sides = {"ours": "null", "theirs": "{}", "run_id": "rc_first", "last_run_id": "rc_first"}
    closed = {"state": "closed", "closed_by": "oli"} if n % 10_000 == 0 else {"state": "open", "closed_by": None}

    return what | sides | closed | {"found_at": at, "seen_at": at}


def _samples(minute: int) -> Iterator[dict[str, Any]]:
    plain = ("counted", "accepted", "succeeded", "failed", "uncertain", "waiting", "overdue", "stream")
    names = [*((name, "", 0) for name in plain), ("breaker", "shop", 0)]
    names += [(name, account, each) for name, account in (("took", ""), ("answered", "shop")) for each in range(6)]
    for back in range(3, MINUTES):
        for name, account, bucket in names:
            yield {"name": name, "account": account, "at": minute - back * 60, "bucket": bucket, "value": 2}
