"""Every crash point of one refund at every provider: the n-th point of the run is the one where the process dies."""

from dataclasses import dataclass

from tests.simulation.run import Result, simulate
from tests.simulation.world import ACCOUNTS, HOUR, Parameters

#: Faults that make the path longer: a crash is then tried in recovery and polling too.
PATHS: dict[str, tuple[str, ...]] = {
    "straight": (),
    "answer lost": ("lost_after",),
    "5xx after": ("error_500_after",),
    "never arrived": ("lost_before",),
    "declined": ("decline",),
}
SEED = 7


def parameters(account: str, pending: float) -> Parameters:
    """One refund, two machines."""
    return Parameters(
        workers=2,
        beats=1,
        accounts=(account,),
        payments=1,
        refunds=1,
        window=2 * HOUR,
        attempts=50,
        backoff=(1.0, 30.0),
        poll_horizon=HOUR,
        recovery_horizon=6 * HOUR,
        pending=pending,
        generous=True,
    )


@dataclass(frozen=True)
class Path:
    """One way through the life of a refund."""

    account: str
    kinds: str
    pending: float


def paths() -> list[Path]:
    """Every provider, every way."""
    return [Path(account, kinds, pending) for account in ACCOUNTS for kinds in PATHS for pending in (0.0, 20.0)]


def walk(path: Path) -> tuple[Path, int, list[tuple[int, str]]]:
    """Run the path once whole, then once for each of its crash points: how many runs, and which of them failed."""
    kinds = PATHS[path.kinds]
    given = parameters(path.account, path.pending)
    rates = dict.fromkeys(kinds, 0.5)
    failed: list[tuple[int, str]] = []

    def run(point: int | None) -> Result:
        result = simulate(SEED, "liveness", only=kinds, rates=rates, parameters=given, crash_at=point)
        if result.violation is not None:
            failed.append((point or 0, str(result.violation)))
        return result

    whole = run(None)
    for point in range(1, whole.points + 1):
        run(point)

    return path, whole.points + 1, failed
