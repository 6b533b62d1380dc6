"""From the ledger's row to what an adapter may read."""

from collections.abc import Mapping
from typing import Any

import msgspec

from domain.job import RefundJob, stored
from domain.refund import Refund, personal_parts
from ledger.vault import Vault
from providers.base import RefundOrder


def order_of(vault: Vault, refund: Refund, *, seen: frozenset[str] | None = None) -> RefundOrder:
    """The order of a stored refund; what is sealed of it is opened for the adapter. Raises NewerForm."""
    job = stored(refund.job)
    personal = msgspec.json.decode(vault.open(refund.personal)) if refund.personal else {}

    return _order(job, personal, refund, seen)


def draft(job: RefundJob, refund: Refund) -> RefundOrder:
    """The order of a job that is not yet accepted, for the adapter's checks at the door."""
    return _order(job.public(), job.personal(), refund, None)


def _order(
    job: Mapping[str, Any], personal: Mapping[str, Any], refund: Refund, seen: frozenset[str] | None
) -> RefundOrder:
    customer, bank_account = personal_parts(personal)
    payment = job.get("payment", {})

    return RefundOrder(
        refund_id=refund.id,
        reference=refund.reference,
        handle=refund.handle,
        payment_id=refund.payment_id,
        order_id=refund.order_id,
        capture_id=payment.get("capture_id"),
        method=payment.get("method"),
        captured=payment.get("amount"),
        amount=refund.amount,
        currency=refund.currency,
        whole=refund.whole,
        reason=job.get("reason", "requested_by_customer"),
        description=job.get("description"),
        items=tuple(job.get("items", ())),
        customer=customer,
        bank_account=bank_account,
        statement_descriptor=job.get("statement_descriptor"),
        originator_reference=job.get("originator_reference"),
        custom_references=tuple(job.get("custom_references", ())),
        metadata=job.get("metadata", {}),
        provider_refund_id=refund.provider_refund_id,
        seen=seen,
        missed=refund.absent,
    )
