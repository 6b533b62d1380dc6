"""Questions that move nothing: is the provider there, and what does it say of a payment."""

import httpx
import structlog

from domain.outcome import NotSent
from domain.refund import Refund
from engine.account import Account
from engine.bootstrap import Engine
from engine.order import order_of
from providers.base import Health, PaymentFacts
from providers.transport import Network

log = structlog.get_logger(__name__)


async def ping(account: Account, network: Network) -> Health:
    """Run the provider's harmless call."""
    conversation = account.provider.ping()
    response: httpx.Response | None = None
    while True:
        try:
            step = next(conversation) if response is None else conversation.send(response)
        except StopIteration as end:
            health: Health = end.value
            return health
        answer = await network.send(account.provider.authorize(step.request))
        if not isinstance(answer, httpx.Response):
            return Health.UNREACHABLE
        response = answer


async def ask_payment(engine: Engine, account: Account, refund: Refund, network: Network) -> PaymentFacts:
    """Run the provider's question about a payment."""
    conversation = account.provider.payment(order_of(engine.vault, refund))
    response: httpx.Response | None = None
    while True:
        try:
            step = next(conversation) if response is None else conversation.send(response)
        except StopIteration as end:
            facts: PaymentFacts = end.value
            return facts
        except Exception as error:
            log.exception("adapter.failed", refund_id=refund.id, provider=refund.provider)
            return PaymentFacts(problem=f"adapter: {type(error).__name__}")
        answer = await network.send(account.provider.authorize(step.request))
        if not isinstance(answer, httpx.Response):
            return PaymentFacts(problem=answer.detail if isinstance(answer, NotSent) else answer.reason)
        response = answer
