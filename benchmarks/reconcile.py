"""A settlement file of a million lines against a million refunds: how long, and how much memory at most.

    python -m benchmarks --only reconcile
    python -m benchmarks.reconcile [LINES]

Refunds are made in SQL, the file is written line by line, and the comparison runs in a process of its own as
`refundry recon upload` does, so that its peak memory is its own. One line in a thousand differs.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from sqlalchemy import create_engine, text

from benchmarks.measured import Row
from ledger.migrate import upgrade
from tests.support.servers import PostgresServer

LINES = 1_000_000
QUICK = 100_000
DAY = 1_790_000_000 - 1_790_000_000 % 86_400
BAR_SECONDS = 300
BAR_MEMORY = 300
ODD = 1_000

_PAYMENTS = """
INSERT INTO payment (account, ref, currency, captured, reserved, refunded, created_at)
SELECT 'shop', 'payment_' || n, 'JPY', 2000, 0, 1000, {day} FROM generate_series(1, {lines}) n
"""
_REFUNDS = """
INSERT INTO refund (id, account, provider, reference, payment_ref, payment_id, state, amount, currency, resolved,
                    handle, job, content_hash, chain, attempts, since, provider_refund_id, created_at, updated_at,
                    final_at)
SELECT 'rf_01k5' || lpad(n::text, 22, '0'), 'shop', 'smartpay', 'R-' || n, 'payment_' || n, 'payment_' || n,
       'succeeded', 1000, 'JPY', true, md5(n::text), '{{}}', '', '', 1, {day} + n % 80000, 'refund_' || n,
       {day} + n % 80000, {day} + n % 80000, {day} + n % 80000
FROM generate_series(1, {lines}) n
"""
_RUN = """
import json, resource, sys, time
from pathlib import Path
from config.settings import load_settings
from engine import settle
from engine.bootstrap import bootstrap
from engine.people import recognise
engine = bootstrap(load_settings())
began = time.perf_counter()
run = settle.upload(engine, recognise(engine, None), "shop", Path(sys.argv[1]))
taken = time.perf_counter() - began
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
told = {name: getattr(run, name) for name in ("state", "compared", "matched", "differing")}
print(json.dumps({"seconds": taken, "cpu": time.process_time(), "memory": memory, **told}))
"""


def measure(*, quick: bool) -> list[Row]:
    """One row."""
    lines = QUICK if quick else LINES
    found = compare(lines)
    assert (found["state"], found["compared"], found["differing"]) == ("complete", lines, lines // ODD), found
    scale = lines / LINES

    return [
        Row(
            what=f"a settlement file of {lines:,} lines against as many refunds",
            figure=f"{found['seconds']:.0f} s, {found['memory']:.0f} MB",
            bar=f"{BAR_SECONDS * scale:.0f} s, {BAR_MEMORY} MB",
            holds=found["seconds"] < BAR_SECONDS * scale and found["memory"] < BAR_MEMORY,
            details={},
        )
    ]


def compare(lines: int) -> dict[str, Any]:
    """Seconds by the clock and of this process's CPU, megabytes, and what was found."""
    with tempfile.TemporaryDirectory(prefix="refundry-bench-") as name:
        folder, postgres = Path(name), PostgresServer()
        postgres.start()
        try:
            url = postgres.databases.create()
            upgrade(url)
            fill(url, lines)
            file = write(folder / "settlement.csv", lines)
            settings = {
                "REFUNDRY_DATABASE_URL": url,
                "REFUNDRY_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
                "REFUNDRY_INDEX_KEY": "benchmarks benchmarks",
                "REFUNDRY_CONFIG": str(_config(folder)),
                "PYTHONPATH": str(Path.cwd()),
            }
            done = subprocess.run(
                [sys.executable, "-c", _RUN, str(file)], env=settings, check=True, capture_output=True, text=True
            )
        finally:
            postgres.remove()
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])

    return found


def fill(url: str, lines: int) -> None:
    """As many refunds, each succeeded, each of a payment of its own."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in (_PAYMENTS, _REFUNDS):
            connection.execute(text(statement.format(day=DAY, lines=lines).replace(":", "\\:")))
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("VACUUM ANALYZE"))
    engine.dispose()


def write(path: Path, lines: int) -> Path:
    """The provider's file; every thousandth amount is another one."""
    with path.open("w", encoding="utf-8") as stream:
        stream.write("provider_refund_id,payment_id,amount,currency,at\n")
        for n in range(1, lines + 1):
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(DAY + n % 80_000))
            stream.write(f"refund_{n},payment_{n},{999 if n % ODD == 0 else 1000},JPY,{moment}\n")

    return path


def _config(folder: Path) -> Path:
    path = folder / "refundry.toml"
    path.write_text('[accounts.shop]\nprovider = "smartpay"\nsecret_key = "sk_test_x"\n')

    return path


if __name__ == "__main__":
    size = int(sys.argv[1]) if len(sys.argv) > 1 else LINES
    print(json.dumps(compare(size)))
