"""Webhook endpoints: made, given new secrets, switched off and on, and told again what they have missed."""

import secrets
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection

from domain.errors import FieldError, InvalidJob, NotFound, Refused
from domain.webhook import EVENT_TYPES, Told, as_secret, check_url
from engine.bootstrap import Engine
from engine.fanout import ring
from engine.ids import new_id
from engine.people import Actor, Verb, require
from engine.view import stamp
from ledger import deliveries, journal, webhooks
from ledger.webhooks import DELETED, DISABLED, ENABLED, Endpoint

T = TypeVar("T")

SECRET_BYTES = 32
MOST_SECRETS = 4
OVERLAP = 86_400.0
SYSTEM = "system"


class Secret(msgspec.Struct, frozen=True):
    """One secret of an endpoint; `until` None: the current one."""

    secret: str
    until: float | None = None

    def lives(self, now: float) -> bool:
        """Whether deliveries are signed with it."""
        return self.until is None or self.until > now


def create(
    engine: Engine, actor: Actor, url: str, *, types: Sequence[str] = (), accounts: Sequence[str] = ()
) -> tuple[Endpoint, str]:
    """A new endpoint and its secret, which is never shown again. Raises InvalidJob naming the field."""
    require(actor, Verb.ADMINISTER)
    given = engine.settings.webhooks
    check_url(url, allow_http=given.allow_http, allowed=given.allow_networks)
    _known("types", types, EVENT_TYPES)
    _known("accounts", accounts, sorted(engine.accounts))
    now = engine.clock()
    secret = Secret(as_secret(secrets.token_bytes(SECRET_BYTES)))
    made = Endpoint(
        id=new_id("we", now),
        url=url,
        types=tuple(dict.fromkeys(types)),
        accounts=tuple(dict.fromkeys(accounts)),
        secrets=_sealed(engine, [secret]),
        created_by=actor.name,
        created_at=now,
        changed_by=actor.name,
        changed_at=now,
    )

    def work(connection: Connection) -> None:
        webhooks.add_endpoint(connection, made)
        _told(connection, engine, made.id, "endpoint.created", actor.name, url=url, types=types, accounts=accounts)

    engine.ledger.run(work)

    return made, secret.secret


def _known(field: str, given: Sequence[str], known: Sequence[str]) -> None:
    for each in given:
        if each not in known:
            raise InvalidJob(FieldError(f"#/{field}", f"{each[:63]!r} is none of {', '.join(known)}"))


def rotate(engine: Engine, actor: Actor, name: str, *, overlap: float = OVERLAP) -> str:
    """A new secret, shown once; the ones before it go on signing for `overlap` seconds at most."""

    def work(connection: Connection, found: Endpoint) -> str:
        now = engine.clock()
        new = Secret(as_secret(secrets.token_bytes(SECRET_BYTES)))
        old = [Secret(each.secret, min(each.until or now + overlap, now + overlap)) for each in _secrets(engine, found)]
        kept = [new, *(each for each in old if each.lives(now))]
        if len(kept) > MOST_SECRETS:
            raise Refused("too-many-secrets", f"{MOST_SECRETS} secrets live already: wait, or rotate with overlap 0")
        webhooks.change_endpoint(connection, name, secrets=_sealed(engine, kept), **_by(engine, actor.name))
        _told(connection, engine, name, "endpoint.rotated", actor.name, overlap=overlap, live=len(kept))
        return new.secret

    return _administer(engine, actor, name, work)


def disable(engine: Engine, actor: Actor, name: str, *, reason: str) -> None:
    """Send nothing more to it; what happens meanwhile is kept for its return."""

    def work(connection: Connection, _found: Endpoint) -> None:
        values = {"state": DISABLED, "reason": reason[:512], "failing_since": None, **_by(engine, actor.name)}
        webhooks.change_endpoint(connection, name, **values)
        _told(connection, engine, name, "endpoint.disabled", actor.name, reason=reason)

    _administer(engine, actor, name, work)


def enable(engine: Engine, actor: Actor, name: str) -> None:
    """Send again, all that has waited first."""

    def work(connection: Connection, _found: Endpoint) -> None:
        now = engine.clock()
        health = {"failing_since": None, "recovered_at": now, "paused_until": 0.0}
        webhooks.change_endpoint(connection, name, state=ENABLED, reason=None, **health, **_by(engine, actor.name))
        _told(connection, engine, name, "endpoint.enabled", actor.name)

    _administer(engine, actor, name, work)
    ring(engine, [name])


def remove(engine: Engine, actor: Actor, name: str) -> None:
    """Delete it and its secrets; its deliveries stay to be looked at for as long as they are kept."""

    def work(connection: Connection, found: Endpoint) -> None:
        values = {"state": DELETED, "secrets": _sealed(engine, []), **_by(engine, actor.name)}
        webhooks.change_endpoint(connection, name, **values)
        _told(connection, engine, name, "endpoint.deleted", actor.name, url=found.url)

    _administer(engine, actor, name, work)


def switched_off(engine: Engine, connection: Connection, name: str, reason: str) -> None:
    """Disable an endpoint for what its receiver did, in the transaction that has seen it."""
    values = {"state": DISABLED, "reason": reason, **_by(engine, SYSTEM)}
    webhooks.change_endpoint(connection, name, **values)
    _told(connection, engine, name, "endpoint.disabled", SYSTEM, reason=reason)


def resend(engine: Engine, actor: Actor, delivery_id: str) -> int:
    """Send one delivery once more, under the webhook-id it had. Raises NotFound, or Refused for a disabled endpoint."""
    require(actor, Verb.ACT)
    with engine.ledger.read() as connection:
        found = deliveries.get(connection, delivery_id)
    if found is None:
        raise NotFound("not-found", f"there is no delivery {delivery_id!r}")

    return _again(engine, actor, str(found["endpoint"]), delivery_id=delivery_id)


def resend_range(
    engine: Engine,
    actor: Actor,
    name: str,
    *,
    since: float | None,
    until: float | None = None,
    state: Told | None = None,
) -> int:
    """Send every delivery that an endpoint was made between two times once more; answers how many."""
    require(actor, Verb.ACT)

    return _again(engine, actor, name, since=since, until=until, state=state)


def _again(engine: Engine, actor: Actor, name: str, **chosen: Any) -> int:
    def work(connection: Connection, found: Endpoint) -> int:
        if found.state != ENABLED:
            raise Refused("endpoint-disabled", f"{name} is disabled: enable it first, which sends all that waits")
        count = deliveries.again(connection, name, engine.clock(), **chosen)
        what = {key: stamp(value) if isinstance(value, float) else value for key, value in chosen.items()}
        _told(connection, engine, name, "webhooks.resent", actor.name, deliveries=count, **what)
        return count

    count = _held(engine, name, work)
    ring(engine, [name])

    return count


def live_secrets(engine: Engine, endpoint: Endpoint, now: float) -> list[str]:
    """The secrets that deliveries are signed with, the newest first."""
    return [each.secret for each in _secrets(engine, endpoint) if each.lives(now)]


# -- to be looked at ---------------------------------------------------------------------------------------------------


def endpoint_view(engine: Engine, endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint as it is answered, with no secret."""
    now = engine.clock()
    live = [each for each in _secrets(engine, endpoint) if each.lives(now)]
    with engine.ledger.read() as connection:
        counts = deliveries.counts(connection, endpoint.id)

    return {
        "id": endpoint.id,
        "object": "webhook_endpoint",
        "url": endpoint.url,
        "types": list(endpoint.types),
        "accounts": list(endpoint.accounts),
        "state": endpoint.state,
        "reason": endpoint.reason,
        "secrets": [{"expires_at": stamp(each.until)} for each in live],
        "waiting": counts.get(Told.WAITING, 0),
        "undelivered": counts.get(Told.UNDELIVERED, 0),
        "failing_since": stamp(endpoint.failing_since),
        "created_by": endpoint.created_by,
        "created_at": stamp(endpoint.created_at),
        "changed_by": endpoint.changed_by,
        "changed_at": stamp(endpoint.changed_at),
    }


def endpoints(engine: Engine) -> list[dict[str, Any]]:
    """Every endpoint."""
    with engine.ledger.read() as connection:
        found = webhooks.endpoints(connection)

    return [endpoint_view(engine, each) for each in found]


def endpoint(engine: Engine, name: str) -> dict[str, Any]:
    """One endpoint. Raises NotFound."""
    with engine.ledger.read() as connection:
        return endpoint_view(engine, _found(name, webhooks.endpoint(connection, name)))


def sent(
    engine: Engine,
    *,
    endpoint: str | None = None,
    state: str | None = None,
    refund_id: str | None = None,
    limit: int = 50,
    before: str | None = None,
) -> list[dict[str, Any]]:
    """The newest deliveries, of one endpoint, in one state, of one refund, older than the id `before`."""
    equal = {"endpoint": endpoint, "state": state, "refund_id": refund_id}
    with engine.ledger.read() as connection:
        rows = deliveries.listed(connection, limit=limit, before=before, **equal)

    return [_delivery_view(row) for row in rows]


def delivery(engine: Engine, delivery_id: str) -> dict[str, Any]:
    """One delivery with its payload and attempts. Raises NotFound."""
    with engine.ledger.read() as connection:
        row = deliveries.get(connection, delivery_id)
        if row is None:
            raise NotFound("not-found", f"there is no delivery {delivery_id!r}")
        tried = deliveries.attempts(connection, delivery_id)

    return {
        **_delivery_view(row),
        "payload": msgspec.json.decode(row["payload"]),
        "tried": [
            {
                "at": stamp(each["at"]),
                "status": each["status"],
                "ms": each["ms"],
                "error": each["error"],
                "answer": engine.vault.open(each["answer"]).decode("utf-8", "replace") if each["answer"] else None,
            }
            for each in tried
        ],
    }


def _delivery_view(row: Any) -> dict[str, Any]:
    return {
        "id": row["id"],
        "object": "webhook_delivery",
        "endpoint": row["endpoint"],
        "refund": row["refund_id"],
        "version": row["version"],
        "type": row["type"],
        "state": row["state"],
        "attempts": row["attempts"],
        "next_at": stamp(row["due_at"]) if row["state"] == Told.WAITING else None,
        "last_at": stamp(row["last_at"]),
        "last_status": row["last_status"],
        "last_ms": row["last_ms"],
        "last_error": row["last_error"],
        "created_at": stamp(row["created_at"]),
    }


# -- the pieces --------------------------------------------------------------------------------------------------------


def _administer(engine: Engine, actor: Actor, name: str, work: Callable[[Connection, Endpoint], T]) -> T:
    require(actor, Verb.ADMINISTER)

    return _held(engine, name, work)


def _held(engine: Engine, name: str, work: Callable[[Connection, Endpoint], T]) -> T:
    """`work` in one transaction in which the endpoint is nobody else's. Raises NotFound."""
    return engine.ledger.run(
        lambda connection: work(connection, _found(name, webhooks.endpoint(connection, name, hold=True)))
    )


def _found(name: str, found: Endpoint | None) -> Endpoint:
    if found is None:
        raise NotFound("not-found", f"there is no webhook endpoint {name!r}")

    return found


def _secrets(engine: Engine, found: Endpoint) -> list[Secret]:
    return msgspec.json.decode(engine.vault.open(found.secrets), type=list[Secret])


def _sealed(engine: Engine, given: Sequence[Secret]) -> bytes:
    return engine.vault.seal(msgspec.json.encode(given))


def _by(engine: Engine, actor: str) -> dict[str, Any]:
    return {"changed_by": actor, "changed_at": engine.clock()}


def _told(connection: Connection, engine: Engine, name: str, kind: str, actor: str, **data: Any) -> None:
    journal.append(connection, f"endpoint/{name}", kind, actor=actor, now=engine.clock(), data=data)
