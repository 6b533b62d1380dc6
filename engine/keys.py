"""Keys of machines: made, shown once, recognised, ended."""

import hashlib
import hmac
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sqlalchemy import Connection

from domain.errors import Forbidden, NotFound, Refused, Unauthenticated
from engine.bootstrap import Engine
from engine.people import Actor, Role, Verb, require
from ledger import journal, keys
from ledger.keys import ApiKey

PREFIX = "rk_"
_ALPHABET = string.digits + string.ascii_letters
_ID_LENGTH = 8
_SECRET_LENGTH = 43  # as many of 62 characters as 32 bytes take
_LONGEST = 128
#: Live keys of one client: the one in use, and the one that is to take its place.
MOST_LIVE = 2
_MINUTE = 60.0


class Scope(StrEnum):
    """What a key opens."""

    WRITE = "refunds:write"
    READ = "refunds:read"
    METRICS = "metrics:read"


WHO = "a valid API key is required: Authorization: Bearer rk_…"


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that has been recognised. `client`: the name its keys share; `accounts` None: all of them."""

    client: str
    key_id: str
    scopes: frozenset[str]
    accounts: frozenset[str] | None

    @property
    def actor(self) -> Actor:
        """Who acts, for the use cases of people: a machine that may write may withdraw every refund of its accounts."""
        return Actor(f"key:{self.client}", frozenset({Role.OPERATOR} if Scope.WRITE in self.scopes else ()))

    def sees(self, account: str) -> bool:
        """Whether an account exists as far as this machine is concerned."""
        return self.accounts is None or account in self.accounts

    def require(self, scope: Scope) -> None:
        """Raises Forbidden."""
        if scope not in self.scopes:
            raise Forbidden("forbidden", f"this API key lacks the scope {scope}")


def create(
    engine: Engine,
    actor: Actor,
    name: str,
    *,
    scopes: Sequence[Scope],
    accounts: Sequence[str] = (),
    lifetime: float | None = None,
) -> tuple[ApiKey, str]:
    """Make a key, and the text that opens with it: nobody can show that again. No accounts: all of them."""
    require(actor, Verb.ADMINISTER)
    _well_named(engine, name, scopes, accounts)
    now = engine.clock()
    key_id, secret = PREFIX + _random(_ID_LENGTH), _random(_SECRET_LENGTH)
    made = ApiKey(
        id=key_id,
        name=name,
        secret_hash=_digest(secret),
        scopes=tuple(sorted(set(scopes))),
        accounts=tuple(sorted(set(accounts))) or None,
        created_by=actor.name,
        created_at=now,
        expires_at=None if lifetime is None else now + lifetime,
    )

    def work(connection: Connection) -> None:
        live = [each.id for each in keys.of_client(connection, name) if each.live(now)]
        if len(live) >= MOST_LIVE:
            raise Refused("too-many-keys", f"{name} has {MOST_LIVE} live keys: revoke {' or '.join(live)} first")
        keys.add(connection, made)
        _told(connection, engine, made, "key.created", actor)

    engine.ledger.run(work)

    return made, f"{key_id}_{secret}"


def _well_named(engine: Engine, name: str, scopes: Sequence[Scope], accounts: Sequence[str]) -> None:
    allowed = set(string.ascii_lowercase + string.digits + "._-")
    if not 0 < len(name) <= 60 or not set(name) <= allowed:  # noqa: PLR2004 - the column, less "key:"
        raise Refused("name-invalid", "a client's name is 1 to 60 of a-z, 0-9, dot, _ and -")
    if not scopes:
        raise Refused("scope-required", f"a key needs a scope: {', '.join(Scope)}")
    strange = sorted(set(accounts) - set(engine.accounts))
    if strange:
        raise NotFound("not-found", f"there is no account {', '.join(map(repr, strange))}")


def revoke(engine: Engine, actor: Actor, key_id: str) -> ApiKey:
    """End a key at once; ending it again changes nothing."""
    require(actor, Verb.ADMINISTER)

    def work(connection: Connection) -> ApiKey:
        now = engine.clock()
        found = keys.get(connection, [key_id]).get(key_id)
        if found is None:
            raise NotFound("not-found", f"there is no API key {key_id[:_LONGEST]!r}")
        if not keys.revoke(connection, key_id, actor=actor.name, now=now):
            return found
        _told(connection, engine, found, "key.revoked", actor)
        return replace(found, revoked_at=now, revoked_by=actor.name)

    return engine.ledger.run(work)


def everything(engine: Engine) -> list[ApiKey]:
    """All keys, newest first."""
    with engine.ledger.read() as connection:
        return keys.listed(connection)


def _told(connection: Connection, engine: Engine, key: ApiKey, kind: str, actor: Actor) -> None:
    data = {
        "name": key.name,
        "scopes": list(key.scopes),
        "accounts": None if key.accounts is None else list(key.accounts),
        "expires_at": key.expires_at,
    }
    journal.append(connection, f"key/{key.id}", kind, actor=actor.name, now=engine.clock(), data=data)


def authenticate(engine: Engine, given: Sequence[str]) -> list[Machine | Unauthenticated]:
    """The machine whose key each of these is, or the error to be raised, which never says what was wrong."""
    shown = [each[:_LONGEST].rpartition("_") for each in given]
    ids = {key_id.encode("utf-8", "replace").decode() for key_id, _, _ in shown if "\x00" not in key_id}
    now = engine.clock()
    with engine.ledger.read() as connection:
        found = keys.get(connection, ids)
    machines = [_machine(found.get(key_id), secret, now) for key_id, _, secret in shown]
    for each in {machine.key_id for machine in machines if isinstance(machine, Machine)}:
        _note_use(engine, found[each], now)

    return machines


def _machine(found: ApiKey | None, secret: str, now: float) -> Machine | Unauthenticated:
    fits = hmac.compare_digest(_digest(secret), found.secret_hash if found else _NOBODY)
    if found is None or not fits or not found.live(now):
        return Unauthenticated("unauthenticated", WHO)

    return Machine(
        client=found.name,
        key_id=found.id,
        scopes=frozenset(found.scopes),
        accounts=None if found.accounts is None else frozenset(found.accounts),
    )


def _note_use(engine: Engine, key: ApiKey, now: float) -> None:
    """To the minute: exactly enough to see whether a key can go, and one write a minute."""
    minute = now - now % _MINUTE
    if key.last_used_at is None or key.last_used_at < minute:
        engine.ledger.run(lambda connection: keys.used(connection, key.id, minute))


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _digest(secret: str) -> str:
    """256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


#: Compared where there is no such key, so that its absence takes as long.
_NOBODY = "0" * 64
