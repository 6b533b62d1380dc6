"""Beside the pool: jobs from the stream into the ledger, state changes out, and the round when beat is silent."""

import os
import signal
import threading
import time
from collections.abc import Callable

import redis
import structlog

from config import RELEASE
from config.logging import configure as configure_logging
from config.settings import load_settings
from engine import notifications
from engine import tick as rounds
from engine.bootstrap import Engine
from engine.bulk import LANE as BULK
from engine.inbox import take
from engine.relay import relay
from ledger import webhooks, workers
from ledger.migrate import head
from ledger.session import is_away
from signals.client import connect
from signals.stream import Intake
from tasks.app import configure
from tasks.runtime import Runtime

log = structlog.get_logger("worker.companion")  # run as `__main__`

BLOCK_MS = 1000
IDLE_MS = 20_000
RELAY_PAUSE = 0.05
# The relay's rows are locked meanwhile, and the ledger ends a transaction that says nothing for ten seconds.
RELAY_PATIENCE = 2.0


class Companion:
    """Three loops over one engine; each survives the absence of Redis or the database and goes on when they return."""

    def __init__(self, runtime: Runtime, *, stop: threading.Event) -> None:
        self._runtime = runtime
        self._engine: Engine = runtime.engine
        self._stop = stop
        self._name = self._engine.worker
        self._drain = False
        self._details = {"pid": os.getppid(), "version": 1, "release": RELEASE, "schema": head()}

    def run(self) -> None:
        """Until told to stop."""
        loops = (self._intake, self._relay, self._round)
        threads = [threading.Thread(target=self._patiently, args=(loop,), name=loop.__name__) for loop in loops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._engine.ledger.run(lambda connection: workers.leave(connection, self._name))

    def _patiently(self, loop: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                loop()
            except Exception as error:
                if is_away(error) or isinstance(error, (redis.RedisError, OSError)):
                    log.warning("companion.waiting", loop=loop.__name__, error=type(error).__name__)
                    self._stop.wait(0.5)
                else:
                    log.exception("companion.failed", loop=loop.__name__)
                    self._stop.wait(1.0)

    # -- jobs in -----------------------------------------------------------------------------------------------------

    def _intake(self) -> None:
        """What this consumer left unfinished, what dead ones left, then what is new."""
        stream = Intake(connect(str(self._engine.settings.redis.url)), self._name)
        stream.prepare()
        size = self._engine.settings.intake.batch
        while take(self._engine, stream, stream.mine(size)) and not self._stop.is_set():
            pass
        looked = 0.0
        while not self._stop.is_set():
            if time.monotonic() - looked > IDLE_MS / 2000:
                looked = time.monotonic()
                take(self._engine, stream, stream.abandoned(size, idle=IDLE_MS))
            if self._drain:
                self._stop.wait(1.0)
                continue
            take(self._engine, stream, stream.read(size, block=BLOCK_MS))

    # -- changes out -------------------------------------------------------------------------------------------------

    def _relay(self) -> None:
        client = connect(str(self._engine.settings.redis.url), timeout=RELAY_PATIENCE)
        while not self._stop.is_set():
            if relay(self._engine, client) == 0:
                self._stop.wait(RELAY_PAUSE)

    # -- the clock ---------------------------------------------------------------------------------------------------

    def _round(self) -> None:
        while not self._stop.wait(1.0):
            self._beat()
            if not self._redis_answers():
                self._work_alone()
            elif rounds.beat_is_silent(self._engine):
                rounds.tick(self._engine)

    def _beat(self) -> None:
        engine = self._engine
        now = engine.clock()
        engine.ledger.run(lambda connection: workers.beat(connection, self._name, "worker", now, self._details))
        with engine.ledger.read() as connection:
            self._drain = workers.is_draining(connection, self._name)

    def _redis_answers(self) -> bool:
        try:
            return bool(self._engine.redis is not None and self._engine.redis.ping())
        except redis.RedisError:
            return False

    def _work_alone(self) -> None:
        """Without Redis no doorbell sounds: the companion does what is due itself, within a share of the limits."""
        engine = self._engine
        due = rounds.due_work(engine)
        with engine.ledger.read() as connection:
            endpoints = webhooks.due_endpoints(connection, engine.clock())
        if due or endpoints:
            log.warning("redis.away", working_on=len(due) + len(endpoints))
        for account, lane in due:
            work = self._runtime.begin if lane in (notifications.LANE, BULK) else self._runtime.turn
            work(lane, account)
        for endpoint in endpoints:
            self._runtime.deliver(endpoint)


def main() -> None:
    """Run until the worker's pipe closes or a signal comes."""
    settings = load_settings()
    configure_logging(settings.logging.level)
    configure(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=_until_orphaned, args=(stop,), daemon=True).start()
    runtime = Runtime(settings, "companion")
    Companion(runtime, stop=stop).run()
    runtime.close()


def _until_orphaned(stop: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()


if __name__ == "__main__":
    main()
