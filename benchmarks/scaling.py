"""How far it goes: a model of ten to a hundred machines with what was measured on one, and the page made of it.

Each refund asks every part for some time (measured); a part saturates when it is asked for all it has. Between rest and
saturation the rate follows from mean value analysis of a closed queueing network: so many refunds are under way, each
queues at the worker's processors, PostgreSQL's processors, the write-ahead log, Redis, and waits for the provider.
Imports nothing but the standard library, so that the charts' environment can read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any

TEMPLATE = Path(__file__).with_name("scaling.md")
MACHINES = (1, 2, 5, 10, 20, 50, 100)
CORES = 2
PROCESSES = 4
#: Workers that were measured on one machine.
WORKERS = (1, 2, 4)
#: What a process keeps under way for an account: `engine.pump`'s.
WINDOW = 512
LATENCY = 0.05
#: Of a part's capacity, how much is planned with: beyond, every hiccup becomes a queue.
USABLE = 0.7


@dataclass(frozen=True, slots=True)
class Station:
    """A part of the system: seconds of each refund, and how many it serves at once."""

    name: str
    seconds: float
    servers: int = 1

    @property
    def capacity(self) -> float:
        """Refunds per second when it never rests."""
        return self.servers / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """Seconds of each refund at every part, and the machines. `relay`: of its changes of state, which one tells."""

    worker: float
    postgres: float
    redis: float
    relay: float
    commits: float
    flush: float
    wal_bytes: float
    machines: int = 1
    postgres_cores: int = 16
    latency: float = LATENCY

    def stations(self) -> list[Station]:
        """What every refund passes on its way. The relay is not on it, but must keep pace."""
        return [
            Station("the workers' processors", self.worker, CORES * self.machines),
            Station("PostgreSQL's processors", self.postgres, self.postgres_cores),
            Station("PostgreSQL's commits", self.commits * self.flush),
            Station("Redis", self.redis),
            Station("the relay of events", self.relay),
        ]

    @property
    def under_way(self) -> int:
        """How many refunds can be under way."""
        return self.machines * PROCESSES * WINDOW


def rate(stations: list[Station], latency: float, customers: int) -> float:
    """Refunds per second with so many under way: mean value analysis, many servers by Seidmann's approximation."""
    queueing = [station.seconds / station.servers for station in stations]
    waiting = latency + sum(station.seconds * (station.servers - 1) / station.servers for station in stations)
    lengths = [0.0] * len(stations)
    found = 0.0
    for number in range(1, customers + 1):
        times = [demand * (1 + length) for demand, length in zip(queueing, lengths, strict=True)]
        found = number / (waiting + sum(times))
        lengths = [found * each for each in times]

    return found


def first_to_saturate(plant: Plant) -> Station:
    """The part with the least capacity."""
    return min(plant.stations(), key=lambda station: station.capacity)


def curve(plant: Plant) -> dict[int, float]:
    """Refunds per second by the number of machines."""
    return {
        count: rate(at.stations(), at.latency, at.under_way)
        for count in MACHINES
        for at in (replace(plant, machines=count),)
    }


def machines_for(plant: Plant, station: Station) -> float:
    """How many machines bring the part to what is planned with."""
    return USABLE * station.capacity / (USABLE * CORES / plant.worker)


# -- from what was measured ------------------------------------------------------------------------------------------


def measured(kept: Mapping[str, Any]) -> bool:
    """Whether the data have what the model needs."""
    return {"scaleout", "limits"} <= set(kept["parts"])


def plant_of(kept: Mapping[str, Any]) -> Plant:
    """The plant as it was measured with one worker on one machine."""
    about = _details(kept, "scaleout")
    flushes = _details(kept, "limits")["commits over 1 connection"]

    return Plant(
        worker=about["1 workers: CPU of worker for each"] / 1000,
        postgres=about["1 workers: CPU of postgres for each"] / 1000,
        redis=about["1 workers: CPU of redis for each"] / 1000,
        relay=CHANGES / about["changes told by the relay"],
        commits=about["1 workers: commits for each"],
        flush=1 / flushes,
        wal_bytes=about["1 workers: write-ahead log for each"],
    )


#: Accepted, sending, final: what a refund with a synchronous provider tells.
CHANGES = 3


def _details(kept: Mapping[str, Any], part: str) -> dict[str, float]:
    return {name: each["median"] for row in kept["parts"][part]["rows"] for name, each in row["details"].items()}


# -- the page --------------------------------------------------------------------------------------------------------


def rendered(kept: Mapping[str, Any]) -> str:
    """The page: its words from the template, every figure from the data."""
    plant = plant_of(kept)
    here = _details(kept, "scaleout")
    shared = plant.worker + plant.postgres + plant.redis + here["1 workers: CPU of stand in for each"] / 1000
    cores = kept["parts"]["scaleout"]["machine"]["cores"]
    first = first_to_saturate(replace(plant, machines=max(MACHINES)))
    ceiling = USABLE * first.capacity

    return Template(TEMPLATE.read_text()).substitute(
        stations=_stations(plant),
        curve=_curve(plant),
        measured=_workers(here),
        model_here=f"{cores / shared:,.0f}",
        measured_here=f"{max(here[f'{count} workers: refunds per second'] for count in WORKERS):,.0f}",
        first=first.name,
        ceiling=f"{ceiling:,.0f}",
        per_day=f"{ceiling * 86_400 / 1e6:,.0f}",
        machines=f"{machines_for(plant, first):,.0f}",
        accounts=f"{ceiling / 100:,.0f}",
        window=WINDOW,
        one_process=f"{1 / plant.worker:,.0f}",
        wal=f"{ceiling * plant.wal_bytes / 1e6:,.0f}",
        wal_day=f"{ceiling * plant.wal_bytes * 86_400 / 1e12:,.1f}",
        batch=f"{1 / plant.commits:,.0f}",
        alone=f"{1 / (CHANGES * plant.flush):,.0f}",
        usable=f"{USABLE:.0%}".replace("%", " %"),
        postgres_cores=plant.postgres_cores,
        cores=CORES,
        processes=PROCESSES,
    )


def _stations(plant: Plant) -> str:
    head = ["| part | of each refund | at once | saturates at | planned with |", "|---|---|---|---|---|"]
    lines = [
        f"| {station.name} | {1000 * station.seconds:.3f} ms | {station.servers} | {station.capacity:,.0f}/s "
        f"| {USABLE * station.capacity:,.0f}/s |"
        for station in plant.stations()
    ]

    return "\n".join(head + lines)


def _curve(plant: Plant) -> str:
    lines = ["| machines | refunds per second | busiest part | busy |", "|---|---|---|---|"]
    for count, found in curve(plant).items():
        busiest = first_to_saturate(replace(plant, machines=count))
        lines.append(f"| {count} | {found:,.0f} | {busiest.name} | {100 * found / busiest.capacity:.0f} % |")

    return "\n".join(lines)


def _workers(here: Mapping[str, float]) -> str:
    head = ["| workers on one machine | refunds per second | CPU of worker for each | commits for each |"]
    lines = [
        f"| {count} | {here[f'{count} workers: refunds per second']:,.0f} "
        f"| {here[f'{count} workers: CPU of worker for each']:.3f} ms "
        f"| {here[f'{count} workers: commits for each']:.3f} |"
        for count in WORKERS
    ]

    return "\n".join([*head, "|---|---|---|---|", *lines])
