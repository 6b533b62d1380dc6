"""The adapters against the simulated providers, which share no code with them."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import httpx
import pytest

from domain.outcome import Absent, Declined, NotSent, NotSentReason, Pending, Succeeded, Unknown
from domain.reconcile import Verdict
from providers.base import Health, Lists, NotificationRefused, RefundOrder, Subject
from providers.registry import build
from sandbox.app import create_app
from tests.unit.providers.support import Talk

ORIGIN = "http://127.0.0.1:8090"
ACCOUNTS = (
    "smartpay",
    "smartretry",
    "jpm_smartpay",
    "jpm_smartpay_oauth",
    "smart2pay",
    "smart2pay_card",
    "smart_glocal",
)
CURRENCIES = {"smartpay": "JPY", "smartretry": "USD", "smart_glocal": "USD"}
PENDING_SECONDS = 10.0


class Shop:
    """One account at a sandbox of its own, driven without a socket and with a clock of the test's."""

    def __init__(self, account):
        self.account = account
        self.now = 1_800_000_000.0
        self.app = create_app(clock=lambda: self.now, seed=7, pending_seconds=PENDING_SECONDS)
        self.transport = httpx.ASGITransport(self.app)
        self.settings = self.control("GET", "/credentials")[account]
        self.name = account.removesuffix("_oauth").removesuffix("_card")
        self.provider = build(self.name, self.settings, f"accounts.{account}")

    def send(self, request):
        """The bridge: one request through the application, on a loop of its own."""

        async def exchange():
            sent = httpx.Request(
                request.method, request.url, headers=request.headers.multi_items(), content=request.read()
            )
            response = await self.transport.handle_async_request(sent)
            return httpx.Response(response.status_code, headers=response.headers, content=await response.aread())

        return asyncio.run(exchange())

    def control(self, method, path, body=None):
        response = self.send(httpx.Request(method, f"{ORIGIN}/_sandbox{path}", json=body))
        assert response.is_success, response.text

        return response.json()

    def order(self, amount=1000, paid=5000, **changes):
        """A refund of a new payment."""
        body = {"provider": self.account, "amount": paid, "currency": CURRENCIES.get(self.name, "EUR")}
        made = self.control("POST", "/payments", body | changes.pop("payment", {}))["payments"][0]

        return RefundOrder(
            refund_id=f"rf_{uuid4().hex[:12]}",
            reference=f"RMA-{uuid4().hex[:8]}",
            handle=self.provider.handle(uuid4()),
            payment_id=made["id"],
            order_id=made["order_id"],
            capture_id=made["capture_id"],
            method=made["method"],
            amount=amount,
            currency=made["currency"],
            **changes,
        )

    def run(self, conversation):
        """Drive a conversation to its end; a 401 about an old token is met by asking again."""
        heard = Talk()
        try:
            step = next(conversation)
            while True:
                heard.steps.append(step)
                step = conversation.send(self.send(self.provider.authorize(step.request)))
        except StopIteration as end:
            heard.end = end.value

        return heard

    def refund(self, order):
        """The first sending; the order as the ledger would know it afterwards."""
        heard = self.run(self.provider.refund(order))
        facts = getattr(heard.end, "facts", None)

        return heard.end, replace(
            order,
            provider_refund_id=facts.provider_refund_id if facts else None,
            seen=heard.moves[0].seen if heard.moves else None,
        )

    def ask(self, verb, order):
        return self.run(getattr(self.provider, verb)(order)).end

    def listed(self, order, number):
        """The refund of that number, or, where only those of a payment are shown, all of them."""
        one = Lists.REFUND in self.provider.capabilities.lists
        of = {"provider_refund_id": number} if one else {"payment_id": order.payment_id}

        return self.run(self.provider.list_refunds(Subject(**of, currency=order.currency))).end

    def settle(self):
        self.now += PENDING_SECONDS + 1

    def faults(self, *plan):
        self.control("PUT", "/faults", [{"provider": self.name, "first": 1, **rule} for rule in plan])

    def paid(self, order):
        """What the simulated provider moved for this payment."""
        return [each["amount"] for each in self.control("GET", "/ledger") if each["payment"] == order.payment_id]


@pytest.fixture(params=ACCOUNTS)
def shop(request):
    return Shop(request.param)


def found(shop, order):
    """Ask until the refund is decided, by its id where it is known, else by our handle."""
    shop.settle()
    verb = "status" if order.provider_refund_id else "lookup"

    return shop.ask(verb, order)


def test_a_refund_is_paid_once_and_found_by_every_question(shop):
    order = shop.order()
    end, known = shop.refund(order)
    assert isinstance(end, Succeeded | Pending)
    assert not getattr(end.facts, "alert", None)
    shop.settle()

    assert isinstance(shop.ask("status", known), Succeeded)
    if shop.provider.capabilities.lookup:
        by_handle = shop.ask("lookup", replace(known, provider_refund_id=None))
        assert isinstance(by_handle, Succeeded)
        assert by_handle.facts.provider_refund_id == known.provider_refund_id
        assert (by_handle.facts.amount, by_handle.facts.currency) == (1000, order.currency)
    assert shop.paid(order) == [1000]


def test_the_same_bytes_twice_pay_once(shop):
    order = shop.order()
    _, known = shop.refund(order)
    shop.run(shop.provider.refund(replace(known, provider_refund_id=None)))
    shop.settle()

    assert shop.paid(order) == [1000]


def test_a_part_and_the_rest_are_two_refunds(shop):
    first = shop.order(amount=1000)
    shop.refund(first)
    shop.settle()
    second = replace(first, handle=shop.provider.handle(uuid4()), refund_id="rf_second", amount=4000)
    _, known = shop.refund(second)

    assert isinstance(found(shop, known), Succeeded)
    assert shop.paid(first) == [1000, 4000]


def test_the_whole_of_an_untouched_payment_goes_back(shop):
    order = shop.order(amount=5000, whole=True)
    _, known = shop.refund(order)

    assert isinstance(found(shop, known), Succeeded)
    assert shop.paid(order) == [5000]


@pytest.mark.parametrize("fault", ["error_500_after", "html", "truncated"])
def test_a_lost_answer_is_unknown_until_the_provider_tells(shop, fault):
    order = shop.order()
    shop.faults({"call": "refund", "fault": fault})
    end, known = shop.refund(order)
    assert isinstance(end, Unknown)
    if not shop.provider.capabilities.lookup:
        end, known = shop.refund(known)

    assert isinstance(found(shop, known), Succeeded)
    assert shop.paid(order) == [1000]


def test_a_request_that_never_arrived_is_absent_and_can_be_sent_again(shop):
    order = shop.order()
    shop.faults({"call": "refund", "fault": "error_500_before"})
    end, known = shop.refund(order)
    assert isinstance(end, Unknown)
    if shop.provider.capabilities.lookup:
        assert shop.ask("lookup", known) == Absent()
    shop.refund(known)
    shop.settle()

    assert shop.paid(order) == [1000]


def test_a_throttled_refund_is_not_sent_only_where_that_is_documented(shop):
    order = shop.order()
    shop.faults({"call": "refund", "fault": "throttled"})
    end, _ = shop.refund(order)

    documented = shop.name in ("smartpay", "smartretry")
    assert isinstance(end, NotSent if documented else Unknown)
    assert shop.paid(order) == []


def test_a_declined_refund_is_a_no_and_moves_nothing(shop):
    order = shop.order()
    shop.faults({"call": "refund", "fault": "decline"})
    end, known = shop.refund(order)
    if not isinstance(end, Declined):
        end = found(shop, known)

    assert isinstance(end, Declined)
    assert end.own_record
    assert shop.paid(order) == []


def test_a_status_nobody_knows_is_pending_with_an_alert(shop):
    order = shop.order()
    _, known = shop.refund(order)
    shop.settle()
    shop.faults({"call": "status", "fault": "unknown_status"})
    end = shop.ask("status", known)

    assert isinstance(end, Pending)
    assert end.facts.alert


def test_another_amount_is_passed_on(shop):
    order = shop.order()
    _, known = shop.refund(order)
    shop.settle()
    shop.faults({"call": "status", "fault": "wrong_amount"})
    end = shop.ask("status", known)

    assert end.facts.amount not in (None, 1000)


def test_more_than_is_left_is_refused_and_moves_nothing(shop):
    order = shop.order(amount=5001)
    end, known = shop.refund(order)
    if isinstance(end, Pending):
        end = found(shop, known)

    assert isinstance(end, Declined | Unknown)
    assert shop.paid(order) == []


def test_a_payment_that_does_not_exist_moves_nothing(shop):
    order = replace(shop.order(), payment_id={"smartretry": "TX000000"}.get(shop.name, "999999999"))
    end, _ = shop.refund(order)

    assert isinstance(end, Declined | Unknown | NotSent)
    assert not isinstance(end, NotSent) or end.reason is NotSentReason.ASK_FAILED


def test_the_payment_tells_what_was_captured(shop):
    order = shop.order()
    facts = shop.ask("payment", order)
    shop.refund(order)
    shop.settle()
    after = shop.ask("payment", order)

    assert facts.problem is None
    assert facts.captured in (5000, None) if not shop.provider.capabilities.payment_facts else facts.captured == 5000
    assert facts.currency == order.currency
    assert after.refunded in (None, 1000)


def test_wrong_credentials_pause_the_account(shop):
    order = shop.order()
    key = {"smartpay": "secret_key", "smartretry": "api_key", "smart2pay": "api_key"}.get(shop.name)
    wrong = {key: "wrong"} if key else {"authentication_key": "wrong"}
    if shop.account == "jpm_smartpay_oauth":
        wrong = {"oauth": shop.settings["oauth"] | {"client_secret": "wrong"}}
    if shop.name == "smart_glocal":
        wrong = {"project": "another"}
    shop.provider = build(shop.name, shop.settings | wrong, "accounts.wrong")
    end, _ = shop.refund(order)

    assert isinstance(end, NotSent)
    assert end.reason is NotSentReason.CREDENTIALS
    assert shop.paid(order) == []


def test_a_ping_is_harmless_and_tells_the_credentials(shop):
    order = shop.order()

    assert shop.run(shop.provider.ping()).end in (Health.OK, Health.NO_CHECK)
    assert shop.paid(order) == []


def test_the_notification_of_the_provider_is_believed_and_names_the_refund(shop):
    order = shop.order()
    _, known = shop.refund(order)
    shop.settle()
    asked = {"provider": shop.account, "refund_id": known.provider_refund_id}
    message = shop.control("POST", "/notification", asked)
    headers = {name.lower(): value for name, value in message["headers"].items()}
    body = message["body"].encode()
    heard = shop.provider.notification(headers, body, shop.now)

    named = heard.handle == order.handle or known.provider_refund_id in heard.provider_refund_ids
    assert named or heard.payment_id == order.payment_id
    with pytest.raises(NotificationRefused):
        shop.provider.notification({}, body, shop.now)
    if shop.name in ("smartpay", "smartretry", "smart_glocal"):
        with pytest.raises(NotificationRefused):
            shop.provider.notification(headers, body + b" ", shop.now)


def test_what_stands_at_the_provider_shows_ours_and_what_was_made_elsewhere(shop):
    order = shop.order()
    _, known = shop.refund(order)
    shop.settle()
    asked = {"provider": shop.account, "payment": order.payment_id, "amount": 700}
    number = shop.control("POST", "/external", asked)["refund_id"]
    shown = {each.provider_refund_id: each for each in shop.listed(order, number).refunds}
    ours = {each.provider_refund_id: each for each in shop.listed(order, known.provider_refund_id).refunds}

    theirs = shown[number]
    assert (theirs.verdict, theirs.amount, theirs.chargeback) == (Verdict.SUCCEEDED, 700, False)
    assert theirs.currency == order.currency
    assert theirs.handle != order.handle
    mine = ours[known.provider_refund_id]
    assert (mine.verdict, mine.amount) == (Verdict.SUCCEEDED, order.amount)
    assert order.handle == mine.handle or order.refund_id == mine.refund_id


def test_what_the_provider_does_not_know_is_on_no_page(shop):
    shown = shop.listed(shop.order(), "00000000")

    assert (shown.refunds, shown.problem) == ((), None)


def test_where_it_cannot_be_asked_it_says_so(shop):
    order = shop.order()
    shop.faults({"call": "status", "fault": "error_500_before"}, {"call": "lookup", "fault": "error_500_before"})

    assert shop.listed(order, "00000000").problem


def test_a_refund_made_elsewhere_is_not_taken_for_ours(shop):
    """A lost request, and a dashboard refund of another amount meanwhile."""
    order = shop.order()
    shop.faults({"call": "refund", "fault": "error_500_before"})
    _, known = shop.refund(order)
    shop.control("POST", "/external", {"provider": shop.account, "payment": order.payment_id, "amount": 700})

    if shop.provider.capabilities.lookup:
        assert isinstance(shop.ask("lookup", known), Absent | Unknown)
    assert shop.paid(order) == [700]


def test_smartpay_finds_the_payment_of_an_order_and_names_several():
    shop = Shop("smartpay")
    one = replace(shop.order(), payment_id=None)
    facts = shop.ask("payment", one)
    assert (len(facts.payment_ids), facts.captured) == (1, 5000)
    made = {"provider": "smartpay", "amount": 300, "currency": "JPY", "count": 2, "payments_per_order": 2}
    order_id = shop.control("POST", "/payments", made)["payments"][0]["order_id"]
    facts = shop.ask("payment", replace(one, order_id=order_id))

    assert len(facts.payment_ids) == 2
    assert facts.captured is None
    assert shop.ask("payment", replace(one, order_id="order_test_none")).final


def test_smartpay_tells_twins_apart_by_the_handle_in_the_metadata():
    shop = Shop("smartpay")
    first = shop.order()
    twin = replace(first, handle=shop.provider.handle(uuid4()))
    _, one = shop.refund(first)
    _, two = shop.refund(twin)

    for order, known in ((first, one), (twin, two)):
        assert shop.ask("lookup", order).facts.provider_refund_id == known.provider_refund_id


def test_smart_glocal_adopts_by_elimination_where_metadata_does_not_come_back():
    shop = Shop("smart_glocal")
    order = shop.order(payment={"echo_metadata": False})
    shop.faults({"call": "refund", "fault": "error_500_after"})
    _, known = shop.refund(order)
    shop.settle()

    assert isinstance(shop.ask("lookup", known), Succeeded)


@pytest.mark.parametrize("amount", [1000, 700])
def test_smart_glocal_leaves_a_doubtful_refund_to_a_person(amount):
    shop = Shop("smart_glocal")
    order = shop.order(payment={"echo_metadata": False})
    shop.faults({"call": "refund", "fault": "error_500_after" if amount == 1000 else "error_500_before"})
    _, known = shop.refund(order)
    shop.control("POST", "/external", {"provider": "smart_glocal", "payment": order.payment_id, "amount": amount})
    end = shop.ask("lookup", known)

    assert isinstance(end, Unknown)
    assert end.contradiction


def test_smart_glocal_adopts_no_chargeback_and_counts_it_as_gone():
    shop = Shop("smart_glocal")
    order = shop.order()
    shop.faults({"call": "refund", "fault": "error_500_before"})
    _, known = shop.refund(order)
    charged = {"provider": "smart_glocal", "payment": order.payment_id, "amount": 1000, "chargeback": True}
    shop.control("POST", "/external", charged)

    assert shop.ask("lookup", known) == Absent()
    assert shop.ask("payment", order).refunded == 1000
    _, again = shop.refund(known)
    assert isinstance(found(shop, again), Succeeded)


def test_smart_glocal_takes_a_repeated_key_for_a_sign_of_life():
    shop = Shop("smart_glocal")
    _, known = shop.refund(shop.order())
    end = shop.run(shop.provider.refund(known)).end

    assert end == Unknown(reason="HTTP 400 idempotency_key_already_exists")
    assert isinstance(found(shop, replace(known, provider_refund_id=None)), Succeeded)
