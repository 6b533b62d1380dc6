"""A refund as people see it on a terminal."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cli.output import Row
from cli.times import money, since
from domain.state import LABELS, State
from domain.words import advice_in_words, cause_in_words

#: What a refund's CSV columns are made of.
EMPTY_VIEW: dict[str, Any] = {
    "id": None,
    "object": "refund",
    "state": None,
    "outcome_certain": None,
    "account": None,
    "provider": None,
    "reference": None,
    "amount": None,
    "currency": None,
    "payment": dict.fromkeys(("id", "order_id", "capture_id", "amount", "currency", "method")),
    "reason": None,
    "description": None,
    "handle": None,
    "provider_refund_id": None,
    "provider_status": None,
    "reconciliation_id": None,
    "failure": dict.fromkeys(("code", "class", "message")),
    "review": {"cause": None, "since": None, "verdict": {"advice": None, "reasons": None}},
    "attempts": None,
    "next_action_at": None,
    "metadata": None,
    "customer": None,
    "bank_account": None,
    "created_at": None,
    "updated_at": None,
    "final_at": None,
    "version": None,
}


def moment(stamp: str | None) -> float | None:
    """Epoch seconds of an RFC 3339 time."""
    return None if stamp is None else datetime.fromisoformat(stamp).timestamp()


def refund(view: Row) -> Iterator[RenderableType]:
    """One refund: the facts, then its story where it was asked for."""
    label, meaning = LABELS[State(view["state"])]
    yield Text(f"{view['id']}  {money(view['amount'], view['currency'])}  {label}: {meaning}", style="bold")
    yield _facts(view)
    if "timeline" in view:
        yield _events(view["timeline"]["events"])
        yield _attempts(view["timeline"]["attempts"])


def _facts(view: Row) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in _lines(view):
        if value not in (None, ""):
            table.add_row(name, Text(str(value)))

    return table


def _lines(view: Row) -> Iterator[tuple[str, Any]]:
    payment = view["payment"]
    yield "reference", view["reference"]
    yield "account", f"{view['account']} ({view['provider']})"
    yield "payment", payment["id"] or f"of order {payment['order_id']}"
    yield "order", payment["order_id"]
    yield "captured", payment["amount"] and money(payment["amount"], payment["currency"])
    yield "customer", ", ".join(f"{name} {value}" for name, value in (view["customer"] or {}).items() if value)
    yield "reason", view["reason"]
    yield "description", view["description"]
    yield "handle", view["handle"]
    yield "provider's refund", view["provider_refund_id"]
    yield "provider's status", view["provider_status"]
    yield "reconciliation id", view["reconciliation_id"]
    yield "failure", view["failure"] and f"{view['failure']['code']}: {view['failure']['message']}"
    yield from _review(view)
    yield "outcome", "certain" if view["outcome_certain"] else "not certain: money may have moved"
    yield "next", since(moment(view["next_action_at"]))
    yield "accepted", view["created_at"]
    yield "final", view["final_at"]


def _review(view: Row) -> Iterator[tuple[str, Any]]:
    review = view["review"]
    if review is None:
        return
    yield "why in review", cause_in_words(review["cause"])
    yield "verdict", f"{advice_in_words(review['verdict']['advice'])}: {'; '.join(review['verdict']['reasons'])}"
    yield "note", view.get("note")
    yield "assigned to", view.get("assignee")
    yield "handle lives until", view.get("replay_until")


def _events(events: list[Mapping[str, Any]]) -> Table:
    table = Table("At", "What", "Who", "More", box=box.SIMPLE_HEAD, pad_edge=False)
    for event in events:
        known = ("seq", "type", "at", "actor", "from", "to")
        more = ", ".join(f"{name} {value}" for name, value in event.items() if name not in known and value is not None)
        table.add_row(event["at"], event["type"], event["actor"], Text(more))

    return table


def _attempts(attempts: list[Mapping[str, Any]]) -> Table:
    table = Table("Attempt", "Started", "Request", "HTTP", "Outcome", "More", box=box.SIMPLE_HEAD, pad_edge=False)
    for each in attempts:
        more = " ".join(str(each[name]) for name in ("note", "answer") if each.get(name))
        table.add_row(
            str(each["no"]),
            each["started_at"],
            each["request"],
            str(each["http_status"] or ""),
            each["outcome"],
            Text(more),
        )

    return table
