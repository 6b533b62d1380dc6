"""Questions that move nothing: is the provider there, and what does it say of a payment."""

from collections.abc import Awaitable, Callable, Generator
from typing import TypeVar

import httpx
import structlog

from domain.outcome import NotSent, Outcome, Unknown
from domain.reconcile import Listed
from domain.refund import Refund
from engine.account import Account
from engine.bootstrap import Engine
from engine.order import order_of
from providers.base import Ask, Health, Page, PaymentFacts, Subject
from providers.transport import Network

log = structlog.get_logger(__name__)

T = TypeVar("T")

MAX_PAGES = 50


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


async def ask_page(account: Account, network: Network, subject: Subject, cursor: str | None = None) -> Page:
    """One page of what the provider lists; a fault of the way there is a problem that may pass."""
    try:
        answer = await answered(account, network, account.provider.list_refunds(subject, cursor))
    except Exception as error:
        log.exception("adapter.failed", account=account.name, provider=account.provider.name)
        return Page(problem=f"adapter: {type(error).__name__}")
    if isinstance(answer, Page):
        return answer

    return Page(problem=answer.detail if isinstance(answer, NotSent) else answer.reason)


async def always() -> bool:
    """Whether the provider may be asked: nobody counts how often."""
    return True


async def ask_pages(
    account: Account, network: Network, subject: Subject, may_ask: Callable[[], Awaitable[bool]] = always
) -> Page | None:
    """All that the provider lists as one page; None where it may not be asked on."""
    gathered: list[Listed] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        if not await may_ask():
            return None
        page = await ask_page(account, network, subject, cursor)
        gathered += page.refunds
        if page.problem is not None or page.following is None:
            return Page(refunds=tuple(gathered), problem=page.problem)
        cursor = page.following

    return Page(refunds=tuple(gathered), problem=f"more than {MAX_PAGES} pages")


async def ask_refund(
    engine: Engine, account: Account, refund: Refund, network: Network, *, seen: frozenset[str] | None = None
) -> Outcome:
    """How the provider answers about a refund now: by its id, else by our handle. A fault proves nothing.

    `seen`: see `RefundOrder`.
    """
    order = order_of(engine.vault, refund, seen=seen)
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
