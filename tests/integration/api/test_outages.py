"""Redis and the database away, and back, while jobs come in."""

import threading
import time

import httpx
import pytest
from sqlalchemy import text

from tests.support.api import job
from tests.support.processes import wait_until


def readiness(api):
    answer = httpx.get(f"{api.url}/readyz", timeout=30)
    return answer.status_code, answer.json()["database"], answer.json()["redis"]


@pytest.mark.parametrize("outage", ["stop", "pause"])
def test_jobs_are_accepted_while_redis_is_away(serve, sqlite_url, redis_server, outage):
    api = serve(sqlite_url, redis_server.url)
    with api.client() as client:
        assert readiness(api) == (200, "ok", "ok")
        assert client.post("/v1/refunds", json=job("before")).status_code == 202
        getattr(redis_server, outage)()
        start = time.monotonic()
        answers = [client.post("/v1/refunds", json=job(f"during-{n}")) for n in range(5)]
        seconds = time.monotonic() - start

        assert {each.status_code for each in answers} == {202}
        assert seconds < 10  # a silent Redis is asked once in a while, for a quarter of a second
        assert readiness(api) == (200, "ok", "unreachable")
        redis_server.resume() if outage == "pause" else redis_server.start()
        wait_until(lambda: readiness(api) == (200, "ok", "ok"), what="Redis back")
        assert client.post("/v1/refunds", json=job("after")).status_code == 202


def test_a_worker_is_called_after_the_commit(serve, sqlite_url, redis_server):
    api = serve(sqlite_url, redis_server.url)
    with api.client() as client, redis_server.client() as redis:
        client.post("/v1/refunds", json=job("R-1"))
        wait_until(lambda: redis.llen("refundry.send") == 1, what="a doorbell")


@pytest.mark.parametrize("how", ["restart", "kill"])
@pytest.mark.timeout(180)
def test_a_database_that_restarts_under_load_loses_no_accepted_job(serve, own_postgres, how):
    api = serve(own_postgres.databases.create())
    accepted: set[str] = set()
    told: set[int] = set()
    enough, down = threading.Event(), threading.Event()

    def shop(number):
        """Sends every job again until it is accepted, as docs/api.md says."""
        with api.client(key) as client:
            for count in range(10_000):
                reference = f"{number}-{count}"
                while (status := post(client, reference)) != 202:
                    told.add(status)
                    time.sleep(0.05)
                accepted.add(reference)
                if down.is_set() and enough.is_set():
                    return

    def post(client, reference):
        answer = client.post("/v1/refunds", json=job(reference))
        assert answer.status_code in (202, 503), answer.text
        assert answer.status_code == 202 or answer.json()["retryable"] is True
        return answer.status_code

    key = api.key()
    threads = [threading.Thread(target=shop, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    wait_until(lambda: len(accepted) > 50, timeout=60, what="some jobs")
    if how == "kill":
        own_postgres.kill()
    else:
        own_postgres.stop()
    down.set()
    wait_until(lambda: readiness(api)[:2] == (503, "unreachable"), what="the outage noticed")
    assert httpx.get(f"{api.url}/healthz").status_code == 200
    own_postgres.start()
    wait_until(lambda: readiness(api)[:2] == (200, "ok"), what="the database back")
    before = len(accepted)
    wait_until(lambda: len(accepted) > before + 50, timeout=60, what="more jobs")
    enough.set()
    for each in threads:
        each.join(60)

    with api.engine.ledger.read() as connection:
        stored = {reference for (reference,) in connection.execute(text("SELECT reference FROM refund"))}
        reserved = connection.execute(text("SELECT sum(reserved) FROM payment")).scalar()
    assert accepted <= stored
    assert reserved == 2500 * len(stored)
    assert told == {503}


def test_jobs_are_repeatable_while_the_database_is_read_only(serve, postgres, postgres_url):
    api = serve(postgres_url)
    with api.client() as client:
        assert client.post("/v1/refunds", json=job("before")).status_code == 202
        with postgres.read_only(postgres_url):
            answers = [client.post("/v1/refunds", json=job(f"R-{number}")) for number in range(5)]
            batches = [client.post("/v1/refunds/batch", json=[job("R-5"), job("R-6")]) for _ in range(2)]
        results = [result for each in batches for result in each.json()]

        assert {(each.status_code, each.json()["code"]) for each in answers} == {(503, "database-unreachable")}
        assert {(each["status"], each["problem"]["retryable"]) for each in results} == {(503, True)}
        wait_until(lambda: client.post("/v1/refunds", json=job("R-0")).status_code == 202, what="the job accepted")


def test_a_job_is_accepted_on_sqlite_as_well_by_many_at_once(serve, sqlite_url):
    api = serve(sqlite_url)
    answers = []
    with api.client() as client:
        threads = [
            threading.Thread(target=lambda n=n: answers.append(client.post("/v1/refunds", json=job(f"R-{n % 5}"))))
            for n in range(20)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    assert {each.status_code for each in answers} == {202}
    assert len({each.content for each in answers}) == 5
