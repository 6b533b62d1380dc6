"""Faults on demand: what they are, how they are written down, and which call gets which."""

import json
import random
import secrets
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from sandbox.accounts import FAULT_SCOPES


class Kind(StrEnum):
    """What a merchant's call is for."""

    REFUND = "refund"
    STATUS = "status"
    LOOKUP = "lookup"


class Fault(StrEnum):
    """What can go wrong with one call."""

    ANSWER_LOST = "answer_lost"
    REQUEST_LOST = "request_lost"
    ERROR_500_BEFORE = "error_500_before"
    ERROR_500_AFTER = "error_500_after"
    THROTTLED = "throttled"
    SLOW = "slow"
    HANG = "hang"
    HTML = "html"
    TRUNCATED = "truncated"
    UNKNOWN_STATUS = "unknown_status"
    WRONG_AMOUNT = "wrong_amount"
    DECLINE = "decline"
    STUCK = "stuck"
    LATE_FLIP = "late_flip"


DEFAULT_SECONDS = {Fault.SLOW: 2.0, Fault.HANG: 300.0, Fault.LATE_FLIP: 2.0}
MAX_HANG_SECONDS = 300.0


class FieldError(ValueError):
    """A control request or a faults file is wrong; `field` says where."""

    def __init__(self, where: str, problem: str) -> None:
        """Keep the place apart from the problem, for answers that name it."""
        super().__init__(f"{where}: {problem}")
        self.field = where
        self.problem = problem


@dataclass(slots=True)
class Rule:
    """One line of the fault plan, and how often it has matched and acted."""

    fault: Fault
    call: Kind = Kind.REFUND
    provider: str | None = None
    payment: str | None = None
    probability: float | None = None
    first: int | None = None
    after: int = 0
    seconds: float | None = None
    calls: int = 0
    hits: int = 0
    per_payment: dict[int, int] = field(default_factory=dict)

    @property
    def duration(self) -> float:
        """Seconds of a slow or hanging answer, or until a late flip."""
        return DEFAULT_SECONDS.get(self.fault, 0.0) if self.seconds is None else self.seconds

    def matches(self, scopes: Collection[str], kinds: Collection[Kind], payment: str | None) -> bool:
        """Whether a call belongs to this rule at all."""
        return (
            self.call in kinds
            and (self.provider is None or self.provider in scopes)
            and (self.payment is None or self.payment == payment)
        )

    def described(self) -> dict[str, Any]:
        """The rule as it was given, with its counters."""
        given = {
            "provider": self.provider,
            "call": self.call,
            "fault": self.fault,
            "payment": self.payment,
            "probability": self.probability,
            "first": self.first,
            "after": self.after or None,
            "seconds": self.seconds,
        }
        kept = {key: value for key, value in given.items() if value is not None}

        return {**kept, "calls": self.calls, "hits": self.hits}


class FaultPlan:
    """The rules in force; the first one that fires takes the call.

    A draw depends on the seed, the rule, the payment's place in the order of creation and how
    often that payment has met the rule, never on how calls of different payments interleave.
    """

    def __init__(self, rules: list[Rule] | None = None, seed: int | None = None) -> None:
        """Without a seed a fresh one is drawn; it can be read back."""
        self.rules = rules or []
        self.seed = secrets.randbits(32) if seed is None else seed

    def pick(
        self,
        *,
        scopes: Collection[str],
        kinds: Collection[Kind],
        payment: str | None,
        number: int,
    ) -> Rule | None:
        """The rule that acts on this call, counted."""
        for index, rule in enumerate(self.rules):
            if rule.matches(scopes, kinds, payment) and self._fires(index, rule, number):
                rule.hits += 1
                return rule
        return None

    def _fires(self, index: int, rule: Rule, number: int) -> bool:
        rule.calls += 1
        if rule.calls <= rule.after:
            return False
        if rule.first is not None and rule.calls > rule.after + rule.first:
            return False
        if rule.probability is None:
            return True
        met = rule.per_payment[number] = rule.per_payment.get(number, 0) + 1
        draw = random.Random(f"{self.seed}:{index}:{number}:{met}")  # noqa: S311 - not a secret

        return draw.random() < rule.probability

    def described(self) -> dict[str, Any]:
        """The plan as JSON."""
        return {"seed": self.seed, "faults": [rule.described() for rule in self.rules]}


def parse_plan(given: object, default_seed: int | None = None) -> FaultPlan:
    """A plan from a list of faults, or from `{"seed": n, "faults": [...]}`."""
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - {"seed", "faults"})
        if unknown:
            raise FieldError(str(unknown[0]), "unknown key")
        seed, listed = given.get("seed", default_seed), given.get("faults", [])
    else:
        seed, listed = default_seed, given
    if seed is not None and not _is_integer(seed):
        raise FieldError("seed", "must be an integer")
    if not isinstance(listed, list):
        raise FieldError("faults", "must be a list")

    return FaultPlan([parse_rule(each, f"faults[{i}]") for i, each in enumerate(listed)], seed)


def parse_rule(given: object, where: str) -> Rule:
    """One rule, every member checked."""
    if not isinstance(given, Mapping):
        raise FieldError(where, "must be an object")
    if "fault" not in given:
        raise FieldError(f"{where}.fault", "is required")
    for name, value in given.items():
        if name not in CHECKS:
            raise FieldError(f"{where}.{name}", "unknown key")
        accepted, expected = CHECKS[name]
        if not accepted(value):
            raise FieldError(f"{where}.{name}", f"must be {expected}")
    rule = Rule(**{**given, "fault": Fault(given["fault"]), "call": Kind(given.get("call", "refund"))})
    if rule.seconds is not None and rule.fault not in DEFAULT_SECONDS:
        raise FieldError(f"{where}.seconds", f"has no meaning for {rule.fault}")

    return rule


def load_plan(path: Path, seed: int | None = None) -> FaultPlan:
    """A plan from a TOML or JSON file; `seed` wins over the file's."""
    text = path.read_text(encoding="utf-8")
    try:
        given = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise FieldError(path.name, str(error)) from error
    plan = parse_plan(given, seed)
    if seed is not None:
        plan.seed = seed

    return plan


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_one_of(names: Collection[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in names


def _names(names: Collection[str]) -> str:
    return "one of " + ", ".join(names)


_KINDS = [kind.value for kind in Kind]
_FAULTS = [fault.value for fault in Fault]

CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "fault": (_is_one_of(_FAULTS), _names(_FAULTS)),
    "call": (_is_one_of(_KINDS), _names(_KINDS)),
    "provider": (_is_one_of(FAULT_SCOPES), _names(FAULT_SCOPES)),
    "payment": (lambda value: isinstance(value, str) and value != "", "a payment id"),
    "probability": (lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    "first": (lambda value: _is_integer(value) and value >= 0, "an integer of at least 0"),
    "after": (lambda value: _is_integer(value) and value >= 0, "an integer of at least 0"),
    "seconds": (lambda value: _is_number(value) and value >= 0, "a number of at least 0"),
}
