"""Run the measurements: `python -m benchmarks [--full] [--quick] [--only NAME …]`.

By default the short ones (`make bench`); with `--full` all others. What a part has measured is merged into
docs/performance.json as soon as it is done, and pages and charts are made again at the end; so parts may be run one by
one, and again. A quick run keeps nothing.
"""

import argparse
import signal
import sys
from typing import Any

from benchmarks import report
from benchmarks.parts import PARTS, Failed, run


def main() -> int:
    """0 if every part could be measured and every bar holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure throughput, latency and cost.")
    parser.add_argument("--full", action="store_true", help="the long measurements instead of the short ones")
    parser.add_argument("--quick", action="store_true", help="every size small; nothing is kept")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="NAME", help=f"of {', '.join(PARTS)}")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the part under way is ended, and its servers with it
    measured, failed = measure(given.only or chosen(full=given.full), quick=given.quick)
    if not given.quick and measured:
        report.make()
        print(f"written: {report.DATA}, the pages and charts beside it")
    report.show(measured, failed)

    return 1 if failed or report.missed(measured) else 0


def chosen(*, full: bool) -> list[str]:
    """The parts of a command."""
    return [name for name, part in PARTS.items() if part.full == full]


def measure(names: list[str], *, quick: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """What each part has measured, and why others could not be; none stops another."""
    measured: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for number, name in enumerate(names, 1):
        print(f"{name} ({number} of {len(names)}) ...", flush=True)
        try:
            measured[name] = run(name, quick=quick)
        except Failed as error:
            failed[name] = str(error)
            print(f"{name} failed: {error}", flush=True)
            continue
        print(f"{name}: {measured[name]['seconds']} s", flush=True)
        if not quick:
            report.keep(name, measured[name])

    return measured, failed


if __name__ == "__main__":
    sys.exit(main())
