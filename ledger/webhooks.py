"""Webhook endpoints. Whoever holds an endpoint's row works on its deliveries."""

from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, exists, func, insert, or_, select, update

from domain.webhook import Health
from ledger.models import webhook_delivery, webhook_endpoint

ENABLED = "enabled"
DISABLED = "disabled"
DELETED = "deleted"

_delivery = webhook_delivery.c
_endpoint = webhook_endpoint.c


class Endpoint(Struct, frozen=True, kw_only=True):
    """One receiver. `types` and `accounts`: what it is told of; empty for all. `secrets` is sealed."""

    id: str
    url: str
    types: tuple[str, ...]
    accounts: tuple[str, ...]
    secrets: bytes
    state: str = ENABLED
    reason: str | None = None
    failing_since: float | None = None
    recovered_at: float | None = None
    paused_until: float = 0.0
    created_by: str
    created_at: float
    changed_by: str
    changed_at: float

    @property
    def health(self) -> Health:
        """How it does."""
        return Health(failing_since=self.failing_since, recovered_at=self.recovered_at, paused_until=self.paused_until)

    def hears(self, kind: str, account: str) -> bool:
        """Whether it is told of such an event."""
        return (not self.types or kind in self.types) and (not self.accounts or account in self.accounts)


_ENDPOINT = tuple(_endpoint[name] for name in Endpoint.__struct_fields__)


def _load(row: Any) -> Endpoint:
    known = dict(zip(Endpoint.__struct_fields__, row, strict=True))
    known |= {name: tuple(msgspec.json.decode(known[name])) for name in ("types", "accounts")}

    return Endpoint(**known)


def add_endpoint(connection: Connection, made: Endpoint) -> None:
    """Insert one."""
    values = {name: getattr(made, name) for name in Endpoint.__struct_fields__}
    values |= {name: msgspec.json.encode(values[name]).decode() for name in ("types", "accounts")}
    connection.execute(insert(webhook_endpoint).values(values))


def endpoint(connection: Connection, name: str, *, hold: bool = False) -> Endpoint | None:
    """One endpoint; with `hold`, its deliveries are nobody else's in this transaction."""
    query = select(*_ENDPOINT).where(_endpoint.id == name, _endpoint.state != DELETED)
    row = connection.execute(query.with_for_update() if hold else query).first()

    return None if row is None else _load(row)


def endpoints(connection: Connection) -> list[Endpoint]:
    """All that are not deleted. Those that are switched off are told later, so they hear everything as well."""
    query = select(*_ENDPOINT).where(_endpoint.state != DELETED).order_by(_endpoint.id)

    return [_load(row) for row in connection.execute(query)]


def change_endpoint(connection: Connection, name: str, **values: Any) -> None:
    """Write these columns."""
    connection.execute(update(webhook_endpoint).where(_endpoint.id == name).values(values))


#: Whether anybody listens at all: a column for whoever reads the outbox.
LISTENING = exists(select(_endpoint.id).where(_endpoint.state != DELETED)).label("listening")


def due_endpoints(connection: Connection, now: float) -> list[str]:
    """Endpoints that have something to be sent now: one index probe each."""
    waits = exists().where(_delivery.endpoint == _endpoint.id, _delivery.state == "waiting", _delivery.due_at <= now)
    query = select(_endpoint.id).where(
        _endpoint.state == ENABLED, _endpoint.paused_until <= now, or_(waits, _endpoint.recovered_at.is_not(None))
    )

    return list(connection.scalars(query))


def troubled(connection: Connection, failing_before: float) -> dict[str, int]:
    """How many endpoints have failed since before then or are off for it, and how many deliveries were given up."""
    failing = select(func.count()).where(
        _endpoint.state != DELETED,
        _endpoint.failing_since.is_not(None),
        or_(_endpoint.failing_since < failing_before, _endpoint.state == DISABLED),
    )
    given_up = (
        select(func.count())
        .select_from(webhook_delivery.join(webhook_endpoint, _endpoint.id == _delivery.endpoint))
        .where(_delivery.state == "undelivered", _endpoint.state != DELETED)
    )

    return {"failing": connection.scalar(failing) or 0, "undelivered": connection.scalar(given_up) or 0}
