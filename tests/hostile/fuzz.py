"""Coverage-guided fuzzing, by hand: `python -m tests.hostile.fuzz TARGET [--runs N] [--seconds S] [--corpus FOLDER]`.

It needs the package atheris, which is no dependency of the project: install it into an environment of its own that also
sees the project's packages. What is found is judged by `judges`, as in the property tests. A finding is written to a
file `crash-…` of the working directory; `python -m tests.hostile.fuzz TARGET --repeat FILE` shows it again.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("fuzzing needs the package atheris: pip install atheris, in an environment of its own")

with atheris.instrument_imports(include=["domain", "providers", "engine"]):
    from domain.job import MAX_BYTES
    from providers import jpm_smartpay, smart2pay, smart_glocal, smartpay, smartretry, wire  # noqa: F401

import httpx

from tests.hostile import judges
from tests.unit.engine.support import JPY, USD
from tests.unit.providers.support import ACCOUNTS

Target = Callable[[bytes], None]
STATUSES = (200, 200, 200, 200, 201, 202, 204, 302, 400, 401, 402, 403, 404, 409, 422, 429, 500, 503)


def job(data: bytes) -> None:
    """Job intake: bytes as they come from the stream."""
    judges.assert_job_or_faults(data[: MAX_BYTES + 1])


def money(data: bytes) -> None:
    """Amounts as people write them, and as providers do."""
    text = data.decode("utf-8", "replace")
    judges.assert_money_or_refused(text)
    for value in (text, judges.read(data)):
        minor = wire.minor(value, 2)
        assert minor is None or type(minor) is int


def answers(account: str) -> Target:
    """One adapter's answers: the first two bytes choose call and status, the rest is the body."""

    def target(data: bytes) -> None:
        if len(data) < 2:
            return
        call = judges.CALLS[data[0] % len(judges.CALLS)]
        status = STATUSES[data[1] % len(STATUSES)]
        response = httpx.Response(status, content=data[2:])
        judges.assert_believable(account, call, response, kind_prelude=data[0] < 128)

    return target


TARGETS: dict[str, Target] = {
    "job": job,
    "money": money,
    **{account.replace(" ", "-"): answers(account) for account in ACCOUNTS},
}


def seeds(name: str) -> Iterator[bytes]:
    """What the fuzzer starts from: documented answers, good jobs, amounts."""
    if name == "job":
        yield from (json.dumps(each).encode() for each in (JPY, USD))
    elif name == "money":
        yield from (b"12.50 EUR", b"1250 JPY", b"0.001 KWD", b"1e400 EUR")
    else:
        account = name.replace("-", " ")
        for number, call in enumerate(judges.CALLS):
            for yes in (True, False):
                yield bytes([number, 0]) + json.dumps(judges.documented(account, call, yes=yes)).encode()


def main() -> None:
    """Fuzz one target until something is found or the runs or the time are used up."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz")
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--runs", type=int, default=-1, help="how many inputs (default: no limit)")
    parser.add_argument("--seconds", type=int, default=60, help="for how long (default: 60)")
    parser.add_argument(
        "--corpus", type=Path, help="a folder that is read and extended (default: one that is forgotten)"
    )
    parser.add_argument("--repeat", type=Path, help="run this one input and nothing else")
    given = parser.parse_args()
    target = TARGETS[given.target]
    if given.repeat:
        target(given.repeat.read_bytes())
        return
    with tempfile.TemporaryDirectory() as forgotten:
        corpus = given.corpus or Path(forgotten)
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds(given.target)):
            (corpus / f"seed-{number}").write_bytes(seed)
        options = [f"-runs={given.runs}", f"-max_total_time={given.seconds}", "-max_len=4096", "-timeout=5"]
        atheris.Setup([sys.argv[0], *options, "-rss_limit_mb=1024", str(corpus)], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
