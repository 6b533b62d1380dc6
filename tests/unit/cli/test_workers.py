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


def test_queues_are_not_paused_but_accounts_are(home, refundry):
    for command in ("pause", "resume"):
        told = refundry("queues", command)
        assert told.status == 1
        assert f"refundry accounts {command}" in told.err
