"""python -m sandbox: serve until interrupted."""

import argparse
import sys
from contextlib import suppress

from sandbox.core import DEFAULT_PENDING_SECONDS
from sandbox.faults import FieldError
from sandbox.server import DEFAULT_HOST, DEFAULT_PORT, run

USAGE_ERROR = 2


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="sandbox", description=__doc__)
    parser.add_argument("--host", default=DEFAULT_HOST)
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one")
    parser.add_argument("--faults", metavar="FILE", help="TOML or JSON")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--pending-seconds", type=float, default=DEFAULT_PENDING_SECONDS)
    given = parser.parse_args(arguments)
    try:
        with suppress(KeyboardInterrupt):
            run(given.host, given.port, given.faults, given.seed, given.pending_seconds)
    except (FieldError, OSError) as error:
        print(f"sandbox: {error}", file=sys.stderr)  # noqa: T201
        return USAGE_ERROR

    return 0


if __name__ == "__main__":
    sys.exit(main())
