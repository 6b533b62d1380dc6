"""Whom a notification is about: refunds of ours, by the provider's ids and by our own names, and ids of nobody's."""

from dataclasses import dataclass

from sqlalchemy import Connection

from domain.reconcile import Listed
from domain.refund import Refund
from ledger import notification
from providers.base import Notification

# A refund of ours, and the handle that is spoken of.
Named = tuple[Refund, str]


@dataclass(frozen=True, slots=True)
class Match:
    """Refunds of ours that it is about, each with the handle that it speaks of; and ids that are none of ours."""

    ours: tuple[Named, ...]
    strangers: tuple[str, ...]
    payment_ref: str | None
    known_payment: bool


def match(connection: Connection, account: str, hint: Notification) -> Match:
    """Whom a notification is about."""
    ids = dict.fromkeys((*hint.provider_refund_ids, *hint.chargebacks))
    found = {each.id: (each, each.handle) for each in notification.by_provider_ids(connection, account, [*ids])}
    ours = {each.provider_refund_id for each, _ in found.values()}
    for named, refund_id, handle in _names(hint):
        matched = _by_own_names(connection, account, named, refund_id, handle, hint.payment_id)
        found.update({each.id: (each, said) for each, said in matched if each.id not in found})
        ours.update({named} if matched else ())
    ref = hint.payment_id or _of_order(connection, account, hint)
    known = ref is not None and notification.is_known(connection, account, ref)
    # Most of what is notified without a payment are sales: what is not about an order of ours is not asked for.
    strangers = () if ref is None else tuple(each for each in ids if each not in ours)

    return Match(tuple(found.values()), strangers, ref, known)


def ours(connection: Connection, account: str, theirs: Listed) -> list[Named]:
    """Refunds of ours that the provider's record is of: by its id, else by our own names, which it may show."""
    name = number(theirs)
    known = notification.by_provider_ids(connection, account, [name])

    return [(each, each.handle) for each in known] or _by_own_names(
        connection, account, name, theirs.refund_id, theirs.handle, theirs.payment_id
    )


def number(theirs: Listed) -> str:
    """Under what the provider's record is known: where it has no id of its own, the handle that it was made under."""
    return theirs.provider_refund_id or theirs.handle or ""


def _names(hint: Notification) -> list[tuple[str | None, str | None, str | None]]:
    """Provider's id, our id, our handle, of each refund that it speaks of."""
    single = hint.provider_refund_ids[0] if len(hint.provider_refund_ids) == 1 else None
    named = [(single, hint.refund_id, hint.handle)]
    named += [(each.provider_refund_id, each.refund_id, each.handle) for each in hint.claims if not each.chargeback]

    return list(dict.fromkeys(each for each in named if each[1] or each[2]))


def _by_own_names(
    connection: Connection,
    account: str,
    number: str | None,
    refund_id: str | None,
    handle: str | None,
    payment_ref: str | None,
) -> list[Named]:
    """Refunds under our own names, with the handle meant; not one that has another id of the provider's by now."""
    found = notification.by_id(connection, account, refund_id) if refund_id else []
    found = found or (notification.by_handle(connection, account, handle) if handle else [])
    if found or handle is None or payment_ref is None:
        return [(each, each.handle) for each in found if number is None or each.provider_refund_id in (None, number)]

    return [(each, handle) for each in notification.by_old_handle(connection, account, payment_ref, handle)]


def _of_order(connection: Connection, account: str, hint: Notification) -> str | None:
    order = next((each.order_id for each in hint.claims if each.order_id), None)

    return notification.payment_of_order(connection, account, order) if order else None
