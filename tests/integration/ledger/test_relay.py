from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from domain.state import State
from engine import relay as module
from engine.relay import relay
from ledger.models import outbox
from signals.client import connect
from signals.stream import EVENTS
from tests.integration.ledger.support import accepted, every, walk
from tests.unit.engine.support import Rung, an_engine


@pytest.fixture
def engine(ledger):
    made = an_engine(ledger.url.render_as_string(hide_password=False), Rung(), migrated=True)
    yield made
    made.close()


@pytest.fixture
def client(redis_url):
    with connect(redis_url) as connected:
        yield connected


def told(client):
    return [
        (fields[b"refund_id"].decode(), fields[b"state"].decode(), int(fields[b"version"]))
        for _, fields in client.xrange(EVENTS)
    ]


def test_every_change_of_state_is_told_in_order(engine, ledger, client):
    refund = walk(ledger, accepted(ledger), State.SENDING, State.PENDING, State.SUCCEEDED)

    assert relay(engine, client) == 4
    assert told(client) == [
        (refund.id, "queued", 1),
        (refund.id, "sending", 2),
        (refund.id, "pending", 3),
        (refund.id, "succeeded", 4),
    ]
    assert every(ledger, outbox) == []
    assert relay(engine, client) == 0


def test_an_entry_names_the_refund_as_its_shop_knows_it(engine, ledger, client):
    refund = accepted(ledger, reference="RMA-1")
    relay(engine, client)
    ((_, fields),) = client.xrange(EVENTS)

    assert fields == {
        b"refund_id": refund.id.encode(),
        b"reference": b"RMA-1",
        b"account": b"shop",
        b"state": b"queued",
        b"version": b"1",
    }


def test_while_redis_is_away_the_outbox_keeps_everything(engine, ledger, redis_server, client):
    accepted(ledger)
    redis_server.kill()
    with pytest.raises(redis.RedisError):
        relay(engine, client)
    assert len(every(ledger, outbox)) == 1

    redis_server.start()
    assert relay(engine, client) == 1
    assert len(told(client)) == 1


def test_what_redis_has_but_the_ledger_does_not_know_of_is_told_again(engine, ledger, client, monkeypatch):
    accepted(ledger)

    def lost(*_arguments):
        raise ConnectionError

    with monkeypatch.context() as broken:
        broken.setattr(module, "_forget", lost)
        with pytest.raises(ConnectionError):
            relay(engine, client)
    relay(engine, client)

    assert [version for _, _, version in told(client)] == [1, 1]
    assert every(ledger, outbox) == []


def test_a_round_has_its_most_and_the_next_goes_on(engine, ledger, client, monkeypatch):
    monkeypatch.setattr(module, "_WAITING", module._WAITING.limit(2))
    walk(ledger, accepted(ledger), State.SENDING, State.SUCCEEDED)

    assert [relay(engine, client) for _ in range(3)] == [2, 1, 0]
    assert [version for _, _, version in told(client)] == [1, 2, 3]


def test_relays_at_once_tell_every_change_and_keep_the_order(engine, ledger, client):
    for _ in range(20):
        walk(ledger, accepted(ledger, amount=1), State.SENDING)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: relay(engine, client), range(3)))

    seen = told(client)
    assert len(set(seen)) == 40
    assert len(seen) == 40 or ledger.sqlite
    for refund_id in {entry[0] for entry in seen}:
        versions = [version for found, _, version in seen if found == refund_id]
        assert versions[0] == 1
        assert versions[-1] == 2
    assert every(ledger, outbox) == []
