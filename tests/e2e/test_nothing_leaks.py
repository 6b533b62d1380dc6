"""Known secrets and bank details go every way through a running system, and are found nowhere."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from engine import keys, webhooks
from engine.keys import Scope
from engine.people import Actor, Role
from ledger import notification, rejected
from tests.support.console import PASSWORD, ConsoleServer, add_people
from tests.support.marks import (
    BANK_ACCOUNT,
    CUSTOMER,
    everything_in_redis,
    everything_in_the_database,
    found,
    texts,
)
from tests.support.processes import LocalProcess, free_port, wait_until
from tests.support.receiver import Receiver
from tests.support.stack import ROOT

ADMIN = Actor("ada", frozenset({Role.ADMIN}))
PROVIDERS = ("smartpay", "jpm_smartpay", "smart2pay", "smart_glocal")
#: A provider and a receiver that say back what they should not have, in words and in members.
ECHO = json.dumps(
    {
        "error": {"code": "invalid_request", "message": f"no such holder {CUSTOMER['email']} {BANK_ACCOUNT['iban']}"},
        "customer": CUSTOMER,
        "iban": BANK_ACCOUNT["iban"],
    }
).encode()
SECTIONS = {
    "webhooks": {"allow_http": True, "allow_networks": ["127.0.0.0/8"], "retry_schedule": [0, 0.2]},
    "logging": {"level": "DEBUG"},
}


@pytest.fixture
def echo():
    made = Receiver(answers=lambda _got: (400, {"Content-Type": "application/json"}), body=ECHO)
    yield made
    made.close()


@pytest.fixture
def system(stack, echo):
    made = stack(sections=SECTIONS, smartretry={"base_url": echo.url.removesuffix("/hooks"), "max_attempts": 2})
    add_people(made)
    return made


@pytest.fixture
def api(system):
    """A client's address and key; the API is a process of its own."""
    port = free_port()
    env = {"REFUNDRY_CONFIG": str(system.folder / "refundry.toml"), "PYTHONPATH": str(ROOT)}
    process = LocalProcess("api", [sys.executable, "-m", "api", "--port", str(port)], system.folder, env=env)
    system.processes.append(process)
    process.start()
    process.wait_for_log("startup complete")
    _, key = keys.create(system.engine, ADMIN, "shop", scopes=list(Scope))
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}", timeout=60, headers={"Authorization": f"Bearer {key}"}
    ) as client:
        yield client


def personal(job, reference):
    return {**job, "reference": reference, "customer": CUSTOMER, "bank_account": BANK_ACCOUNT}


def bad(job, reference):
    """Jobs that no door takes, with the same data in them."""
    whole = personal(job, reference)

    return [
        {**whole, "account": "nowhere"},
        {**whole, "amount": CUSTOMER["email"]},
        {**whole, "customer": {**CUSTOMER, "email": BANK_ACCOUNT["iban"]}},
        {**whole, "bank_account": {**BANK_ACCOUNT, "iban": CUSTOMER["last_name"]}},
        {**whole, "customer": [CUSTOMER]},
        {**whole, "surplus": BANK_ACCOUNT},
    ]


def refundry(system, *arguments, stdin=""):
    """A command line; everything that it says."""
    env = {**os.environ, "REFUNDRY_CONFIG": str(system.folder / "refundry.toml"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "cli.main", *arguments, "--actor", "ove"]
    done = subprocess.run(
        command, cwd=system.folder, env=env, input=stdin, capture_output=True, text=True, check=False, timeout=60
    )

    return (done.stdout + done.stderr).encode()


@pytest.mark.timeout(600)
def test_no_secret_and_no_customer_is_found_anywhere(system, api, echo):
    said = {}
    _, hook = webhooks.create(system.engine, ADMIN, echo.url)
    key = api.headers["Authorization"].removeprefix("Bearer ")
    jobs = {name: system.jobs(name, 4) for name in (*PROVIDERS, "smartretry")}
    system.faults(
        {"provider": "smartpay", "fault": "html", "first": 1},
        {"provider": "smart2pay", "fault": "error_500_after", "first": 1},
        {"provider": "smart_glocal", "fault": "answer_lost", "first": 1},
        {"provider": "jpm_smartpay", "fault": "truncated", "first": 1},
    )

    targets = {name: {"url": str(api.base_url.join(f"/v1/webhooks/{name}"))} for name in PROVIDERS}
    system.sandbox.put("/_sandbox/webhooks", json=targets).raise_for_status()
    through_the_stream(system, jobs)
    through_celery(system, jobs)
    said["api"] = through_the_api(api, jobs)
    said["command line"] = through_the_command_line(system, jobs)
    accepted = 4 * len(jobs)
    system.settle(accepted, timeout=90, allow=frozenset({"review", "failed"}))
    said["notifications"] = notified(system, api)
    wait_until(lambda: len(echo.got) >= accepted, what="answers of the receiver")
    said["looking"] = looked_at(system, api)
    said["pages"] = pages(system)

    said["webhooks"] = repr([got.body for got in echo.got if got.path == "/hooks"]).encode()
    said["metrics"] = api.get("/metrics").content
    said["logs"] = b"".join(process.log.read_bytes() for process in system.processes if "sandbox" not in process.name)
    said["redis"] = everything_in_redis(system.redis.client())
    said["database"] = everything_in_the_database(system.engine.ledger)

    customer = set(texts({"customer": CUSTOMER, "bank_account": BANK_ACCOUNT}))
    secrets = set(secrets_of(system, key, hook))
    # What is shown to signed-in people and callers on request: their own words, and a provider's free text.
    shown = {where: said.pop(where) for where in ("api", "looking", "pages")}
    assert {where: found(secrets, content) for where, content in shown.items()} == dict.fromkeys(shown, frozenset())
    leaks = {where: found(customer | secrets, content) for where, content in said.items()}
    assert {where: marks for where, marks in leaks.items() if marks} == {}
    assert all(len(content) > 100 for content in said.values())
    assert_all_of_it_was_there(system, customer)


def through_the_stream(system, jobs):
    client = system.redis.client()
    system.enqueue([personal(each[0], f"stream-{name}") for name, each in jobs.items()])
    for job in bad(jobs["smartpay"][0], "bad-stream"):
        client.xadd("refundry:intake", {"job": json.dumps(job)})
    client.xadd("refundry:intake", {"job": json.dumps(personal(jobs["smartpay"][0], "cut-stream"))[:-1]})
    wait_until(lambda: client.xlen("refundry:intake") == 0, what="an empty stream")


def through_celery(system, jobs):
    from tasks.app import app

    count = system.redis.client().xlen("refundry:rejected")
    wrong = [*bad(jobs["smartpay"][0], "bad-celery"), json.dumps(personal(jobs["smartpay"][0], "cut"))[:-1]]
    for job in [*(personal(each[1], f"celery-{name}") for name, each in jobs.items()), *wrong]:
        app.send_task("refunds.submit", kwargs={"job": job}, queue="refundry.intake")

    app.send_task("refunds.sumbit", kwargs={"job": personal(jobs["smartpay"][1], "typo")}, queue="refundry.intake")

    def kept():
        with system.engine.ledger.read() as connection:
            return rejected.count_open(connection) == count + len(wrong)

    wait_until(kept, what="the dead letters of bad messages")


def through_the_api(api, jobs):
    good = [personal(each[2], f"api-{name}") for name, each in jobs.items()]
    wrong = bad(jobs["smartpay"][0], "bad-api")
    answers = [api.post("/v1/refunds", json=job) for job in [*good, *wrong, *good[:1]]]
    assert [each.status_code for each in answers] == [202] * len(good) + [422] * len(wrong) + [202]
    answers += [
        api.post("/v1/refunds/batch", json=[*good, *wrong]),
        api.post("/v1/refunds", content=json.dumps(good[0])[:-1], headers={"Content-Type": "application/json"}),
        api.post("/v1/refunds", json={**good[0], "customer": {**CUSTOMER, "last_name": "Other"}}),
        api.post("/v1/refunds", json=good[0], headers={"Authorization": f"Bearer rk_nobody_{PASSWORD}"}),
        api.post("/v1/refunds", json=good[0], headers={"Idempotency-Key": "one"}),
        api.get("/v1/refunds", params={"reference": CUSTOMER["email"]}),
        api.get(f"/v1/refunds/{CUSTOMER['reference']}"),
        api.get(f"/{BANK_ACCOUNT['iban']}"),
    ]

    return b"\n".join(each.content + repr(each.headers).encode() for each in answers)


def through_the_command_line(system, jobs):
    good = [personal(each[3], f"cli-{name}") for name, each in jobs.items()]
    wrong = bad(jobs["smartpay"][0], "bad-cli")
    lines = "\n".join(map(json.dumps, [*good, *wrong]))

    return refundry(system, "submit", "-", "--format", "jsonl", stdin=lines) + refundry(
        system, "submit", "-", "--format", "json", "-o", "json", stdin=json.dumps(wrong[2])
    )


def notified(system, api):
    """Forged and unreadable notifications of every provider beside the true ones that came, and their answers."""
    hooks = api.base_url.join("/v1/webhooks")
    forged = [httpx.post(f"{hooks}/{name}", content=ECHO) for name in (*PROVIDERS, "smartretry", "nowhere")]

    def looked():
        with system.engine.ledger.read() as connection:
            rows = notification.listed(connection, limit=1000)
        true = {row["account"] for row in rows if row["verified"] and row["state"] != "received"}
        return true == set(PROVIDERS) and any(not row["verified"] for row in rows)

    wait_until(looked, timeout=60, what="notifications looked at")

    return b"\n".join(each.content for each in forged) + refundry(system, "webhooks", "received", "-o", "json")


def looked_at(system, api):
    """What commands and the API show of all of it."""
    rows = system.rows()
    parts = [
        refundry(system, "refunds", "list", "-o", "json", "--limit", "100"),
        refundry(system, "dead", "list", "-o", "json"),
        refundry(system, "audit", "list", "-o", "json", "--limit", "1000"),
        refundry(system, "accounts", "list", "-o", "json"),
        refundry(system, "webhooks", "sent", "-o", "json"),
        refundry(system, "webhooks", "endpoints", "list", "-o", "json"),
        refundry(system, "doctor", "-o", "json"),
        *(refundry(system, "refunds", "show", row["id"], "--timeline", "--raw", "-o", "json") for row in rows[:5]),
        *(api.get(f"/v1/refunds/{row['id']}").content for row in rows),
        *(api.get(f"/v1/refunds/{row['id']}/events").content for row in rows),
    ]

    return b"\n".join(parts)


def pages(system):
    """Every page of the console, as an operator sees it, a wrong sign-in and a search among them."""
    console = ConsoleServer(system).start()
    same = {"sec-fetch-site": "same-origin"}
    with httpx.Client(base_url=console.url, timeout=30) as visitor:
        visitor.post("/sign-in", data={"name": "ove", "password": CUSTOMER["reference"]}, headers=same)
        signed = visitor.post("/sign-in", data={"name": "ove", "password": PASSWORD}, headers=same)
        assert signed.status_code == 303
        searched = visitor.get("/refunds", params={"q": CUSTOMER["email"]})
        assert "stream-smartpay" in searched.text
        paths = ["/", "/refunds", "/refunds.csv", "/dead", "/approvals", "/accounts", "/queues", "/audit", "/audit.csv"]
        paths += ["/settings", "/refunds/new", f"/refunds/{CUSTOMER['reference']}x", *_of_refunds(system)]
        answers = [visitor.get(path) for path in paths]

    return b"\n".join(each.content for each in answers)


def _of_refunds(system):
    ids = [row["id"] for row in system.rows()]

    return [f"/refunds/{each}" for each in ids] + [f"/refunds/{each}/history.json" for each in ids]


def secrets_of(system, key, hook):
    """Every secret of the settings, what machines and people sign in with, and HTTP's own form of some."""
    yield from (key, key.rpartition("_")[2], hook, PASSWORD)
    yield from (each.get_secret_value() for each in system.engine.settings.security.encryption_keys)
    yield system.engine.settings.security.index_key.get_secret_value()
    for name, given in system.credentials.items():
        for setting in ("secret_key", "webhook_secret", "api_key", "authentication_key", "webhook_password"):
            if given.get(setting):
                yield given[setting]
        if name.startswith("smart2pay"):
            yield base64.b64encode(f"{given['site_id']}:{given['api_key']}".encode()).decode()
    yield system.credentials["smart_glocal"]["private_key"].splitlines()[3]
    yield system.credentials["jpm_smartpay_oauth"]["oauth"]["client_secret"]


def assert_all_of_it_was_there(system, customer):
    """The search would have found it: the data is in the ledger, sealed, and some of it went to the providers."""
    from sqlalchemy import select

    from ledger.sealed import COLUMNS

    with system.engine.ledger.read() as connection:
        sealed = [value for column in COLUMNS for value in connection.execute(select(column)).scalars() if value]
    opened = b"\n".join(system.engine.vault.open(bytes(value)) for value in sealed)

    assert found(customer, opened) == customer
    assert Path(system.folder / "refundry.toml").exists()
