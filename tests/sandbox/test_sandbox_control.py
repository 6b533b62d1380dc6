"""The control interface, the in-process use and the process itself."""

import ast
import asyncio
import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import httpx
import pytest

import sandbox
from sandbox.app import create_app

ACCOUNTS = ["smartpay", "smartretry", "jpm_smartpay", "smart2pay", "smart2pay_card", "smart_glocal"]
SETTINGS = {
    "smartpay": {"base_url", "secret_key", "webhook_secret"},
    "smartretry": {"base_url", "api_key", "terminal_id", "webhook_secret"},
    "jpm_smartpay": {
        "base_url",
        "merchant_key",
        "authentication_key",
        "origin",
        "webhook_user",
        "webhook_password",
    },
    "jpm_smartpay_oauth": {
        "base_url",
        "merchant_key",
        "oauth",
        "origin",
        "webhook_user",
        "webhook_password",
    },
    "smart2pay": {"base_url", "site_id", "api_key", "flavour"},
    "smart2pay_card": {"base_url", "site_id", "api_key", "flavour"},
    "smart_glocal": {
        "base_url",
        "project",
        "private_key",
        "provider_public_key",
        "idempotency_header",
    },
}


def test_credentials_have_the_account_settings_of_each_provider(merchant):
    assert {name: set(own) for name, own in merchant.credentials.items()} == SETTINGS
    assert merchant.credentials["smartpay"]["base_url"] == f"{merchant.url}/smartpay/v1"
    assert merchant.credentials["smart2pay_card"]["flavour"] == "card"
    assert re.fullmatch(r"sk_test_[0-9a-zA-Z]+", merchant.credentials["smartpay"]["secret_key"])


@pytest.mark.parametrize("account", ACCOUNTS)
def test_payments_come_as_the_block_of_a_refund_job(merchant, account):
    currency = "JPY" if account == "smartpay" else "EUR"
    body = {"provider": account, "count": 3, "amount": 5000, "currency": currency}

    made = merchant.control("POST", "/payments", body)

    assert len(set(made["ids"])) == 3
    assert [payment["id"] for payment in made["payments"]] == made["ids"]
    for payment in made["payments"]:
        assert set(payment) == {"id", "order_id", "capture_id", "amount", "currency", "method"}
        assert (payment["amount"], payment["currency"]) == (5000, currency)
        assert (payment["order_id"] is not None) == (account in ("smartpay", "smartretry"))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"provider": "paypal"}, "provider"),
        ({"amount": 1.5}, "amount"),
        ({"amount": None}, "amount"),
        ({"currency": "eur"}, "currency"),
        ({"currency": "USD"}, "currency"),
        ({"count": 0}, "count"),
        ({"count": 2, "id": "x"}, "id"),
        ({"state": "lost"}, "state"),
        ({"captures": [1, 2]}, "captures"),
        ({"colour": "red"}, "colour"),
        ({"provider": "smart2pay", "method": "cash"}, "method"),
        ({"provider": "smart2pay", "method": "card"}, "method"),
        ({"provider": "smart2pay", "currency": "KWD", "amount": 5001}, "amount"),
        ({"flavour": "card"}, "flavour"),
    ],
)
def test_wrong_payments_are_refused_with_the_field(merchant, change, field):
    body = {"provider": "smartpay", "amount": 5000, **change}

    reply = merchant.http.post("/_sandbox/payments", json=body)

    assert (reply.status_code, reply.json()["field"]) == (422, field)


def test_an_id_is_given_once(merchant):
    merchant.pay("smart2pay", id="4520424")
    body = {"provider": "smart2pay", "amount": 1, "id": "4520424"}

    assert merchant.http.post("/_sandbox/payments", json=body).json()["field"] == "id"


@pytest.mark.parametrize("account", ACCOUNTS)
def test_the_ledger_has_one_entry_per_movement(merchant, account, eventually):
    payment = merchant.pay(account)
    answer = merchant.refund(account, payment, 1000, "handle-7")
    for _ in range(3):
        merchant.refund(account, payment, 1000, "handle-7")

    eventually(lambda: len(merchant.ledger()) == 1)
    (entry,) = merchant.ledger()
    refund_id = merchant.refund_id(account, answer.json())
    at = entry.pop("at")
    assert entry == {
        "provider": account.removesuffix("_card"),
        "payment": payment["id"],
        "handle": "handle-7",
        "refund_id": refund_id,
        "amount": 1000,
        "currency": payment["currency"],
        "external": False,
        "reversed_at": None,
    }
    assert datetime.fromisoformat(at).tzinfo is not None


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_dashboard_refund_moves_money_and_counts(merchant, account):
    payment = merchant.pay(account, 5000)
    body = {"provider": account, "payment": payment["id"], "amount": 4500}

    made = merchant.control("POST", "/external", body)

    (entry,) = merchant.ledger()
    assert (entry["external"], entry["handle"]) == (True, None)
    assert entry["refund_id"] == made["refund_id"]
    over = merchant.refund(account, payment, 1000)
    assert 400 <= over.status_code < 500


def test_an_external_refund_needs_a_payment_and_room(merchant):
    payment = merchant.pay("smartpay", 1000)
    body = {"provider": "smartpay", "payment": payment["id"], "amount": 1001}

    over = merchant.http.post("/_sandbox/external", json=body)
    missing = merchant.http.post("/_sandbox/external", json={**body, "payment": "x"})

    assert (over.status_code, over.json()["field"]) == (422, "amount")
    assert missing.status_code == 404


def test_a_chargeback_may_follow_a_full_refund(merchant):
    payment = merchant.pay("smart_glocal", 1000, pending_seconds=0)
    merchant.refund("smart_glocal", payment, 1000)
    body = {"provider": "smart_glocal", "payment": payment["id"], "chargeback": True}

    merchant.control("POST", "/external", {**body, "amount": 1000})

    assert sum(entry["amount"] for entry in merchant.ledger()) == 2000


def test_reset_forgets_everything(merchant):
    payment = merchant.pay("smartpay")
    merchant.faults({"fault": "slow", "seconds": 0})
    merchant.refund("smartpay", payment)

    merchant.control("POST", "/reset")

    assert merchant.ledger() == []
    assert merchant.control("GET", "/requests") == []
    assert merchant.control("GET", "/faults")["faults"] == []
    assert merchant.refund("smartpay", payment).status_code == 404


def test_requests_are_remembered_with_the_hash_of_their_bytes(merchant):
    payment = merchant.pay("smartpay")
    merchant.faults({"fault": "answer_lost", "first": 1})
    with pytest.raises(httpx.TransportError):
        merchant.refund("smartpay", payment, 100, "k")
    answer = merchant.refund("smartpay", payment, 100, "k")
    merchant.status("smartpay", payment, answer.json()["id"])

    first, second, status = merchant.control("GET", "/requests?provider=smartpay")

    assert (first["answered"], second["answered"]) == ("cut", 200)
    assert first["sha256"] == second["sha256"]
    assert (first["handle"], first["call"], first["method"]) == ("k", "refund", "POST")
    assert first["path"] == "/smartpay/v1/refunds"
    assert status["call"] == "status"
    assert merchant.control("GET", "/requests?provider=smart2pay") == []


def test_it_runs_in_process_and_a_cut_raises_what_a_client_would_see():
    app = create_app(faults=[{"fault": "answer_lost", "first": 1}])

    async def scenario():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as http:
            body = {"provider": "smartpay", "amount": 1000}
            (payment,) = (await http.post("/_sandbox/payments", json=body)).json()["payments"]
            own = (await http.get("/_sandbox/credentials")).json()["smartpay"]
            refund = {
                "payment": payment["id"],
                "amount": 10,
                "currency": "JPY",
                "reason": "fraudulent",
            }
            headers = {"Authorization": f"Basic {own['secret_key']}", "Idempotency-Key": "k"}
            url = f"{own['base_url']}/refunds"
            with pytest.raises(httpx.RemoteProtocolError):
                await http.post(url, json=refund, headers=headers)
            replay = await http.post(url, json=refund, headers=headers)
            return replay.status_code, (await http.get("/_sandbox/ledger")).json()

    status, ledger = asyncio.run(scenario())

    assert (status, len(ledger)) == (200, 1)


def test_time_is_the_injected_clock():
    now = [1_700_000_000.0]
    app = create_app(clock=lambda: now[0], pending_seconds=3600)

    async def scenario():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as http:
            body = {"provider": "smart2pay", "amount": 1000, "id": "77"}
            await http.post("/_sandbox/payments", json=body)
            own = (await http.get("/_sandbox/credentials")).json()["smart2pay"]
            url = f"{own['base_url']}/v1/payments/77/refunds"
            auth = (own["site_id"], own["api_key"])
            asked = {"Refund": {"MerchantTransactionID": "a", "Amount": 1000}}
            await http.post(url, json=asked, auth=auth)
            lengths = []
            for wait in (0, 3599, 10):
                now[0] += wait
                lengths.append(len((await http.get("/_sandbox/ledger")).json()))
            return lengths, (await http.get("/_sandbox/ledger")).json()[0]["at"]

    lengths, at = asyncio.run(scenario())

    assert lengths == [0, 0, 1]
    assert at == "2023-11-14T23:13:20.000Z"


PLANS = {
    "faults.toml": 'seed = 3\n[[faults]]\nprovider = "smartpay"\nfault = "throttled"\nfirst = 2\n',
    "faults.json": ('{"seed": 3, "faults": [{"provider": "smartpay", "fault": "throttled", "first": 2}]}'),
}


@pytest.mark.parametrize("name", PLANS)
def test_the_process_says_where_it_listens_and_reads_its_faults(tmp_path, name):
    plan = tmp_path / name
    plan.write_text(PLANS[name])
    command = [sys.executable, "-m", "sandbox", "--port", "0", "--faults", str(plan)]
    root = Path(sandbox.__file__).parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        line = process.stdout.readline()
        url = re.fullmatch(r"sandbox listening on (http://127\.0\.0\.1:\d+)\n", line)[1]
        faults = httpx.get(f"{url}/_sandbox/faults").json()
        process.terminate()
        process.wait(5)

    rule = {"provider": "smartpay", "call": "refund", "fault": "throttled", "first": 2}
    assert faults == {"seed": 3, "faults": [{**rule, "calls": 0, "hits": 0}]}


def test_a_wrong_faults_file_stops_the_start(tmp_path):
    plan = tmp_path / "faults.toml"
    plan.write_text('[[faults]]\nfault = "explode"\n')
    command = [sys.executable, "-m", "sandbox", "--port", "0", "--faults", str(plan)]
    root = Path(sandbox.__file__).parents[1]

    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=10, check=False)

    assert done.returncode == 2
    assert "faults[0].fault" in done.stderr


ODD = [None, True, 0, -1, 1.5, 1e18, 10**30, "", "x" * 300, "é\u0000", [], [1], {}, {"a": {"b": []}}]


@pytest.mark.parametrize("account", ACCOUNTS)
def test_no_body_makes_the_sandbox_itself_fail(merchant, account):
    payment = merchant.pay(account)
    body = merchant.refund_body(account, payment, 1000, "odd")
    inner = body.get("Refund", body)
    bodies = [b"", b"null", b"[]", b'"x"', b"\xff", b'{"Refund": 1}', b"1e999999", b"[" * 5000]
    optional = ("metadata", "lineItems", "Articles", "Details", "customReferences", "CaptureID")
    for name in (*inner, *optional):
        for odd in ODD:
            changed = {**inner, name: odd}
            bodies.append(json.dumps({"Refund": changed} if "Refund" in body else changed).encode())

    answers = [
        merchant.http.send(
            merchant.request(
                "POST", account, merchant.refund_path(account, payment), merchant.headers(account, each), each
            )
        )
        for each in bodies
    ]

    assert {answer.status_code for answer in answers} <= {200, 201, 400, 403, 404}
    assert all(answer.json() for answer in answers)


def test_it_imports_nothing_of_the_project():
    package = Path(sandbox.__file__).parent
    siblings = {path.name for path in package.parent.iterdir() if path.is_dir()} - {"sandbox"}
    imported = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {name.name.split(".")[0] for name in node.names}
            if isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").split(".")[0])

    assert not imported & siblings
