"""The door for machines: their own accounts, quotas by the hour, and an Idempotency-Key for who wants one."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog
from sqlalchemy import Connection

from domain.errors import FieldError, QuotaExceeded, Refused
from engine.bootstrap import Engine
from engine.keys import Machine
from engine.submit import Body, Receipt, accepted, submit_many
from ledger import intake, keys
from ledger.intake import Admission, Candidate, Result
from ledger.session import is_away

log = structlog.get_logger(__name__)

#: For so many seconds an Idempotency-Key stands for one body; the reference does so for ever.
REMEMBERED = 86_400.0
HOUR = 3600
_JOBS = ""
_LET_IN = (Result.ACCEPTED, Result.REPLAYED)
_KEY = re.compile(r"[A-Za-z0-9_.:-]{1,255}", re.ASCII)


def narrowed(engine: Engine, machine: Machine) -> Engine:
    """The engine as this machine knows it: accounts that it is not bound to do not exist."""
    if machine.accounts is None:
        return engine

    return replace(engine, accounts={name: each for name, each in engine.accounts.items() if machine.sees(name)})


def idempotency_key(fields: Sequence[str]) -> str | None:
    """The key in the header's fields, quoted (as the draft has it) or bare; None without any. Raises Refused."""
    if not fields:
        return None
    given = fields[0].strip()
    quoted = len(given) > 1 and given[0] == given[-1] == '"'
    key = given[1:-1] if quoted else given
    if len(fields) > 1 or not _KEY.fullmatch(key):
        raise Refused(
            "idempotency-key-invalid", "Idempotency-Key: one of 1 to 255 of A-Z, a-z, 0-9, _ . : -, quoted or bare"
        )

    return key


@dataclass(frozen=True, slots=True)
class Knock:
    """One request with one job. `key`: its Idempotency-Key."""

    machine: Machine
    body: Body
    traceparent: str
    key: str | None


def submit_each(engine: Engine, knocks: Sequence[Knock]) -> list[Receipt | Exception]:
    """Accept the jobs of requests that came at once: one transaction for each machine. An answer each, in order."""
    answers: dict[int, Receipt | Exception] = {}
    for machine in dict.fromkeys(each.machine for each in knocks):
        numbers = [number for number, each in enumerate(knocks) if each.machine == machine]
        answers |= zip(numbers, _submit(engine, machine, [knocks[number] for number in numbers]), strict=True)

    return [answers[number] for number in range(len(knocks))]


def _submit(engine: Engine, machine: Machine, knocks: Sequence[Knock]) -> Sequence[Receipt | Exception]:
    try:
        return submit_for(
            engine,
            machine,
            [each.body for each in knocks],
            traceparents=[each.traceparent for each in knocks],
            keys=[each.key for each in knocks],
        )
    except Exception as error:
        if is_away(error):
            return [error] * len(knocks)  # that is everybody's
        if len(knocks) > 1:
            # What is wrong with one of them is not the others' fault. Should it have come after the commit, they are
            # answered as what was accepted before.
            return [answer for each in knocks for answer in _submit(engine, machine, [each])]
        if not isinstance(error, Refused):
            log.exception("job.broken")
        return [error]


def submit_for(
    engine: Engine,
    machine: Machine,
    bodies: Sequence[Body],
    *,
    traceparents: Sequence[str],
    keys: Sequence[str | None] | None = None,
) -> list[Receipt]:
    """Accept a machine's jobs in one transaction; one receipt each, in order (see `submit_many`).

    `keys`: their Idempotency-Keys. Raises Refused where another body was sent under one of them.
    """
    return submit_many(
        narrowed(engine, machine),
        bodies,
        actor=machine.actor.name,
        via="api",
        traceparents=traceparents,
        keys=keys,
        admit=_Door(engine, machine.client).admit,
    )


def housekeep(engine: Engine) -> None:
    """Forget what is no longer asked for."""
    now = engine.clock()
    engine.ledger.run(lambda connection: keys.forget(connection, before=now - REMEMBERED, hour=int(now // HOUR)))


@dataclass(frozen=True, slots=True)
class _Door:
    engine: Engine
    client: str

    def admit(self, connection: Connection, candidates: Sequence[Candidate]) -> list[Admission | Refused]:
        """As `intake.accept` does, inside the client's quotas."""
        now = self.engine.clock()
        self._refuse_reuse(connection, candidates, now)
        refusals = self._over_quota(connection, candidates, now)
        let_in = [each for each in candidates if id(each) not in refusals]
        answers = iter(intake.accept(connection, let_in) if let_in else ())
        admissions = [refusals[id(each)] if id(each) in refusals else next(answers) for each in candidates]
        self._charge(connection, admissions, now)
        self._remember(connection, candidates, admissions, now)

        return admissions

    def _refuse_reuse(self, connection: Connection, candidates: Sequence[Candidate], now: float) -> None:
        named = [each for each in candidates if each.key is not None]
        if not named:
            return
        said = keys.said(connection, self.client, {str(each.key) for each in named}, since=now - REMEMBERED)
        if any(said.setdefault(str(each.key), each.content_hash) != each.content_hash for each in named):
            raise _reused()

    def _remember(
        self,
        connection: Connection,
        candidates: Sequence[Candidate],
        admissions: Sequence[Admission | Refused],
        now: float,
    ) -> None:
        """Only what was accepted: after a refusal the client corrects its body, and says it under the same key."""
        told = {
            candidate.key: candidate.content_hash
            for candidate, admission in zip(candidates, admissions, strict=True)
            if candidate.key is not None and not isinstance(admission, Refused) and admission.result in _LET_IN
        }
        if told and not keys.say(connection, self.client, told, now=now, since=now - REMEMBERED):
            raise _reused()

    def _over_quota(self, connection: Connection, candidates: Sequence[Candidate], now: float) -> dict[int, Refused]:
        """Why each candidate that is one too many is refused; what was accepted before costs nothing."""
        if not self._limited:
            return {}
        used = Counter(keys.quota(connection, self.client, int(now // HOUR)))
        names = [(each.refund.account, each.refund.reference) for each in candidates]
        known = intake.find(connection, names)
        refusals: dict[int, Refused] = {}
        for name, candidate in zip(names, candidates, strict=True):
            if name in known:
                continue
            refusal = self._judge(candidate, used, HOUR - now % HOUR)
            if refusal is not None:
                refusals[id(candidate)] = refusal

        return refusals

    def _judge(self, candidate: Candidate, used: Counter[str], wait: float) -> Refused | None:
        """Whether the quotas carry this job; on yes, they are charged."""
        rules = self.engine.settings.api
        amount = candidate.refund.amount if candidate.refund.amount is not None else candidate.captured
        currency = candidate.refund.currency
        if rules.money_per_hour and (amount is None or currency is None):
            return _field("amount-required", "is required: the money that this client may refund in an hour is limited")
        if rules.jobs_per_hour is not None and used[_JOBS] + 1 > rules.jobs_per_hour:
            return QuotaExceeded("jobs-per-hour", f"{rules.jobs_per_hour} jobs an hour are accepted", retry_after=wait)
        most = rules.money_per_hour.get(currency or "")
        if most is not None and amount is not None:
            if amount > most:
                return _field("amount-exceeds-quota", f"is more than the {most} {currency} of a whole hour")
            if used[str(currency)] + amount > most:
                return QuotaExceeded(
                    "money-per-hour", f"{most} {currency} (minor units) an hour are accepted", retry_after=wait
                )
        used.update({_JOBS: 1, str(currency): amount or 0})

        return None

    def _charge(self, connection: Connection, admissions: Sequence[Admission | Refused], now: float) -> None:
        if not self._limited:
            return
        more: Counter[str] = Counter()
        for refund in filter(None, map(accepted, admissions)):
            more[_JOBS] += 1
            if refund.currency is not None:
                more[refund.currency] += refund.amount or 0
        keys.charge(connection, self.client, int(now // HOUR), more)

    @property
    def _limited(self) -> bool:
        rules = self.engine.settings.api

        return rules.jobs_per_hour is not None or bool(rules.money_per_hour)


def _field(code: str, detail: str) -> Refused:
    return Refused(code, f"#/amount: {detail}", errors=(FieldError("#/amount", detail, code),))


def _reused() -> Refused:
    return Refused("idempotency-key-reused", "another body was sent under this Idempotency-Key")
