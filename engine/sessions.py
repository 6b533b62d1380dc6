"""Signing in: passwords, one-time links and identity providers in, a session out. Only hashes of secrets are kept."""

import hashlib
import math
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import IPv4Address, IPv6Network, ip_address
from threading import BoundedSemaphore, Lock

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection

from domain.errors import Forbidden, NotFound, Refused
from engine.bootstrap import Engine
from engine.people import NAME, SYSTEM, Actor, Role, Verb, recognise, require
from ledger import journal, people, sessions
from ledger.people import Person
from ledger.sessions import Session

# So many tries are free, and one more each so many seconds. A name alone has many: strangers must not lock people out.
BY_NAME_AND_ADDRESS = (5, 180.0)
BY_NAME = (200, 30.0)
BY_ADDRESS = (30, 30.0)
# Each use of Argon2 takes 64 MiB: so many at once, and so many seconds to wait for a turn.
TURNS = 2
PATIENCE = 1.0
LINK_LIFETIME = 600.0
SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 1024
# A session is noted as used at most this often.
_TOUCH = 60.0

# The journal's subject for tries under names that nobody has.
_NOBODY = "sign-in"

_hasher = PasswordHasher()
_turns = BoundedSemaphore(TURNS)
# Refusals of one subject are a chain: those of this process are written one after another.
_refusing = Lock()


@dataclass(frozen=True, slots=True)
class Browser:
    """Where somebody signs in from."""

    address: str
    agent: str


@dataclass(frozen=True, slots=True)
class _Tries:
    """A limit of tries: `free` at once, each forgotten after `lasting` seconds."""

    key: str
    free: int
    lasting: float


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Somebody with a session."""

    actor: Actor
    session: Session


def set_password(engine: Engine, actor: Actor, name: str, password: str) -> None:
    """Give a user a password: one's own, or as an admin. All sessions of that user end.

    For who holds the terminal, or is an admin: who only holds a session goes through `change_password`.
    """
    if actor.name != name:
        require(actor, Verb.ADMINISTER)
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise Refused("password-invalid", f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    hashed = _hash(password)

    def work(connection: Connection) -> None:
        found = people.get(connection, name)
        if found is None:
            raise NotFound("not-found", f"there is no user {name!r}")
        if found.subject is not None:
            raise Refused("password-elsewhere", f"{name} signs in at the identity provider and has no password here")
        people.set_password(connection, name, hashed)
        sessions.end_all(connection, name)
        _told(connection, engine, name, "user.password_set", actor.name)

    engine.ledger.run(work)


def change_password(engine: Engine, actor: Actor, current: str, password: str, browser: Browser) -> None:
    """Replace one's own password; all one's sessions end. Raises Forbidden where `current` is not the one so far."""
    _prove(engine, actor.name, current, browser)
    set_password(engine, actor, actor.name, password)


def sign_in(engine: Engine, name: str, password: str, browser: Browser) -> str:
    """A new session's secret, for a local user.

    Raises Forbidden, after the same time whatever was wrong, Refused when it was tried too often, and NotFound where
    people sign in elsewhere.
    """
    if not engine.settings.console.signs_in_locally:
        raise NotFound("not-found", "nobody signs in with a password here")
    _prove(engine, name, password, browser)

    return _start(engine, name, browser, how="password")


def _prove(engine: Engine, name: str, password: str, browser: Browser) -> None:
    """Raises Forbidden, after the same time and on record, unless `name` is a local user with this password."""
    tries = _throttle(engine, name, browser)
    with engine.ledger.read() as connection:
        known = people.get(connection, name)
        hashed = people.password(connection, name)
    right = _verified(hashed or _nobodys_password(), password) and hashed is not None
    if not right or known is None or not known.active or known.subject is not None:
        _refuse(engine, f"user/{known.name}" if known else _NOBODY, browser)
        raise Forbidden("sign-in-refused", "name or password is wrong")
    engine.ledger.run(lambda connection: _forgive(connection, tries))


def _forgive(connection: Connection, tries: Iterable[_Tries]) -> None:
    """Who knew the password has not tried in vain."""
    for each in tries:
        sessions.forgive_try(connection, each.key, each.lasting)


def _throttle(engine: Engine, name: str, browser: Browser) -> tuple[_Tries, ...]:
    """Count this try before it is looked at, so that many at once count as many. Raises Refused, and counts none."""
    network = _network(browser.address)
    tries = (
        _Tries(f"pair/{name[:64]}/{network}", *BY_NAME_AND_ADDRESS),
        _Tries(f"name/{name[:64]}", *BY_NAME),
        _Tries(f"address/{network}", *BY_ADDRESS),
    )

    def work(connection: Connection) -> None:
        now = engine.clock()
        for each in tries:
            free_at = sessions.count_try(connection, each.key, now, each.lasting)
            wait = free_at - now - each.free * each.lasting
            if wait > 0:
                raise Refused("too-many-tries", f"too many tries: wait {math.ceil(wait)} seconds")

    engine.ledger.run(work)

    return tries


def _network(address: str) -> str:
    """Whom an address belongs to: of IPv6 everybody has as many as they like, within a /64."""
    try:
        found = ip_address(address)
    except ValueError:
        return address[:43]
    if isinstance(found, IPv4Address):
        return str(found)

    return str(found.ipv4_mapped or IPv6Network((int(found), 64), strict=False))


@contextmanager
def _argon2() -> Iterator[PasswordHasher]:
    """The hasher, in turn. Raises Refused where too many wait for it."""
    if not _turns.acquire(timeout=PATIENCE):
        raise Refused("busy", "many are signing in just now: try again")
    try:
        yield _hasher
    finally:
        _turns.release()


def _verified(hashed: str, password: str) -> bool:
    try:
        with _argon2() as hasher:
            return hasher.verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobodys_password() -> str:
    """What is compared where there is nobody, so that it takes as long."""
    return _hash(secrets.token_hex(16))


def _hash(password: str) -> str:
    with _argon2() as hasher:
        return hasher.hash(password)


def offer_link(engine: Engine, name: str | None) -> str:
    """A secret that signs the system user (or `name`) in once, soon. For whoever holds this terminal anyway."""
    actor = recognise(engine, name)
    secret = secrets.token_urlsafe(32)
    until = engine.clock() + LINK_LIFETIME
    engine.ledger.run(lambda connection: sessions.offer_link(connection, _digest(secret), actor.name, until))

    return secret


def sign_in_by_link(engine: Engine, secret: str, browser: Browser) -> str:
    """A new session's secret for a link that was offered; it works once. Raises Forbidden."""
    name = engine.ledger.run(lambda connection: sessions.take_link(connection, _digest(secret), engine.clock()))
    if name is None:
        raise Forbidden("link-used", "this link has been used, or its time is over: start again for a new one")

    return _start(engine, name, browser, how="link")


def sign_in_by_provider(
    engine: Engine, *, subject: str, name: str, roles: Iterable[Role] | None, browser: Browser
) -> str:
    """A new session's secret for whom the identity provider recognised. Raises Forbidden.

    `roles`: as the provider's groups say; None where admins give them here. Whom an admin disabled stays so.
    A name belongs to the subject that came with it first, so nobody becomes another person by taking their name.
    """

    def work(connection: Connection) -> Person:
        found = people.of_subject(connection, subject)
        if found is None:
            found = _newcomer(connection, engine, name, subject)
        wanted = tuple(sorted(roles)) if roles is not None else found.roles
        if wanted != found.roles:
            people.set_roles(connection, found.name, wanted)
            _told(connection, engine, found.name, "user.changed", "oidc", roles=wanted)
        return replace(found, roles=wanted)

    person = engine.ledger.run(work)
    if person.disabled:
        raise Forbidden("disabled", f"an admin has disabled {person.name}")
    if not person.roles:
        raise Forbidden("no-role", f"you are known as {person.name} and have no role yet: ask an admin for one")

    return _start(engine, person.name, browser, how="oidc")


def _newcomer(connection: Connection, engine: Engine, name: str, subject: str) -> Person:
    if name == SYSTEM or not NAME.fullmatch(name):
        raise Forbidden("name-invalid", f"the identity provider calls you {name[:64]!r}, which cannot be a name here")
    if people.get(connection, name) is not None:
        raise Forbidden("name-taken", f"there is another user {name!r} already: ask an admin")
    person = Person(name=name, roles=(), disabled=False, subject=subject)
    people.add(connection, person, "oidc", engine.clock())
    people.bind_subject(connection, name, subject)
    _told(connection, engine, name, "user.created", "oidc")

    return person


def recognised(engine: Engine, secret: str, *, clicked: bool) -> SignedIn | None:
    """Whose session it is; None when it is over. `clicked`: a person did it, not a page's own clock."""
    digest = _digest(secret)
    with engine.ledger.read() as connection:
        found = sessions.get(connection, digest)
    if found is None or not _alive(engine, found):
        return None
    try:
        actor = recognise(engine, found.person)
    except Forbidden:
        return None
    now = engine.clock()
    if clicked and now - found.seen_at > _TOUCH:
        engine.ledger.run(lambda connection: sessions.touch(connection, digest, now))

    return SignedIn(actor, found)


def _alive(engine: Engine, one: Session) -> bool:
    now = engine.clock()
    console = engine.settings.console

    return now - one.seen_at < console.idle and now - one.created_at < console.lifetime


def sign_out(engine: Engine, signed: SignedIn) -> None:
    """End this session."""

    def work(connection: Connection) -> None:
        sessions.end(connection, signed.session.digest)
        _told(connection, engine, signed.actor.name, "user.signed_out", signed.actor.name)

    engine.ledger.run(work)


def end_sessions(engine: Engine, actor: Actor, name: str) -> int:
    """End all sessions of a user: one's own, or as an admin. Answers how many there were."""
    if actor.name != name:
        require(actor, Verb.ADMINISTER)

    def work(connection: Connection) -> int:
        _told(connection, engine, name, "user.sessions_ended", actor.name)
        return sessions.end_all(connection, name)

    return engine.ledger.run(work)


def open_sessions(engine: Engine, actor: Actor) -> list[Session]:
    """The sessions that are alive: an admin sees all, everybody else their own."""
    mine = None if any(role is Role.ADMIN for role in actor.roles) else actor.name
    with engine.ledger.read() as connection:
        found = sessions.listed(connection, engine.clock() - engine.settings.console.idle, mine)

    return [each for each in found if _alive(engine, each)]


def _start(engine: Engine, name: str, browser: Browser, *, how: str) -> str:
    secret = secrets.token_urlsafe(32)
    now = engine.clock()
    one = Session(
        digest=_digest(secret),
        person=name,
        created_at=now,
        seen_at=now,
        address=browser.address[:64],
        agent=browser.agent[:200],
    )

    def work(connection: Connection) -> None:
        sessions.start(connection, one)
        _told(connection, engine, name, "user.signed_in", name, how=how, address=one.address)

    engine.ledger.run(work)

    return secret


def _refuse(engine: Engine, subject: str, browser: Browser) -> None:
    """Put a vain try on record; under whatever name it was, this takes as long."""
    data = {"address": browser.address[:64]}
    with _refusing:
        engine.ledger.run(
            lambda connection: journal.append(
                connection, subject, "user.sign_in_refused", actor=_NOBODY, now=engine.clock(), data=data
            )
        )


def _told(connection: Connection, engine: Engine, name: str, kind: str, actor: str, **data: object) -> None:
    journal.append(connection, f"user/{name}", kind, actor=actor, now=engine.clock(), data=data)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
