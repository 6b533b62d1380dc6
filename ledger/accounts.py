"""Switches that people set on an account: they survive Redis, for an account that was stopped must stay stopped."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from ledger.models import account

#: The switches of all accounts together, kept like one account's; no account is called so.
EVERY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """How an account is switched. `breaker`: forced `open` or `closed` until `breaker_until`."""

    name: str
    paused: bool
    pause_reason: str | None
    breaker: str | None
    breaker_until: float | None
    changed_by: str | None
    changed_at: float

    def forced(self, now: float) -> str | None:
        """The breaker's forced position at `now`."""
        return self.breaker if self.breaker_until is None or now < self.breaker_until else None

    def stops_sending(self, now: float) -> bool:
        """Whether first sendings rest."""
        return self.paused or self.forced(now) == "open"


def switch(connection: Connection, name: str) -> Switch | None:
    """An account's switches; None while nobody has touched them."""
    return next(_found(connection, name), None)


def sending_rests(connection: Connection, name: str, now: float) -> bool:
    """Whether an account's first sendings rest, by its own switches or by those of all."""
    return any(each.stops_sending(now) for each in _found(connection, name, EVERY))


def paused(connection: Connection) -> list[str]:
    """The accounts that people, or refused credentials, have paused; `EVERY` for all together."""
    return list(connection.scalars(select(account.c.name).where(account.c.paused).order_by(account.c.name)))


def _found(connection: Connection, *names: str) -> Iterator[Switch]:
    for row in connection.execute(select(account).where(account.c.name.in_(names))):
        yield Switch(**{**row._mapping, "paused": bool(row.paused)})  # noqa: SLF001


def set_switch(connection: Connection, name: str, *, actor: str, now: float, **values: Any) -> None:
    """Change an account's switches."""
    changed = {**values, "changed_by": actor, "changed_at": now}
    done = connection.execute(update(account).where(account.c.name == name).values(**changed))
    if done.rowcount == 0:
        connection.execute(insert(account).values(name=name, **changed))
