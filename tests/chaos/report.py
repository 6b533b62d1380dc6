"""What a run comes to: figures for a file, a table for people."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tests.chaos.judge import Books

FAULTY = ('"level": "error"', '"level": "critical"', '"level":"error"', '"level":"critical"')
MOST_ERRORS = 12
WIDTH = 160
#: Ids, ports and numbers would make every line one of its own.
CHANGING = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|:\d{4,5}\b|pid:\d+|\b\d{3,}\b")
COUNTS = ("jobs", "refunds", "refused", "payments", "attempts", "lost_answers", "lost_answers_survived")


def money(books: Books) -> dict[str, Any]:
    """Counts of refunds, payments, attempts and what was survived."""
    states = Counter(row["state"] for row in books.refunds)
    doubtful = {row["refund_id"] for row in books.attempts if row["outcome"] in (None, "unknown")}
    certain = {row["id"] for row in books.refunds if row["state"] in ("succeeded", "failed", "cancelled")}

    return {
        "jobs": len(books.jobs),
        "refunds": len(books.refunds),
        "refused": len(set(books.jobs) - set(books.by_reference)),
        "payments": len(books.moved),
        "attempts": len(books.attempts),
        "lost_answers": sum(row["outcome"] in (None, "unknown") for row in books.attempts),
        "lost_answers_survived": len(doubtful & certain),
        "states": dict(sorted(states.items())),
        "review_causes": dict(Counter(row["cause"] for row in books.refunds if row["state"] == "review")),
    }


def errors(lines: Iterable[str]) -> dict[str, int]:
    """The errors that workers logged, by event, the most frequent first."""
    found: Counter[str] = Counter()
    for line in lines:
        if any(mark in line for mark in FAULTY):
            found[_event(line)] += 1

    return dict(found.most_common())


def _event(line: str) -> str:
    try:
        said = json.loads(line)
    except ValueError:
        return line.strip()[:WIDTH]
    error = str(said.get("exception") or said.get("error") or "").strip().splitlines()
    words = " ".join([str(said.get("event", "?")), *error[-1:]])

    return CHANGING.sub("…", " ".join(words.split()))[:WIDTH]


def last_words(log: bytes) -> str:
    """Why a process ended, as far as its log says: its last critical line, else its last line."""
    lines = log.decode(errors="replace").strip().splitlines() or [""]
    critical = [line for line in lines if '"level": "critical"' in line]

    return _event((critical or lines)[-1])


def table(figures: Mapping[str, Any]) -> str:
    """The figures in two columns."""
    lines = [_line(name.replace("_", " "), figures[name]) for name in COUNTS]
    lines += _group("states", figures["states"])
    lines += _group("causes of review", figures["review_causes"])
    lines += _group("faults", figures["faults"])
    lines += _group("troubles of the provider", figures["provider"])
    lines += _group("submissions", figures["submissions"])
    lines += _group("seconds", figures["seconds"])
    lines.append(_line("longest standstill with refunds due, seconds", figures["standstill"]))
    lines.append(_line("events in the journal", figures["journal"]))
    lines.append(_line("flaws", len(figures["flaws"])))

    lines.append("errors logged by workers and beats, the most frequent")
    lines += [f"{count:>6}  {event}" for event, count in list(figures["errors_logged"].items())[:MOST_ERRORS]]

    return "\n".join(lines)


def _group(title: str, counted: Mapping[str, Any]) -> list[str]:
    return [title, *(_line(f"  {name}", value) for name, value in counted.items())] if counted else []


def _line(name: str, value: Any) -> str:
    shown = f"{value:.1f}" if isinstance(value, float) else str(value)

    return f"{name:<50}{shown:>10}"
