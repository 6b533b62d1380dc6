"""A refund's story: its events and attempts as one list of sentences."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from domain.state import LABELS, State
from domain.words import cause_in_words

KINDS = (("", "All"), ("attempt", "Attempts"), ("person", "People"), ("system", "System"))
#: A silence longer than this is shown as one.
GAP = 60.0
_PEOPLE = frozenset({"refund.retried", "refund.check_asked", "refund.noted", "refund.assigned", "refund.cancelled"})
_WORDS = {
    "refund.accepted": "Accepted",
    "refund.resolved": "Its payment and amount were found out",
    "refund.retried": "Retried with the same handle",
    "refund.check_asked": "Asked to be checked at the provider",
    "refund.cancelled": "Cancelled",
    "refund.answered": "The provider answered",
    "refund.evidence": "The provider was heard, and nothing moved",
    "approval.requested": "A second person was asked",
    "approval.approved": "Approved",
    "approval.denied": "Denied",
    "approval.withdrawn": "The request was taken back",
    "approval.expired": "Nobody decided in time",
}
_SAID = frozenset({"seq", "type", "at", "actor", "from", "to", "note", "assignee", "cause"})


def told(timeline: Mapping[str, Any], kind: str = "") -> list[dict[str, Any]]:
    """Everything in order, or only one kind of it; `gap`: seconds of silence before an entry."""
    entries = sorted([*_events(timeline["events"]), *_attempts(timeline["attempts"])], key=lambda each: each["at"])
    shown = [each for each in entries if kind in ("", each["kind"])]
    last = None
    for each in shown:
        silence = each["at"] - last if last is not None else 0.0
        each["gap"] = silence if silence > GAP and not kind else 0.0
        last = each["at"]

    return shown


def _events(events: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for each in events:
        person = each["type"] in _PEOPLE or each["type"].startswith("approval.")
        yield {
            "at": _epoch(each["at"]),
            "kind": "person" if person else "system",
            "anchor": f"e{each['seq']}",
            "actor": each["actor"],
            "words": _sentence(each),
            "more": [(name, value) for name, value in each.items() if name not in _SAID and value not in (None, "")],
        }


def _sentence(event: Mapping[str, Any]) -> str:
    kind = event["type"]
    if kind == "refund.noted":
        return f"Note: {event.get('note', '')}"
    if kind == "refund.assigned":
        return f"Assigned to {event.get('assignee') or 'nobody'}"
    cause = event.get("cause")
    if cause:
        return f"Needs review: {cause_in_words(cause)}"

    return _WORDS.get(kind) or _state_words(kind)


def _state_words(kind: str) -> str:
    state = kind.removeprefix("refund.")
    if state not in set(State):
        return kind
    label, meaning = LABELS[State(state)]

    return f"{label}: {meaning}"


def _attempts(attempts: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for each in attempts:
        started = _epoch(each["started_at"])
        ended = _epoch(each["ended_at"]) if each["ended_at"] else None
        status = f"HTTP {each['http_status']}" if each["http_status"] else "no answer"
        took = "under way" if ended is None else f"{status} after {(ended - started) * 1000:.0f} ms"
        outcome = each["outcome"] or "not known yet"
        yield {
            "at": started,
            "kind": "attempt",
            "anchor": f"a{each['no']}",
            "actor": "",
            "words": f"Attempt {each['no']}: {outcome}, {took}",
            "more": [(name, value) for name, value in each.items() if name not in ("no", "started_at") and value],
        }


def _epoch(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
