"""The states of a refund, the moves between them, and what each means for the money."""

from enum import StrEnum

from domain.errors import IllegalMove


class State(StrEnum):
    """Where a refund stands."""

    AWAITING_APPROVAL = "awaiting_approval"
    QUEUED = "queued"
    SENDING = "sending"
    UNKNOWN = "unknown"
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REVERSED = "reversed"
    REVIEW = "review"
    SETTLED = "settled"


class Hold(StrEnum):
    """What a state does to the payment's money."""

    RESERVED = "reserved"
    REFUNDED = "refunded"
    RELEASED = "released"


S = State

# `settled` moves its money as the evidence says, so the caller names the hold; see `hold()`.
MOVES: dict[State, frozenset[State]] = {
    S.AWAITING_APPROVAL: frozenset({S.QUEUED, S.CANCELLED}),
    S.QUEUED: frozenset({S.SENDING, S.FAILED, S.CANCELLED, S.REVIEW}),
    S.SENDING: frozenset({S.SUCCEEDED, S.PENDING, S.FAILED, S.UNKNOWN, S.QUEUED, S.REVIEW}),
    S.UNKNOWN: frozenset({S.SUCCEEDED, S.PENDING, S.FAILED, S.QUEUED, S.REVIEW}),
    S.PENDING: frozenset({S.SUCCEEDED, S.FAILED, S.REVIEW}),
    S.SUCCEEDED: frozenset({S.REVERSED}),
    S.FAILED: frozenset({S.SUCCEEDED}),
    S.CANCELLED: frozenset({S.SUCCEEDED}),
    S.REVERSED: frozenset({S.SUCCEEDED, S.SETTLED}),
    S.REVIEW: frozenset({S.SUCCEEDED, S.FAILED, S.PENDING, S.UNKNOWN, S.QUEUED, S.CANCELLED, S.SETTLED}),
    S.SETTLED: frozenset({S.SUCCEEDED}),
}

FINAL = frozenset({S.SUCCEEDED, S.FAILED, S.CANCELLED, S.REVERSED, S.SETTLED})
OPEN = frozenset(S) - FINAL

_HOLDS: dict[State, Hold] = {
    **dict.fromkeys(OPEN, Hold.RESERVED),
    S.SUCCEEDED: Hold.REFUNDED,
    S.FAILED: Hold.RELEASED,
    S.CANCELLED: Hold.RELEASED,
    S.REVERSED: Hold.RELEASED,
}

LABELS: dict[State, tuple[str, str]] = {
    S.AWAITING_APPROVAL: ("Awaiting approval", "nothing sent yet; a second person decides"),
    S.QUEUED: ("Queued", "will be sent when due"),
    S.SENDING: ("Sending", "a worker holds it; if it dies we look it up first"),
    S.UNKNOWN: ("Outcome unknown", "an answer was lost; being looked up; money may have moved"),
    S.PENDING: ("At provider", "accepted, final answer outstanding"),
    S.SUCCEEDED: ("Succeeded", "confirmed by the provider"),
    S.FAILED: ("Failed", "refused for good, no money moved"),
    S.CANCELLED: ("Cancelled", "withdrawn before it was sent"),
    S.REVERSED: ("Reversed", "succeeded, then the provider took it back"),
    S.REVIEW: ("Needs review", "automatic steps are used up: a person decides"),
    S.SETTLED: ("Settled by hand", "closed by two people, with evidence"),
}


def advance(current: State, target: State) -> State:
    """`target`, if the table allows the move (staying is allowed while open); else IllegalMove."""
    if target in MOVES[current] or (target is current and current in OPEN):
        return target

    raise IllegalMove(f"a refund cannot go from {current} to {target}")


def hold(state: State) -> Hold:
    """What `state` does to the money. `settled` has no answer of its own: its evidence decides."""
    return _HOLDS[state]
