"""An engine over the sandbox, and runs of reconciliation to their end."""

import asyncio
from dataclasses import replace

import pytest

from domain.reconcile import Source
from engine import differences, people, schedule
from engine.people import Role, recognise
from engine.reconcile import Reconciler
from ledger import reconcile as rows
from ledger.migrate import upgrade
from tests.support.sandbox_network import SandboxBench


async def inline(work, *arguments, **named):
    return work(*arguments, **named)


class World(SandboxBench):
    """Runs, and what they found."""

    def run(self, account, source=Source.STATUS, **window):
        """A run to its end."""
        started = schedule.begin(self.engine, account, source, started_by="test", **window)

        return self.go_on(account, started.id)

    def reconciler(self, account):
        return Reconciler(
            self.engine.accounts[account], self.engine, network=self.network, run_blocking=inline, monotonic=lambda: 0
        )

    def go_on(self, account, run_id):
        asyncio.run(self.reconciler(account).turn())
        with self.engine.ledger.read() as connection:
            found = rows.get(connection, run_id)
        assert found is not None

        return found

    def differences(self, **wanted):
        with self.engine.ledger.read() as connection:
            return rows.differences(connection, limit=1000, **wanted)

    def kinds(self, **wanted):
        """Kind and refund of what is open."""
        return sorted((each.kind, each.refund_id) for each in self.differences(states=("open",), **wanted))

    def people(self):
        """Oli operates, Pia approves."""
        ada = recognise(self.engine, None)
        people.create(self.engine, ada, "ada", frozenset({Role.ADMIN}))
        ada = recognise(self.engine, "ada")
        people.create(self.engine, ada, "oli", frozenset({Role.OPERATOR, Role.APPROVER}))
        people.create(self.engine, ada, "pia", frozenset({Role.APPROVER}))

        return recognise(self.engine, "oli"), recognise(self.engine, "pia")

    def somebody(self):
        """The system user, while there are no others."""
        return recognise(self.engine, None)

    def difference(self, difference_id):
        return differences.get(self.engine, difference_id)

    def another_process(self):
        """The same engine under another name."""
        self.engine = replace(self.engine, worker="another:1")


@pytest.fixture(scope="session")
def migrated(tmp_path_factory):
    """A migrated SQLite database, to be copied."""
    path = tmp_path_factory.mktemp("template") / "refundry.db"
    upgrade(f"sqlite:///{path}")

    return path.read_bytes()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request, tmp_path):
    """An empty, migrated ledger of either kind."""
    if request.param == "sqlite":
        path = tmp_path / "refundry.db"
        path.write_bytes(request.getfixturevalue("migrated"))
        yield f"sqlite:///{path}"
        return
    postgres = request.getfixturevalue("postgres")
    url = postgres.create(template=postgres.template("refundry_reconcile", upgrade))
    yield url
    postgres.drop(url)


@pytest.fixture
def world(ledger_url):
    bench = World(ledger_url)
    yield bench
    bench.close()
