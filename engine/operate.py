"""What operators switch: accounts paused and resumed, breakers forced, each with a reason and on record."""

from typing import Any

import msgspec
from sqlalchemy import Connection

from domain.errors import NotFound
from engine.bootstrap import Engine
from engine.people import SYSTEM, Actor, Verb, require
from ledger import journal, workers
from ledger.accounts import EVERY, Switch, set_switch, switch


def pause(engine: Engine, actor: Actor, account: str, *, reason: str) -> bool:
    """Stop first sendings of an account; recovery and polling go on. False if it was paused already."""
    _may_switch(engine, actor, account)

    return _pause(engine, account, reason, actor.name)


def pause_by_itself(engine: Engine, account: str, *, reason: str) -> bool:
    """What the engine does when the provider refuses the credentials. False if it was paused already."""
    return _pause(engine, account, reason, SYSTEM)


def pause_sending(engine: Engine, actor: Actor, *, reason: str) -> bool:
    """Stop the first sendings of all accounts; recovery and polling go on. False if they rested already."""
    require(actor, Verb.SWITCH)

    return _pause(engine, EVERY, reason, actor.name)


def _may_switch(engine: Engine, actor: Actor, account: str) -> None:
    require(actor, Verb.SWITCH)
    if account not in engine.accounts:
        raise NotFound("not-found", f"there is no account {account!r}")


def _pause(engine: Engine, account: str, reason: str, actor: str) -> bool:
    def work(connection: Connection) -> bool:
        found = switch(connection, account)
        if found is not None and found.paused:
            return False
        _set(connection, engine, account, actor, "account.paused", paused=True, pause_reason=reason[:512])
        return True

    return engine.ledger.run(work)


def resume(engine: Engine, actor: Actor, account: str, *, reason: str) -> None:
    """Let an account send again."""
    _may_switch(engine, actor, account)
    _resume(engine, account, reason, actor.name)
    engine.ring("send", account)


def resume_sending(engine: Engine, actor: Actor, *, reason: str) -> None:
    """Let accounts send again, but for those that are paused themselves."""
    require(actor, Verb.SWITCH)
    _resume(engine, EVERY, reason, actor.name)
    for account in engine.accounts:
        engine.ring("send", account)


def _resume(engine: Engine, account: str, reason: str, actor: str) -> None:
    engine.ledger.run(
        lambda connection: _set(
            connection, engine, account, actor, "account.resumed", why=reason, paused=False, pause_reason=None
        )
    )


def force_breaker(engine: Engine, actor: Actor, account: str, *, position: str, seconds: float, reason: str) -> None:
    """Hold the breaker `open` or `closed` for a while, whatever it has seen."""
    _may_switch(engine, actor, account)
    engine.ledger.run(
        lambda connection: _set(
            connection,
            engine,
            account,
            actor.name,
            f"breaker.{position}",
            why=reason,
            breaker=position,
            breaker_until=engine.clock() + seconds,
        )
    )
    engine.ring("send", account)


def switches(engine: Engine) -> dict[str, Switch | None]:
    """How every configured account is switched."""
    with engine.ledger.read() as connection:
        return {name: switch(connection, name) for name in engine.accounts}


def everywhere(engine: Engine) -> Switch | None:
    """How all accounts are switched together."""
    with engine.ledger.read() as connection:
        return switch(connection, EVERY)


def _set(
    connection: Connection, engine: Engine, account: str, actor: str, kind: str, *, why: str = "", **values: Any
) -> None:
    now = engine.clock()
    set_switch(connection, account, actor=actor, now=now, **values)
    data = msgspec.to_builtins({"reason": why or values.get("pause_reason"), "until": values.get("breaker_until")})
    journal.append(connection, f"account/{account}", kind, actor=actor, now=now, data=data)


def drain(engine: Engine, actor: Actor, worker: str) -> None:
    """Ask a worker to take nothing more from the stream; what it holds is finished. Raises NotFound."""
    require(actor, Verb.SWITCH)

    def work(connection: Connection) -> None:
        if not workers.drain(connection, worker):
            raise NotFound("not-found", f"there is no worker {worker!r}")
        journal.append(connection, f"worker/{worker}", "worker.drained", actor=actor.name, now=engine.clock(), data={})

    engine.ledger.run(work)
