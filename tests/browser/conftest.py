"""A whole system with a console, and a real browser: Debian's Chromium, driven by Playwright."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from engine import notifications, samples, settle, webhooks
from engine.people import recognise
from ledger import queries
from tests.support.console import PASSWORD, ConsoleServer, add_people
from tests.support.processes import wait_until
from tests.support.servers import RedisServer
from tests.support.stack import Stack

CUSTOMER = {"email": "lin@example.com", "first_name": "Lin", "last_name": "Smith", "reference": "lucky"}


@dataclass
class World:
    """The system under test."""

    stack: Stack
    console: ConsoleServer

    def refund(self, reference: str) -> Any:
        """The one refund of that reference."""
        with self.stack.engine.ledger.read() as connection:
            (found,) = queries.find(connection, reference)
        return found

    def wait_for(self, reference: str, state: str) -> None:
        wait_until(lambda: self.refund(reference).state == state, what=f"{reference} in {state}")

    def submit(self, provider: str, count: int, *, tag: str, **options: Any) -> list[str]:
        """Refunds of a known customer; answers their references."""
        jobs = self.stack.jobs(provider, count, tag=tag, **options)
        for job in jobs:
            job |= {"customer": CUSTOMER, "description": "Customer return"}
        self.stack.enqueue(jobs)
        return [job["reference"] for job in jobs]


def chromium() -> str:
    """The browser's path; the test run says plainly what is missing."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.fail("no Chromium: install the package chromium (apt-get install chromium), or set CHROMIUM")
    return found


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    redis = RedisServer(folder / "redis")
    redis.start()
    quick = {"smartretry": {"max_attempts": 2, "handle_lifetime": "1h"}}
    # By its schedule reconciliation would ask the provider about the dead letters below, and end them.
    never = {"reconcile": {"every": 0, "lists_every": 0}}
    stack = Stack(folder / "stack", f"sqlite:///{folder / 'refundry.db'}", redis, accounts=quick, sections=never)
    try:
        stack.start()
        add_people(stack)
        yield _seeded(World(stack, ConsoleServer(stack).start()))
    finally:
        stack.stop()
        redis.process.remove()


def _seeded(world: World) -> World:
    """Some that went well, some whose amount the provider got wrong, some that were never sent, and a broken job."""
    good = [*world.submit("smart2pay", 4, tag="good-"), *world.submit("smart_glocal", 3, tag="good-")]
    for reference in good:
        wait_until(lambda reference=reference: _is(world, reference, "succeeded"), what=f"{reference} succeeded")
    world.stack.faults(
        {"provider": "smartpay", "call": "refund", "fault": "wrong_amount", "probability": 1},
        {"provider": "smartretry", "call": "refund", "fault": "throttled", "probability": 1},
    )
    bad = [*world.submit("smartpay", 6, tag="wrong-"), *world.submit("smartretry", 4, tag="unsent-")]
    for reference in bad:
        wait_until(lambda reference=reference: _is(world, reference, "review"), what=f"{reference} in review")
    world.stack.faults()
    world.stack.enqueue([{"reference": "nowhere", "account": "nowhere", "payment": {"id": "x"}}])
    _told_of(world, good[0])
    later = replace(world.stack.engine, clock=lambda: time.time() + 2 * samples.MINUTE)
    samples.take(later)  # what has just happened is in the charts at once
    return world


def _told_of(world: World, reference: str) -> None:
    """A settlement file with another amount and a broken line, one with a stranger to be looked at; and webhooks."""
    engine, oli = world.stack.engine, recognise(world.stack.engine, "oli")
    refund = world.refund(reference)
    heading = "provider_refund_id,payment_id,amount,currency,at\n"
    path = world.stack.folder / "november.csv"
    ours = f"{refund.provider_refund_id},{refund.payment_id}"
    path.write_text(f"{heading}{ours},{(refund.amount - 1) / 100:.2f},{refund.currency},2026-11-01\nx,y,?,EUR,\n")
    settle.upload(engine, oli, refund.account, path)
    path.write_text(f"{heading}another,{refund.payment_id},1.00,EUR,2026-11-01\n")
    settle.read(engine, oli, refund.account, path)
    endpoint, _ = webhooks.create(engine, recognise(engine, "ada"), "https://shop.example/hooks")
    webhooks.disable(engine, recognise(engine, "ada"), endpoint.id, reason="not there yet")
    notifications.receive(engine, refund.account, {}, b'{"forged": true}')
    world.submit("smart2pay", 1, tag="told-")
    wait_until(lambda: webhooks.sent(engine), what="an event for the endpoint")


def _is(world: World, reference: str, state: str) -> bool:
    with world.stack.engine.ledger.read() as connection:
        return [each.state for each in queries.find(connection, reference)] == [state]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def visit(world: World, browser: Browser) -> Iterator[Callable[..., Page]]:
    """A page of somebody who signed in.

    A word in the browser's console, or a request to elsewhere, fails the test, unless it allows it.
    """
    contexts: list[BrowserContext] = []
    complaints: list[str] = []
    allowed: list[str] = []

    def go(path: str = "/", *, who: str | None = "oli", pace: str = "1", **options: Any) -> Page:
        options = {"reduced_motion": "reduce", **options}  # what fades in has no colour yet that axe could judge
        context = browser.new_context(base_url=world.console.url, **options)
        contexts.append(context)
        context.set_default_timeout(15_000)
        context.add_init_script(f"localStorage.getItem('pace') ?? localStorage.setItem('pace', '{pace}')")
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: _stays(request.url, world, complaints))
        page.goto(path)
        if who is not None:
            page.get_by_label("Name").fill(who)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url(f"{world.console.url}{path}")
        return page

    go.allow = allowed.append  # type: ignore[attr-defined]
    yield go
    for context in contexts:
        context.close()
    assert [each for each in complaints if not any(words in each for words in allowed)] == []


def _stays(url: str, world: World, complaints: list[str]) -> None:
    if not url.startswith((f"{world.console.url}/", "data:")):
        complaints.append(f"a request left for {url}")


@pytest.fixture
def images() -> Path:
    return Path(__file__).parents[2] / "docs" / "images"
