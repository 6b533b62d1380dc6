"""Rows 1 and 2: refunds per second and CPU per refund, against a plain Celery task per refund and Celery's no-op.

    python -m benchmarks --only throughput      the three Celery pools and Celery's no-op
    python -m benchmarks --only peers           every other task queue

Both sides start from rows in a durable PostgreSQL and end with every refund final. Ours are submitted beforehand to a
paused account, which is then released; theirs wait in their queue before the workers start. The clock starts once some
are paid, by every child and thread, so that nobody pays for its own start or for the handing in. It runs until the
provider's stand-in has answered the last one and the ledger knows; CPU is counted over every process tree: workers with
their parents and companions, PostgreSQL, Redis. The stand-in's own is shown apart.

What counts is the clock on the wall with everything on one machine: workers, PostgreSQL, Redis, the stand-in. The
rounds of all sides alternate. Beside it stands the rate per second of CPU, which other work on the machine moves less.
"""

import os
from collections.abc import Callable, Sequence

from sqlalchemy import text

from benchmarks.environments import NotInstalled, python_of
from benchmarks.ground import Ground, Memory, fill, release, smartpay
from benchmarks.measured import Row, Spread, short, spread
from benchmarks.peers import plain_celery
from benchmarks.roster import OTHERS, POOLS, Figures, Peer, best_size, rated, run, versions
from engine.bootstrap import Engine
from tests.support.processes import wait_until

# The provider's limit is not what is measured: every child can have its hands full.
CONCURRENCY = 1000
# Every process opens its connections with these; the others' warm-up is `roster.WARM_UPS`.
WARM_UP = 1000
NO_OPS = (("solo", 1), ("prefork", 4))
PARTS = ("worker", "postgres", "redis", "stand_in")
WANTED = 10
OWN_CPU_MS = 0.8

Side = Callable[[Ground], Figures]


def measure(*, quick: bool) -> list[Row]:
    """Both rows, against Celery."""
    ours, theirs, nothing, rounds = (4000, 400, 1500, 1) if quick else (8000, 1000, 3000, 3)
    sides: dict[str, Side] = {"refundry": lambda ground: refundry(ground, ours)}
    sides |= against(POOLS, theirs, probe=0 if quick else 300)
    for pool, size in NO_OPS:
        sides[f"Celery no-op, {pool}"] = lambda ground, p=pool, s=size: no_op(ground, p, s, nothing)

    return rows(alternating(sides, rounds))


def measure_peers(*, quick: bool) -> list[Row]:
    """The other task queues."""
    ours, theirs, rounds = (4000, 400, 1) if quick else (8000, 800, 3)
    sides: dict[str, Side] = {"refundry": lambda ground: refundry(ground, ours)}
    sides |= against(OTHERS, theirs, probe=0 if quick else 300)

    return [compared(alternating(sides, rounds))]


def against(peers: Sequence[Peer], jobs: int, *, probe: int) -> dict[str, Side]:
    """A side for each peer, at the best concurrency that a probe of so many refunds finds; 0: at its highest."""
    sides: dict[str, Side] = {}
    for peer in peers:
        try:
            python_of(peer.environment)
            size = _probed(peer, probe) if probe else peer.sizes[-1]
        except (NotInstalled, AssertionError, RuntimeError) as error:
            print(f"  {peer.name}: left out, {str(error)[:500]}", flush=True)
            continue
        sides[peer.described(size)] = lambda ground, p=peer, s=size: run(ground, p, s, jobs)

    return sides


def _probed(peer: Peer, jobs: int) -> int:
    size, rates = best_size(peer, jobs)
    shown = ", ".join(f"{each}: {short(rate)}/s" for each, rate in rates.items())
    print(f"  probe of {peer.name} ({shown}): {size}", flush=True)

    return size


def alternating(sides: dict[str, Side], rounds: int) -> dict[str, list[Figures]]:
    """So many rounds, in each of which every side runs once; a side that fails is left out from then on."""
    taken: dict[str, list[Figures]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(taken):
            try:
                with Ground() as ground:
                    taken[name].append(sides[name](ground))
            except (AssertionError, RuntimeError) as error:
                if name == "refundry":
                    raise
                print(f"  {name}: failed, {str(error)[:500]}", flush=True)
                del taken[name]
                continue
            print(f"  round {number + 1}, {name}: {described(taken[name][-1])}", flush=True)

    return taken


def described(figures: Figures) -> str:
    """One round in one line."""
    parts = (f"{name} {short(1000 * figures[name])}" for name in PARTS)
    return f"{short(figures['wall_rate'])}/s, {short(figures['core_rate'])} per CPU second; ms each: {', '.join(parts)}"


def rows(taken: dict[str, list[Figures]]) -> list[Row]:
    """The table's lines out of all rounds."""
    ours = taken["refundry"]
    plains = {name: each for name, each in taken.items() if name != "refundry" and "no-op" not in name}
    plain_best = fastest(plains)
    no_op_best = fastest({name: each for name, each in taken.items() if "no-op" in name})
    times, over = ratios(ours, taken[plain_best]), ratios(ours, taken[no_op_best])
    times_cpu = ratios(ours, taken[fastest(plains, "core_rate")], "core_rate")
    worker = spread([1000 * each["worker"] for each in ours], "ms")

    return [
        Row(
            what="refunds per second, all processes included",
            figure=f"{short(times.median)} times the best plain pool ({plain_best.partition(', ')[2]}), "
            f"{short(over.median)} times Celery's no-op; per CPU second {short(times_cpu.median)} times",
            bar="at least 10 times; above the no-op",
            holds=times.median >= WANTED and over.median > 1,
            details={
                "refundry to the best plain pool": times,
                "refundry to Celery's no-op": over,
                "refundry to the best plain pool, per CPU second": times_cpu,
                **_details(taken),
            },
            raw=_raw(taken),
        ),
        Row(
            what="CPU per refund in the worker",
            figure=f"{short(worker.median)} ms",
            bar=f"below {OWN_CPU_MS} ms",
            holds=worker.median < OWN_CPU_MS,
            details={
                "parent, children and companion": worker,
                **{
                    f"beside it, {part.replace('_', ' ')}": spread([1000 * each[part] for each in ours], "ms")
                    for part in PARTS[1:]
                },
            },
        ),
    ]


def compared(taken: dict[str, list[Figures]]) -> Row:
    """Other task queues, side by side."""
    ours = taken["refundry"]
    others = {name: each for name, each in taken.items() if name != "refundry"}
    best = fastest(others)
    times = {f"refundry to {name}": ratios(ours, each) for name, each in others.items()}

    return Row(
        what="refunds per second beside other task queues",
        figure=f"{short(times[f'refundry to {best}'].median)} times the best of them ({best})",
        details={**times, **_details(taken)},
        notes=(f"Locked at {versions(OTHERS)}.",),
        raw=_raw(taken),
    )


def _details(taken: dict[str, list[Figures]]) -> dict[str, Spread]:
    details: dict[str, Spread] = {}
    for name, figures in taken.items():
        details[f"{name}: wall clock"] = spread([each["wall_rate"] for each in figures], "/s")
        details[f"{name}: per CPU second"] = spread([each["core_rate"] for each in figures], "/s")
        if "memory" in figures[0]:
            details[f"{name}: peak memory"] = spread([each["memory"] for each in figures], "MB")

    return details


def _raw(taken: dict[str, list[Figures]]) -> list[dict[str, float | str]]:
    return [
        {"side": name, "round": number, **figures}
        for name, rounds in taken.items()
        for number, figures in enumerate(rounds, 1)
    ]


def fastest(taken: dict[str, list[Figures]], rate: str = "wall_rate") -> str:
    """The side with the highest rate: by the clock on the wall, or `core_rate`, by the second of CPU."""
    return max(taken, key=lambda name: spread([each[rate] for each in taken[name]]).median)


def ratios(ours: list[Figures], theirs: list[Figures], rate: str = "wall_rate") -> Spread:
    """Our rate over theirs, round by round."""
    return spread([mine[rate] / other[rate] for mine, other in zip(ours, theirs, strict=True)], "times")


def refundry(ground: Ground, jobs: int, *, workers: int = 1) -> Figures:
    """Submitted beforehand to a paused account; the clock starts when the warm-up has been paid."""
    installation = ground.installation({"shop": smartpay(f"{ground.provider}/v1", concurrency=CONCURRENCY)})
    engine = ground.engine(installation)
    fill(engine, "shop", WARM_UP + jobs)
    with ground.refundries(installation, workers) as processes:
        wait_until(lambda: told(engine), what="an empty outbox")
        release(engine, "shop")
        wait_until(lambda: ground.paid() >= WARM_UP, what="the warm-up")
        logged, clock, early = ground.logged(), ground.clock(*processes), ground.paid()
        with Memory(*processes) as memory:
            wait_until(lambda: ground.paid() >= WARM_UP + jobs, timeout=300, what="the last refund")
            wait_until(lambda: final(engine) == WARM_UP + jobs, what="the last answer in the ledger")
            wall = clock.read()["wall"]
        wait_until(lambda: told(engine), what="an empty outbox")
        count = WARM_UP + jobs - early
        figures = rated({**clock.read(), "wall": wall}, count)
        logged = {name: (value - logged[name]) / count for name, value in ground.logged().items()}
        assert ground.ask("_count")["doubled"] == 0
    engine.close()

    return {**figures, **logged, "memory": memory.total, "largest": memory.largest}


def final(engine: Engine) -> int:
    """Refunds that have succeeded."""
    with engine.ledger.read() as connection:
        return int(connection.execute(text("SELECT count(*) FROM refund WHERE state = 'succeeded'")).scalar_one())


def told(engine: Engine) -> bool:
    """Whether every change of state has left the outbox."""
    with engine.ledger.read() as connection:
        return connection.execute(text("SELECT 1 FROM outbox LIMIT 1")).first() is None


def no_op(ground: Ground, pool: str, size: int, messages: int) -> Figures:
    """Messages that do nothing; handed in beforehand, under a name that the worker does not read yet."""
    os.environ["PEER_BROKER"] = ground.redis.url
    plain_celery.publish("nothing", [str(number) for number in range(messages)], queue="held")
    options = (f"--pool={pool}", "-c", str(size))
    env = {"PEER_BROKER": ground.redis.url}
    with (
        ground.worker("benchmarks.peers.plain_celery", *options, env=env) as worker,
        ground.redis.client() as client,
    ):
        clock = ground.clock(worker)
        client.rename("held", "celery")
        wait_until(
            lambda: client.llen("celery") == 0 and client.hlen("unacked") == 0, timeout=300, what="the last message"
        )
        return rated(clock.read(), messages)
