"""A failing seed made small: fault kinds are taken away while it still fails."""

from dataclasses import replace

from tests.simulation.run import Result, simulate


def shrink(result: Result) -> tuple[Result, tuple[str, ...]]:
    """The smallest failing run found, and the kinds of faults that it needs."""
    assert result.violation is not None
    rule = result.violation.rule
    best, left = result, tuple(result.kinds)

    def fails(kinds: tuple[str, ...]) -> Result | None:
        again = simulate(result.seed, result.mode, only=kinds, rates=result.rates, parameters=best.parameters)
        return again if again.violation is not None and again.violation.rule == rule else None

    for kind in tuple(left):
        fewer = tuple(each for each in left if each != kind)
        found = fails(fewer)
        if found is not None:
            best, left = found, fewer
    for smaller in (
        replace(best.parameters, workers=1),
        replace(best.parameters, beats=1),
        replace(best.parameters, accounts=best.parameters.accounts[:1]),
        replace(best.parameters, refunds=1),
        replace(best.parameters, refunds=2),
    ):
        again = simulate(result.seed, result.mode, only=left, rates=result.rates, parameters=smaller)
        if again.violation is not None and again.violation.rule == rule:
            best = again
            break

    return best, left


def told(result: Result, kinds: tuple[str, ...], commit: str) -> str:
    """What a person needs to repeat it and to understand it."""
    violation = result.violation
    assert violation is not None
    without = " ".join(kinds) or "none"
    lines = [
        f"FAILED seed {result.seed} ({result.mode}) at commit {commit}: {violation}",
        f"  again: python -m tests.simulation --seed {result.seed} --mode {result.mode} --trace",
        f"  faults it needs: {without}",
        f"  {result.parameters}",
    ]
    last = [line for line in result.lines if not line[2].startswith("GET")][-60:]
    lines += [f"  {at:12.3f}  {who}: {what}" for at, who, what in last]
    if result.events:
        lines.append(f"  events of {violation.refund}:")
        lines += [f"  {at - 1_800_000_000:12.3f}  {kind} by {actor} {data}" for at, kind, actor, data in result.events]

    return "\n".join(lines)
