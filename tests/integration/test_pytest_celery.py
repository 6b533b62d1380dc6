import pytest

from tests.support import crash_tasks
from tests.support.processes import wait_until


@pytest.fixture
def default_worker_tasks(default_worker_tasks):
    return default_worker_tasks | {crash_tasks}


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "journal"


def lines(journal):
    return journal.read_text().splitlines() if journal.exists() else []


def test_broker_backend_and_worker_are_ready(celery_setup):
    assert celery_setup.ready(ping=True, control=True, docker=True)
    assert len(celery_setup) == 3
    # A busy machine may answer a broadcast late.
    wait_until(lambda: celery_setup.worker.hostname() in str(celery_setup.app.control.ping(timeout=2)))


def test_a_worker_killed_in_its_task_gets_the_message_again(celery_setup, journal):
    result = crash_tasks.slow.s(str(journal), 60).apply_async()
    wait_until(lambda: lines(journal), what="the start of the task")

    celery_setup.worker.kill()

    assert celery_setup.worker.container.status == "exited"
    assert celery_setup.broker.container.client.hlen("unacked") == 1
    celery_setup.worker.restart()
    assert result.get(timeout=20) == 1
    assert [line.split()[0] for line in lines(journal)] == ["start", "start", "end"]
    assert "redelivered=True" in lines(journal)[1]
