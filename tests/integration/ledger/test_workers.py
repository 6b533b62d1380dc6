from ledger import workers
from tests.integration.ledger.support import NOW


def do(ledger, work, *arguments):
    return ledger.run(lambda connection: work(connection, *arguments))


def test_a_heartbeat_is_one_row_per_name(ledger):
    do(ledger, workers.beat, "w1", "worker", NOW, {"lanes": 3})
    do(ledger, workers.beat, "w1", "worker", NOW + 5, {"lanes": 4})
    (row,) = do(ledger, workers.listed)

    assert (row["started_at"], row["beat_at"], row["details"]) == (NOW, NOW + 5, {"lanes": 4})


def test_the_last_beat_of_a_kind_is_known(ledger):
    assert do(ledger, workers.last_beat, "beat") is None
    do(ledger, workers.beat, "a", "beat", NOW, {})
    do(ledger, workers.beat, "b", "beat", NOW + 5, {})
    do(ledger, workers.beat, "c", "worker", NOW + 9, {})

    assert do(ledger, workers.last_beat, "beat") == NOW + 5


def test_a_worker_is_asked_to_stop_taking_work(ledger):
    do(ledger, workers.beat, "w1", "worker", NOW, {})

    assert do(ledger, workers.is_draining, "w1") is False
    assert do(ledger, workers.drain, "w1") is True
    assert do(ledger, workers.is_draining, "w1") is True
    assert do(ledger, workers.drain, "nobody") is False
    assert do(ledger, workers.is_draining, "nobody") is False


def test_who_is_asked_to_stop_beats_on(ledger):
    do(ledger, workers.beat, "w1", "worker", NOW, {})
    do(ledger, workers.drain, "w1")
    do(ledger, workers.beat, "w1", "worker", NOW + 1, {})

    assert do(ledger, workers.is_draining, "w1") is True


def test_who_leaves_or_is_long_gone_is_forgotten(ledger):
    for number, name in enumerate(("a", "b", "c")):
        do(ledger, workers.beat, name, "worker", NOW + number, {})
    do(ledger, workers.leave, "c")
    do(ledger, workers.forget, NOW + 1)

    assert [row["name"] for row in do(ledger, workers.listed)] == ["b"]
