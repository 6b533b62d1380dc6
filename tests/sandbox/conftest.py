"""A running sandbox, and a merchant written from the documents without any of the product's code."""

import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sandbox.server import background

PENDING_SECONDS = 0.05
CURRENCY = {"smartpay": "JPY"}
Json = dict[str, Any]


class Merchant:
    """Makes payments, builds the six accounts' calls, reads their answers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=5.0)
        self.credentials: Json = self.http.get("/_sandbox/credentials").json()
        pem = self.credentials["smart_glocal"]["private_key"].encode()
        self.key: Any = load_pem_private_key(pem, None)

    def control(self, method: str, path: str, body: object = None) -> Any:
        reply = self.http.request(method, f"/_sandbox{path}", json=body)
        reply.raise_for_status()
        return reply.json()

    def pay(self, account: str, amount: int = 5000, **options: Any) -> Json:
        options.setdefault("currency", CURRENCY.get(account, "EUR"))
        body = {"provider": account, "amount": amount, **options}
        payments: list[Json] = self.control("POST", "/payments", body)["payments"]
        return payments[0]

    def faults(self, *faults: Json, seed: int = 1) -> None:
        self.control("PUT", "/faults", {"seed": seed, "faults": list(faults)})

    def ledger(self) -> list[Json]:
        entries: list[Json] = self.control("GET", "/ledger")
        return entries

    def requests(self, call: str) -> list[Json]:
        return [each for each in self.control("GET", "/requests") if each["call"] == call]

    # The calls, as the documents show them

    def headers(self, account: str, body: bytes = b"") -> dict[str, str]:
        own = self.credentials[account]
        json_type = {"Content-Type": "application/json"}
        if account == "smartpay":
            return {**json_type, "Authorization": f"Basic {own['secret_key']}"}
        if account == "smartretry":
            return {**json_type, "x-api-key": own["api_key"]}
        if account == "jpm_smartpay":
            pair = basic(own["merchant_key"], own["authentication_key"])
            required = {"Accept-Language": "en-US", "Origin": own["origin"], "User-Agent": "shop"}
            return {**json_type, **required, "Authorization": pair}
        if account == "smart_glocal":
            signature = b64encode(self.key.sign(body, PKCS1v15(), SHA256())).decode()
            return {
                **json_type,
                "X-PARTNER-PROJECT": own["project"],
                "X-PARTNER-SIGN": signature,
            }
        return {**json_type, "Authorization": basic(own["site_id"], own["api_key"])}

    def refund_body(self, account: str, payment: Json, amount: int, handle: str) -> Json:
        if account == "smartpay":
            return {
                "amount": amount,
                "currency": "JPY",
                "payment": payment["id"],
                "reason": "requested_by_customer",
            }
        if account == "smartretry":
            return {
                "transaction_reference_id": payment["id"],
                "order_reference_id": payment["order_id"],
                "amount": amount / 100,
            }
        if account == "jpm_smartpay":
            modified = {"amount": amount / 100, "currencyCode": payment["currency"]}
            return {
                "transactionId": payment["id"],
                "modificationId": handle,
                "merchantKey": self.credentials[account]["merchant_key"],
                "modifiedAmount": modified,
            }
        if account == "smart_glocal":
            details = {"amount": amount, "currency": payment["currency"].lower()}
            return {"session_id": payment["id"], "amount_details": details}
        return {"Refund": {"MerchantTransactionID": handle, "Amount": amount}}

    def refund_call(self, account: str, payment: Json, amount: int = 1000, handle: str = "handle-1") -> httpx.Request:
        body = json.dumps(self.refund_body(account, payment, amount, handle)).encode()
        headers = self.headers(account, body)
        if account in ("smartpay", "smartretry"):
            headers["Idempotency-Key"] = handle
        if account == "smart_glocal":
            headers["X-PARTNER-IDEMPOTENCY-KEY"] = handle
        return self.request("POST", account, self.refund_path(account, payment), headers, body)

    def refund_path(self, account: str, payment: Json) -> str:
        return {
            "smartpay": "/refunds",
            "smartretry": f"/v1/payments/refund/{self.credentials['smartretry']['terminal_id']}",
            "jpm_smartpay": "/payment/refund",
            "smart_glocal": "/api/v1/session/refund",
        }.get(account, f"/v1/payments/{payment['id']}/refunds")

    def status_call(self, account: str, payment: Json, refund_id: str) -> httpx.Request:
        if account == "smart_glocal":
            body = json.dumps({"session_id": payment["id"]}).encode()
            headers = self.headers(account, body)
            return self.request("POST", account, "/api/v1/session/status", headers, body)
        terminal = self.credentials["smartretry"]["terminal_id"]
        path = {
            "smartpay": f"/refunds/{refund_id}",
            "smartretry": f"/v1/payments/status/{terminal}/{refund_id}",
            "jpm_smartpay": f"/payment/status/{payment['id']}",
        }.get(account, f"/v1/payments/{payment['id']}/refunds/{refund_id}")
        return self.request("GET", account, path, self.headers(account), b"")

    def lookup_call(self, account: str, payment: Json) -> httpx.Request:
        if account in ("jpm_smartpay", "smart_glocal"):
            return self.status_call(account, payment, "")
        path = "/refunds" if account == "smartpay" else f"/v1/payments/{payment['id']}/refunds"
        return self.request("GET", account, path, self.headers(account), b"")

    def request(self, method: str, account: str, path: str, headers: dict[str, str], body: bytes) -> httpx.Request:
        url = self.credentials[account]["base_url"] + path
        return self.http.build_request(method, url, headers=headers, content=body)

    def get(self, account: str, path: str) -> httpx.Response:
        return self.http.send(self.request("GET", account, path, self.headers(account), b""))

    def refund(self, account: str, payment: Json, *given: Any, **more: Any) -> httpx.Response:
        return self.http.send(self.refund_call(account, payment, *given, **more))

    def status(self, account: str, payment: Json, refund_id: str) -> httpx.Response:
        return self.http.send(self.status_call(account, payment, refund_id))

    # The answers

    def refund_id(self, account: str, answer: Json) -> str:
        if account == "smart_glocal":
            return str(the_glocal_refund(answer)["id"])
        if account == "jpm_smartpay":
            return str(the_modification(answer)["modificationData"]["refundId"])
        if "Refund" in answer:
            return str(answer["Refund"]["ID"])
        return str(answer["transaction_id" if account == "smartretry" else "id"])

    def word(self, account: str, answer: Json) -> str:
        """The status word of the answer, in the provider's own spelling."""
        if account == "smart_glocal":
            return str(the_glocal_refund(answer)["status"])
        if account == "jpm_smartpay":
            return str(the_modification(answer)["status"])
        if "Refund" in answer:
            return str(answer["Refund"]["Status"]["Info"])
        return str(answer["status"]["status"] if account == "smartretry" else answer["status"])

    def amount(self, account: str, answer: Json) -> int:
        """The refund's amount in minor units."""
        if account == "smart_glocal":
            return int(the_glocal_refund(answer)["amount_details"]["amount"])
        if account == "jpm_smartpay":
            return round(the_modification(answer)["modificationAmount"]["amount"] * 100)
        if "Refund" in answer:
            return int(answer["Refund"]["Amount"])
        return round(answer["amount"] * (100 if account == "smartretry" else 1))


def the_modification(answer: Json) -> Json:
    if "modification" in answer:
        return dict(answer["modification"])
    refunds = [each for each in answer["modifications"] if each["modificationData"]["type"] == "REFUND"]
    return dict(refunds[-1])


def the_glocal_refund(answer: Json) -> Json:
    return dict(answer["session"]["acquiring_payments"][0]["refunds"][-1])


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    with background(pending_seconds=PENDING_SECONDS) as address:
        yield address


@pytest.fixture(scope="session")
def session_merchant(url: str) -> Iterator[Merchant]:
    merchant = Merchant(url)
    yield merchant
    merchant.http.close()


@pytest.fixture
def merchant(session_merchant: Merchant) -> Iterator[Merchant]:
    session_merchant.control("POST", "/reset")
    yield session_merchant
    session_merchant.control("PUT", "/webhooks", {})


@dataclass
class Listener:
    """Receives notifications."""

    url: str = ""
    status: int = 200
    received: list[tuple[float, dict[str, str], bytes]] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def wait(self, count: int = 1, seconds: float = 3.0) -> list[tuple[float, dict[str, str], bytes]]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.received) >= count, seconds)
            return list(self.received)


@pytest.fixture
def listener() -> Iterator[Listener]:
    heard = Listener()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with heard.arrived:
                heard.received.append((time.monotonic(), headers, body))
                heard.arrived.notify_all()
            self.send_response(heard.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    heard.url = f"http://127.0.0.1:{server.server_port}/hook"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield heard
    server.shutdown()
    server.server_close()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    def wait(condition: Callable[[], bool]) -> None:
        until = time.monotonic() + 3.0
        while not condition():
            assert time.monotonic() < until, "did not happen in time"
            time.sleep(0.01)

    return wait
