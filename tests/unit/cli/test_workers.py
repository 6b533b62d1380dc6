import socket

from config.celery import QUEUES
from ledger import workers


def test_heartbeats_are_listed(engine, refundry):
    engine.ledger.run(lambda connection: workers.beat(connection, "vm:1", "worker", engine.clock() - 5, {"pid": 1}))

    (found,) = refundry("workers", "list", "-o", "json").json()

    assert (found["name"], found["kind"], found["drain"]) == ("vm:1", "worker", False)
    assert 5 <= found["silent_seconds"] < 30
    assert "vm:1" in refundry("workers", "list").out


def test_nobody_is_said_so(home, refundry):
    assert "nobody works" in refundry("workers", "list").out


def test_a_worker_is_drained_on_record(engine, refundry):
    engine.ledger.run(lambda connection: workers.beat(connection, "vm:1", "worker", engine.clock(), {}))

    assert refundry("workers", "drain", "vm:1").status == 0
    assert refundry("workers", "list", "-o", "json").json()[0]["drain"] is True
    assert refundry("audit", "list", "-o", "json").json()[0]["type"] == "worker.drained"
    assert refundry("workers", "drain", "vm:2").status == 3


def test_the_sending_of_all_accounts_is_paused_and_resumed_on_record(home, refundry):
    refundry("accounts", "pause", "other", "--reason", "its own")
    assert refundry("queues", "pause", "refundry.send", "--reason", "paid twice?").status == 0
    assert refundry("queues", "pause", "-o", "json").json()["changed"] is False
    resting = {each["name"]: each for each in refundry("accounts", "list", "-o", "json").json()}
    shown = refundry("accounts", "list").out
    assert refundry("queues", "resume", "--reason", "it was not").status == 0
    after = {each["name"]: each for each in refundry("accounts", "list", "-o", "json").json()}

    assert [(each["paused"], each["queue_paused"]) for each in resting.values()] == [(False, True), (True, True)]
    assert "rests: refundry.send is paused" in shown
    assert [(each["paused"], each["queue_paused"]) for each in after.values()] == [(False, False), (True, False)]
    story = refundry("audit", "list", "--subject", "account/*", "-o", "json").json()
    assert [(each["type"], each["data"]["reason"]) for each in story] == [
        ("account.resumed", "it was not"),
        ("account.paused", "paid twice?"),
    ]


def test_what_is_paused_is_seen_at_a_glance(home, refundry):
    refundry("queues", "pause", "--reason", "month end")

    assert "all accounts" in refundry("status").out
    assert refundry("status", "-o", "json").json()["paused"] == ["*"]

    refundry("queues", "resume")
    assert refundry("status", "-o", "json").json()["paused"] == []


def test_what_asks_after_money_is_never_paused(home, refundry):
    for queue in set(QUEUES) - {"refundry.send"}:
        assert refundry("queues", "pause", queue).status == 1
        assert refundry("queues", "resume", queue).status == 1
    assert refundry("queues", "pause", "refundry.nothing").status == 3


def test_only_who_may_switch_pauses(people, refundry):
    assert refundry("queues", "pause", "--actor", "pia").status == 1
    assert refundry("queues", "resume", "--actor", "pia").status == 1


def test_a_probe_sees_a_recent_heartbeat_of_this_host(engine, refundry):
    here = f"{socket.gethostname()}:7"
    engine.ledger.run(lambda connection: workers.beat(connection, here, "worker", engine.clock() - 5, {}))

    assert refundry("workers", "alive").status == 0
    assert refundry("workers", "alive", "--within", "1s").status == 2


def test_a_probe_takes_no_other_host_for_this_one(engine, refundry):
    engine.ledger.run(lambda connection: workers.beat(connection, "elsewhere:7", "worker", engine.clock(), {}))

    assert refundry("workers", "alive").status == 2
    assert "no heartbeat" in refundry("workers", "alive").out


def test_a_probe_of_beat_asks_for_anybody_s_round(engine, refundry):
    assert refundry("workers", "alive", "--kind", "beat").status == 2
    engine.ledger.run(lambda connection: workers.beat(connection, "beat", "beat", engine.clock(), {}))

    assert refundry("workers", "alive", "--kind", "beat", "-o", "json").json()["alive"] is True


def test_nobody_is_restarted_because_the_ledger_is_away(home, refundry, monkeypatch):
    monkeypatch.setenv("REFUNDRY_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/refundry")

    told = refundry("workers", "alive")

    assert told.status == 0
    assert "does not answer" in told.out
