"""Run the measurements: `python -m benchmarks [--quick] [--only NAME …]`.

A whole run writes docs/performance.json and docs/performance.md; a quick or partial one only prints.
"""

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks import hanging, latency, report, throughput
from benchmarks.measured import Row

MEASUREMENTS = {"throughput": throughput.measure, "latency": latency.measure, "hanging": hanging.measure}


def main() -> int:
    """0 if every bar holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure throughput, latency and cost.")
    parser.add_argument("--quick", action="store_true", help="about a minute; fewer rounds, nothing is written")
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, help="one measurement; may be given again")
    given = parser.parse_args()
    chosen = given.only or list(MEASUREMENTS)
    rows = []
    for name in chosen:
        print(f"{name} ...", flush=True)
        rows += alone(MEASUREMENTS[name], quick=given.quick)
    report.show(rows)
    if not given.quick and not given.only:
        report.write(rows)
        print(f"written: {report.DATA}, {report.PAGE}")

    return 0 if all(row.holds for row in rows) else 1


def alone(measure: Callable[..., list[Row]], *, quick: bool) -> list[Row]:
    """In a process of its own: an app of Celery keeps to the servers that it met first."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, quick=quick).result()


if __name__ == "__main__":
    sys.exit(main())
