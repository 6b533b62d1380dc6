"""The parts of the measurement: what `make bench` and `make bench-full` run, each alone in a process of its own."""

import inspect
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from benchmarks import (
    console,
    growth,
    hanging,
    http,
    intake,
    latency,
    limits,
    million,
    reconcile,
    scaleout,
    shapes,
    throughput,
)
from benchmarks.machine import machine
from benchmarks.measured import Row

#: Seconds for a part's process to end.
PATIENCE = 20.0
Measure = Callable[..., list[Row]]


@dataclass(frozen=True, slots=True)
class Part:
    """`minutes`: after so many it is ended and has failed, far more than it takes."""

    title: str
    measure: Measure
    full: bool = True
    minutes: float = 15


PARTS: dict[str, Part] = {
    "throughput": Part("Throughput beside plain Celery", throughput.measure, full=False),
    "latency": Part("Latency", latency.measure, full=False),
    "hanging": Part("A hanging provider", hanging.measure, full=False),
    "peers": Part("Throughput beside other task queues", throughput.measure_peers, minutes=25),
    "limits": Part("The limits", limits.measure),
    "ways": Part("Latency by way in", latency.measure_ways),
    "growth": Part("Growth", growth.measure, minutes=40),
    "console": Part("The console", console.measure, minutes=30),
    "million": Part("A million refunds waiting", million.measure, minutes=20),
    "payments": Part("Payments with many refunds", shapes.measure_payments),
    "accounts": Part("Many accounts", shapes.measure_accounts),
    "intake": Part("Intake", intake.measure, minutes=20),
    "http": Part("Intake over HTTP", http.measure),
    "reconcile": Part("Reconciliation", reconcile.measure, minutes=30),
    "scaleout": Part("Scale-out", scaleout.measure),
}


class Failed(RuntimeError):
    """A part could not be measured; the message says why."""


def run(name: str, *, quick: bool) -> dict[str, Any]:
    """What a part has measured, as it is kept. Raises Failed."""
    part = PARTS[name]
    started = time.perf_counter()
    rows = _alone(part, quick=quick)
    how = explained(inspect.getdoc(inspect.getmodule(part.measure)) or "")

    return {
        "title": part.title,
        "how": how,
        "seconds": round(time.perf_counter() - started),
        "machine": machine(),
        "rows": [asdict(row) for row in rows],
    }


def explained(doc: str) -> str:
    """A module's explanation: its paragraphs behind the first, without the commands."""
    paragraphs = doc.split("\n\n")[1:]

    return "\n\n".join(" ".join(each.split()) for each in paragraphs if not each.startswith("    "))


def _alone(part: Part, *, quick: bool) -> list[Row]:
    """In a process of its own: an app of Celery keeps to the servers that it met first."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(part.measure, quick, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(part.minutes * 60):
            raise Failed(f"not done after {part.minutes:g} minutes")
        answer = receiver.recv()
        process.join(PATIENCE)
    except EOFError:
        raise Failed("its process ended without an answer") from None
    finally:
        _end(process)
    if isinstance(answer, str):
        raise Failed(answer)

    return list(answer)


def _end(process: Any) -> None:
    """Let it clean up behind itself: its servers would end with it, their files would stay."""
    if process.is_alive():
        process.terminate()
        process.join(PATIENCE)
    if process.is_alive():
        process.kill()
    process.join()


def _measured(measure: Measure, quick: bool, sender: "Connection[Any, Any]") -> None:  # noqa: FBT001
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        sender.send(measure(quick=quick))
    except Exception:  # noqa: BLE001 - whatever it is, the other parts are measured all the same
        sender.send(traceback.format_exc(limit=-3))
