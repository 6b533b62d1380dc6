"""`refundry up` and the commands beside it, as a person runs them."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

REFUNDRY = Path(sys.executable).with_name("refundry")


def until(condition, *, seconds=90):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.2)
    return found


@pytest.fixture
def refundry(tmp_path):
    def run(*arguments, stdin=None):
        return subprocess.run(
            [REFUNDRY, *arguments], cwd=tmp_path, input=stdin, capture_output=True, text=True, timeout=60, check=False
        )

    return run


@pytest.fixture
def up(tmp_path, refundry):
    """`refundry up --sandbox`, with the worker heard."""
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [REFUNDRY, "up", "--sandbox", "--processes", "2"], cwd=tmp_path, stdout=log, stderr=log
        )
    try:
        until(lambda: any(each["kind"] == "worker" for each in workers(refundry)))
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()


def workers(refundry):
    told = refundry("workers", "list", "-o", "json")
    return json.loads(told.stdout) if told.returncode == 0 else []


def sandbox_url(tmp_path):
    accounts = json.loads((tmp_path / ".refundry" / "sandbox.json").read_text())
    return accounts["smartretry"]["base_url"].removesuffix("/smartretry")


def payment(tmp_path):
    asked = {"provider": "smartretry", "amount": 2100, "currency": "EUR"}
    return httpx.post(f"{sandbox_url(tmp_path)}/_sandbox/payments", json=asked).json()["payments"][0]


def api_url(tmp_path):
    """Where the API listens, as `up` says."""
    return re.search(r"API +(http://\S+)", (tmp_path / "up.log").read_text())[1]


@pytest.mark.timeout(150)
def test_the_console_is_there_and_the_printed_link_signs_in_once(up, tmp_path):
    log = (tmp_path / "up.log").read_text
    address, secret = until(lambda: re.search(r"sign in +(http://\S+)/sign-in/link\?secret=(\S+)", log())).groups()
    with httpx.Client(base_url=address, headers={"sec-fetch-site": "same-origin"}, timeout=20) as browser:
        assert "owner of the terminal" in browser.get(f"/sign-in/link?secret={secret}").text
        assert browser.get("/").status_code == 303, "looking at the link signs nobody in"
        assert browser.post("/sign-in/link", data={"secret": secret}).status_code == 303
        assert "<h1>Overview</h1>" in browser.get("/").text
        again = httpx.post(
            f"{address}/sign-in/link", data={"secret": secret}, headers={"sec-fetch-site": "same-origin"}
        )

    assert again.status_code != 303
    assert httpx.get(f"{address}/healthz").json() == {"status": "ok"}


@pytest.mark.timeout(150)
def test_a_shop_refunds_over_http(up, refundry, tmp_path):
    url, paid = api_url(tmp_path), payment(tmp_path)
    made = refundry("keys", "create", "--name", "shop", "--scope", "refunds:write", "--scope", "refunds:read")
    headers = {"Authorization": f"Bearer {made.stdout.splitlines()[0]}"}
    until(lambda: httpx.get(f"{url}/readyz").json() == {"status": "ready", "database": "ok", "redis": "ok"})
    job = {"reference": "HTTP-1", "account": "smartretry", "payment": paid, "amount": 1250, "currency": "EUR"}
    job["payment"] = {name: value for name, value in paid.items() if value is not None}
    answer = httpx.post(f"{url}/v1/refunds", json=job, headers=headers)

    assert answer.status_code == 202, answer.text
    where = f"{url}{answer.headers['Location']}"
    until(lambda: httpx.get(where, headers=headers).json()["state"] == "succeeded")
    again = httpx.post(f"{url}/v1/refunds", json=job, headers=headers)
    assert again.content == answer.content
    assert len(httpx.get(f"{sandbox_url(tmp_path)}/_sandbox/ledger").json()) == 1


@pytest.mark.timeout(150)
def test_everything_runs_together_and_stops_together(up, refundry, tmp_path):
    paid = payment(tmp_path)
    created = refundry(
        *("refunds", "create", "--account", "smartretry", "--payment", paid["id"], "--order", paid["order_id"]),
        *("--amount", "12.50", "--currency", "EUR", "--reference", "UP-1"),
    )
    assert created.returncode == 0, created.stderr

    def shown():
        return json.loads(refundry("refunds", "show", "UP-1", "-o", "json").stdout)

    until(lambda: shown()["state"] == "succeeded")
    assert refundry("status").returncode == 0
    assert refundry("doctor").returncode == 0
    assert refundry("audit", "verify").returncode == 0
    assert len(httpx.get(f"{sandbox_url(tmp_path)}/_sandbox/ledger").json()) == 1

    family = psutil.Process(up.pid).children(recursive=True)
    up.send_signal(signal.SIGINT)

    assert up.wait(60) == 0
    assert not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    assert not (tmp_path / ".refundry" / "redis.url").exists()
    assert refundry("refunds", "list").returncode == 2


@pytest.mark.timeout(150)
def test_what_dies_is_started_again(up, refundry):
    def worker():
        for each in psutil.Process(up.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it may be the one that was just killed
                if "worker" in each.cmdline():
                    return each
        return None

    first = until(worker)
    os.killpg(first.pid, signal.SIGKILL)

    second = until(lambda: (found := worker()) and found.pid != first.pid and found)
    until(lambda: sum(each["kind"] == "worker" and each["silent_seconds"] < 3 for each in workers(refundry)) == 1)
    assert second.is_running()


@pytest.mark.timeout(150)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_nothing_outlives_it(up):
    family = psutil.Process(up.pid).children(recursive=True)

    up.kill()

    until(lambda: not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE])
