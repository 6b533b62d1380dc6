"""Bulk operations: one kind of act on many refunds that one person has looked at and asked for."""

from enum import StrEnum

from domain.state import State


class Kind(StrEnum):
    """What is done to each refund: an act that one person may do alone, and that cannot pay twice."""

    RETRY = "retry"
    CHECK = "check"
    CANCEL = "cancel"


class Lot(StrEnum):
    """What a preview says of a refund."""

    WILL_BE_DONE = "will_be_done"
    CHECK_FIRST = "check_first"
    SKIPPED = "skipped"


class Phase(StrEnum):
    """How an operation stands. What has ended never goes on: what is left is previewed anew."""

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"


class Result(StrEnum):
    """What became of one refund. `failed`: what the preview promised did not hold any more. `left`: stopped before."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    LEFT = "left"


#: The states in which each act is possible at all.
SCOPE: dict[Kind, tuple[State, ...]] = {
    Kind.RETRY: (State.REVIEW, State.REVERSED),
    Kind.CHECK: (State.UNKNOWN, State.PENDING, State.REVIEW),
    Kind.CANCEL: (State.QUEUED, State.AWAITING_APPROVAL, State.REVIEW),
}
IN_WORDS: dict[str, str] = {
    Kind.RETRY: "retry with the same handle",
    Kind.CHECK: "check at the provider",
    Kind.CANCEL: "cancel before it is sent",
}
#: Refunds in one operation.
MOST = 5000
#: Refunds per second.
PACE, FASTEST = 10, 100
#: Percent of what was tried; fewer tries than `ENOUGH` are too few to tell.
STOP_AT, ENOUGH = 5, 20


def too_many_failed(tried: int, failed: int, percent: int) -> bool:
    """Whether an operation had better stop: more than `percent` of enough tries have failed."""
    return tried >= ENOUGH and failed * 100 > tried * percent
