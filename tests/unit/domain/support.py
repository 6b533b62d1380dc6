"""Refunds for the tests of the rules."""

from typing import Any

from domain.refund import Refund
from domain.state import State

NOW = 1_700_000_000.0


def a_refund(**changes: Any) -> Refund:
    """A resolved refund of 100 EUR cents, queued at NOW."""
    values: dict[str, Any] = dict.fromkeys(Refund.__struct_fields__)
    values |= {
        "id": "rf_1",
        "account": "shop",
        "provider": "smartpay",
        "reference": "R-1",
        "payment_ref": "p-1",
        "payment_id": "p-1",
        "state": State.QUEUED,
        "amount": 100,
        "currency": "EUR",
        "resolved": True,
        "whole": False,
        "holds": False,
        "handle": "h-1",
        "handle_no": 1,
        "job": "{}",
        "due_at": NOW,
        "fence": 0,
        "lost_leases": 0,
        "version": 1,
        "chain": "",
        "attempts": 0,
        "uncounted": 0,
        "replays": 0,
        "checks": 0,
        "polls": 0,
        "ambiguous": False,
        "absent": False,
        "last_send_end": 0.0,
        "since": NOW,
        "created_at": NOW,
        "updated_at": NOW,
    }

    return Refund(**{**values, **changes})
