"""A refund as it is answered: the same members, in the same order, by every way out."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from domain.reconcile import WAYS, Standing
from domain.refund import Refund, personal_parts
from domain.state import State
from domain.verdict import Verdict
from engine import search
from engine.bootstrap import Engine
from engine.people import Actor, Verb, require
from engine.review import judge, verdict_of
from ledger import external, journal, queries, refunds
from ledger.reconcile import READ, Difference, Run


def stamp(moment: float | None) -> str | None:
    """RFC 3339 in UTC with milliseconds."""
    if moment is None:
        return None

    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def refund_view(engine: Engine, refund: Refund, verdict: Verdict | None = None) -> dict[str, Any]:
    """The public representation of a refund; customer and bank data are masked."""
    job = msgspec.json.decode(refund.job)
    found = verdict or (verdict_of(engine, refund) if refund.state in (State.REVIEW, State.REVERSED) else None)

    return {
        "id": refund.id,
        "object": "refund",
        "state": refund.state,
        "outcome_certain": refund.outcome_certain,
        "account": refund.account,
        "provider": refund.provider,
        "reference": refund.reference,
        "amount": refund.amount,
        "currency": refund.currency,
        "payment": {**_payment(job), "id": refund.payment_id},
        "reason": job.get("reason", "requested_by_customer"),
        "description": job.get("description"),
        "handle": refund.handle,
        "provider_refund_id": refund.provider_refund_id,
        "provider_status": refund.provider_status,
        "reconciliation_id": refund.reconciliation_id,
        "failure": _failure(refund),
        "review": _review(refund, found),
        "attempts": refund.attempts,
        "next_action_at": stamp(refund.due_at),
        "metadata": job.get("metadata", {}),
        "customer": masked(_personal(engine, refund)[0]),
        "bank_account": masked(_personal(engine, refund)[1]),
        "created_at": stamp(refund.created_at),
        "updated_at": stamp(refund.updated_at),
        "final_at": stamp(refund.final_at),
        "version": refund.version,
    }


def difference_view(found: Difference) -> dict[str, Any]:
    """A difference: ours and theirs side by side, and how it may be resolved."""
    return {
        "id": found.id,
        "object": "difference",
        "kind": found.kind,
        "state": found.state,
        "account": found.account,
        "refund_id": found.refund_id,
        "amount": found.amount,
        "currency": found.currency,
        "ours": msgspec.json.decode(found.ours),
        "theirs": msgspec.json.decode(found.theirs),
        "owner": found.owner,
        "note": found.note,
        "resolution": found.resolution,
        "reason_code": found.reason_code,
        "resolutions": [] if found.state is Standing.CLOSED else sorted(WAYS[found.kind]),
        "run_id": found.run_id,
        "last_run_id": found.last_run_id,
        "found_at": stamp(found.found_at),
        "seen_at": stamp(found.seen_at),
        "closed_by": found.closed_by,
        "closed_at": stamp(found.closed_at),
    }


def side_by_side(view: Mapping[str, Any]) -> list[tuple[str, Any, Any, bool]]:
    """Ours and theirs of a difference member by member; True where both say something, and not the same."""
    mine, theirs = view["ours"] or {}, view["theirs"] or {}

    return [
        (name, left, right, name in mine and name in theirs and None not in (left, right) and left != right)
        for name in dict.fromkeys([*mine, *theirs])
        for left, right in [(mine.get(name), theirs.get(name))]
    ]


def run_view(run: Run) -> dict[str, Any]:
    """A run of reconciliation."""
    return {
        "id": run.id,
        "object": "reconciliation",
        "account": run.account,
        "source": run.source,
        "state": READ if run.phase == READ and run.state == "running" else run.state,
        "window_from": stamp(run.window_from),
        "window_to": stamp(run.window_to),
        "compared": run.compared,
        "matched": run.matched,
        "differing": run.differing,
        "unanswered": run.unanswered,
        "bad_lines": run.bad,
        "note": run.note,
        "started_by": run.started_by,
        "started_at": stamp(run.started_at),
        "ended_at": stamp(run.ended_at),
    }


def _payment(job: Mapping[str, Any]) -> dict[str, Any]:
    names = ("id", "order_id", "capture_id", "amount", "currency", "method")
    given = job.get("payment", {})

    return {name: given.get(name) for name in names}


def _failure(refund: Refund) -> dict[str, Any] | None:
    if refund.failure_code is None:
        return None

    return {"code": refund.failure_code, "class": refund.failure_class, "message": refund.failure_message}


def _review(refund: Refund, verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None or refund.cause is None:
        return None

    return {
        "cause": refund.cause,
        "since": stamp(refund.since),
        "verdict": {"advice": verdict.advice, "reasons": list(verdict.reasons)},
    }


def _personal(engine: Engine, refund: Refund) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    if refund.personal is None:
        return {}, {}

    return personal_parts(msgspec.json.decode(engine.vault.open(refund.personal)))


def reveal(engine: Engine, actor: Actor, refund: Refund) -> dict[str, Any]:
    """Customer and bank data in full; who looked is on record."""
    require(actor, Verb.REVEAL)
    engine.ledger.run(
        lambda connection: journal.append(
            connection, f"reveal/{refund.id}", "customer.revealed", actor=actor.name, now=engine.clock(), data={}
        )
    )
    customer, bank_account = _personal(engine, refund)

    return {"customer": dict(customer), "bank_account": dict(bank_account)}


def exported(engine: Engine, actor: Actor, words: str) -> None:
    """Put on record that somebody took a list of refunds along; a search about a person is not written down."""
    require(actor, Verb.SEE)
    data = {"query": "[a person]" if search.names_people(words) else words}
    engine.ledger.run(
        lambda connection: journal.append(
            connection, f"user/{actor.name}", "refunds.exported", actor=actor.name, now=engine.clock(), data=data
        )
    )


def masked(value: Any) -> Any:
    """Texts reduced to their first character, e-mails to that and the domain's last part."""
    if isinstance(value, Mapping):
        return {key: masked(inner) for key, inner in value.items() if inner is not None} or None
    if not isinstance(value, str):
        return value
    if "@" in value:
        return f"{value[:1]}***@***.{value.rsplit('.', 1)[-1]}"

    return f"{value[:1]}***"


def timeline(engine: Engine, refund: Refund, *, raw: bool = False) -> dict[str, Any]:
    """Everything that happened to a refund, in order; with `raw` the redacted answers of the provider as well."""
    with engine.ledger.read() as connection:
        events = journal.story(connection, refund.id)
        attempts = queries.attempts_of(connection, refund.id)

    return {
        "events": [
            {"seq": each["seq"], "type": each["type"], "at": stamp(each["at"]), "actor": each["actor"], **each["data"]}
            for each in events
        ],
        "attempts": [_attempt(engine, each, raw=raw) for each in attempts],
    }


def _attempt(engine: Engine, each: Mapping[str, Any], *, raw: bool) -> dict[str, Any]:
    shown = {
        "no": each["no"],
        "handle": each["handle"],
        "request": f"{each['method']} {each['url']}",
        "body_hash": each["body_hash"],
        "started_at": stamp(each["started_at"]),
        "ended_at": stamp(each["ended_at"]),
        "outcome": each["outcome"],
        "http_status": each["http_status"],
        "replay_until": stamp(each["replay_until"]),
        "note": each["note"],
    }
    if raw and each["answer"]:
        shown["answer"] = engine.vault.open(each["answer"]).decode("utf-8", "replace")

    return shown


def find(engine: Engine, word: str) -> list[Refund]:
    """Refunds by any kind of id, customer's reference, e-mail or full or last name."""
    index = engine.vault.index
    hashes = [digest for kind in ("email", "name", "customer") if (digest := index(kind, word)) is not None]
    with engine.ledger.read() as connection:
        return queries.find(connection, word, hashes)


def dead_view(engine: Engine, refund: Refund) -> dict[str, Any]:
    """A dead letter with its verdict and last attempt."""
    return dead_views(engine, [refund])[0]


def dead_views(engine: Engine, letters: Sequence[Refund]) -> list[dict[str, Any]]:
    """Dead letters, each with its verdict and with what others moved of its payment."""
    with engine.ledger.read() as connection:
        fingerprints = refunds.last_fingerprints(connection, [each.id for each in letters])
        others = external.of_payments(connection, {(each.account, each.payment_ref) for each in letters})

    return [
        {
            **refund_view(engine, each, judge(engine, each, fingerprints.get(each.id))),
            "note": each.note,
            "assignee": each.assignee,
            "replay_until": stamp(each.replay_until),
            "moved_elsewhere": [_elsewhere(row) for row in others.get((each.account, each.payment_ref), ())],
        }
        for each in letters
    ]


def _elsewhere(row: Mapping[str, Any]) -> dict[str, Any]:
    """A refund or chargeback that others made."""
    shown = {name: row[name] for name in ("id", "kind", "provider_refund_id", "amount", "currency", "source", "alert")}

    return {**shown, "counted": bool(row["booked"]), "first_seen": stamp(row["first_seen"])}
