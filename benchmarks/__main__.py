"""Run the measurements: `python -m benchmarks [--quick] [--only NAME …]`.

A whole run writes docs/performance.json and docs/performance.md; a quick or partial one only prints.
"""

import argparse
import sys

from benchmarks import hanging, latency, report, throughput

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
        rows += MEASUREMENTS[name](quick=given.quick)
    report.show(rows)
    if not given.quick and not given.only:
        report.write(rows)
        print(f"written: {report.DATA}, {report.PAGE}")

    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
