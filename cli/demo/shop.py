"""The demo's shop: hands its jobs in on three ways, some of them twice, and again where it sees no refund."""

import time

import msgspec

from cli.demo.orders import Handing, Plan
from engine.bootstrap import Engine
from engine.submit import submit
from ledger import queries, rejected
from ledger.queries import Filter
from signals.stream import publish_job
from tasks.app import app

#: A careful producer sends again what it cannot see in the ledger: the reference makes that safe.
PATIENCE = 12.0

Key = tuple[str, str]


class Shop:
    """Hands in what is planned at a steady pace."""

    def __init__(self, engine: Engine, plan: Plan, *, per_second: float) -> None:
        self._engine = engine
        self._plan = plan
        self._pace = per_second
        self._began = 0.0
        self._reminded = 0.0
        self._sent = 0
        self._handed: dict[Key, float] = {}
        self.resent = 0

    @property
    def done(self) -> bool:
        """Whether everything has been handed in."""
        return self._sent >= len(self._plan.handings)

    @property
    def share(self) -> float:
        """How much has been handed in, 0 to 1."""
        return self._sent / len(self._plan.handings)

    def work(self) -> None:
        """Hand in what is due by now."""
        now = time.monotonic()
        if not self._began:
            self._began = self._reminded = now
            self._hand_in_the_bad()
        due = min(len(self._plan.handings), int((now - self._began) * self._pace) + 1)
        for handing in self._plan.handings[self._sent : due]:
            self._hand_in(handing)
        self._sent = max(self._sent, due)

    def remind(self) -> None:
        """Send again what has been on its way for long and is not in the ledger."""
        now = time.monotonic()
        if now - self._reminded < PATIENCE:
            return
        self._reminded = now
        for key in self.missing():
            if now - self._handed[key] > PATIENCE:
                self._handed[key] = now
                self.resent += 1
                self._stream(msgspec.json.encode(self._plan.jobs[key]))
        if self._unrefused():
            self._hand_in_the_bad()

    def missing(self) -> set[Key]:
        """The jobs handed in that are not in the ledger."""
        with self._engine.ledger.read() as connection:
            refunds = queries.page(connection, Filter(), limit=2 * len(self._plan.jobs))

        return self._handed.keys() - {(each.account, each.reference) for each in refunds}

    def _unrefused(self) -> bool:
        with self._engine.ledger.read() as connection:
            return rejected.count_open(connection) < len(self._plan.bad)

    def _hand_in(self, handing: Handing) -> None:
        self._handed.setdefault((handing.job["account"], handing.job["reference"]), time.monotonic())
        match handing.way:
            case "stream":
                self._stream(msgspec.json.encode(handing.job))
            case "celery":
                app.send_task("refunds.submit", kwargs={"job": handing.job}, queue="refundry.intake")
            case _:
                submit(self._engine, handing.job, actor="demo", via="engine")

    def _hand_in_the_bad(self) -> None:
        for body in self._plan.bad:
            self._stream(body)

    def _stream(self, body: bytes) -> None:
        assert self._engine.redis is not None
        publish_job(self._engine.redis, body)
