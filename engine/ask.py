"""Questions that move nothing: is the provider there, and what does it say of a payment."""

from collections.abc import Generator
from typing import TypeVar

import httpx
import structlog

from domain.outcome import NotSent, Outcome, Unknown
from domain.refund import Refund
from engine.account import Account
from engine.bootstrap import Engine
from engine.order import order_of
from providers.base import Ask, Health, Movements, PaymentFacts, RefundOrder
from providers.transport import Network

log = structlog.get_logger(__name__)

T = TypeVar("T")


async def ping(account: Account, network: Network) -> Health:
    """Try the provider's harmless call."""
    answer = await answered(account, network, account.provider.ping())

    return answer if isinstance(answer, Health) else Health.UNREACHABLE


async def ask_payment(engine: Engine, account: Account, refund: Refund, network: Network) -> PaymentFacts:
    """What the provider says about a refund's payment; a fault of the way there is a problem that may pass."""
    try:
        answer = await answered(account, network, account.provider.payment(order_of(engine.vault, refund)))
    except Exception as error:
        log.exception("adapter.failed", refund_id=refund.id, provider=refund.provider)
        return PaymentFacts(problem=f"adapter: {type(error).__name__}")
    if isinstance(answer, PaymentFacts):
        return answer

    return PaymentFacts(problem=answer.detail if isinstance(answer, NotSent) else answer.reason)


async def ask_movements(account: Account, order: RefundOrder, network: Network) -> Movements:
    """What the provider shows of a payment, or of one refund; a fault of the way there is a problem that may pass."""
    try:
        answer = await answered(account, network, account.provider.movements(order))
    except Exception as error:
        log.exception("adapter.failed", provider=account.provider.name)
        return Movements(problem=f"adapter: {type(error).__name__}")
    if isinstance(answer, Movements):
        return answer

    return Movements(problem=answer.detail if isinstance(answer, NotSent) else answer.reason)


async def ask_refund(engine: Engine, account: Account, refund: Refund, network: Network) -> Outcome:
    """How the provider answers about a refund now: by its id, else by our handle. A fault proves nothing."""
    order = order_of(engine.vault, refund)
    known = refund.provider_refund_id is not None
    try:
        question = account.provider.status(order) if known else account.provider.lookup(order)
        return await answered(account, network, question)
    except Exception as error:
        log.exception("adapter.failed", refund_id=refund.id, provider=refund.provider)
        return Unknown(reason=f"adapter: {type(error).__name__}")


async def answered(
    account: Account, network: Network, question: Generator[Ask, httpx.Response, T]
) -> T | NotSent | Unknown:
    """The question's answer, or why there is none."""
    response: httpx.Response | None = None
    while True:
        try:
            step = next(question) if response is None else question.send(response)
        except StopIteration as end:
            found: T = end.value
            return found
        answer = await network.send(account.provider.authorize(step.request))
        if not isinstance(answer, httpx.Response):
            question.close()
            return answer
        response = answer
