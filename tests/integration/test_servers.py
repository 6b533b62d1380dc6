import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import redis
import sqlalchemy as sa

from tests.support.processes import LocalProcess, free_port, wait_until


@pytest.fixture
def client(redis_server):
    with redis_server.client() as client:
        yield client


def query(url, statement):
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        with engine.begin() as connection:
            result = connection.execute(sa.text(statement))
            return result.scalar() if result.returns_rows else None
    finally:
        engine.dispose()


def state(pid):
    """The process's letter in /proc; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def test_redis_keeps_what_the_product_asks_for(client):
    assert client.config_get("appendonly") == {"appendonly": "yes"}
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert client.info("server")["redis_version"] >= "6.2"


def test_each_test_has_an_empty_redis(client):
    assert client.dbsize() == 0


def test_redis_comes_back_with_its_data_after_a_stop(redis_server, client):
    client.set("kept", "yes")

    redis_server.restart()

    assert client.get("kept") == b"yes"


def test_redis_comes_back_with_its_data_after_a_crash(redis_server, client):
    client.set("kept", "yes")
    redis_server.kill()

    with pytest.raises(redis.ConnectionError):
        client.ping()

    redis_server.start()
    assert client.get("kept") == b"yes"


def test_redis_comes_back_empty_if_it_must(redis_server, client):
    client.set("kept", "yes")

    redis_server.restart(keep_data=False)

    assert client.get("kept") is None


def test_a_frozen_redis_answers_nothing_until_it_goes_on(redis_server):
    with redis_server.client(socket_timeout=0.2, retry=None) as client:
        client.ping()
        redis_server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()

        redis_server.resume()

        assert client.ping()


def test_a_database_is_empty_and_of_either_kind(database_url):
    query(database_url, "CREATE TABLE t (x integer)")

    assert query(database_url, "SELECT count(*) FROM t") == 0


def test_each_database_is_its_own(postgres, postgres_url):
    other = postgres.create()
    query(postgres_url, "CREATE TABLE t (x integer)")

    assert query(other, "SELECT count(*) FROM pg_tables WHERE tablename = 't'") == 0
    postgres.drop(other)


def test_a_template_is_prepared_once_and_copied(postgres):
    prepared = []

    def prepare(url):
        prepared.append(url)
        query(url, "CREATE TABLE t (x integer)")

    name = f"template_{os.getpid()}"
    names = [postgres.template(name, prepare) for _ in range(2)]
    url = postgres.create(template=name)

    assert names == [name, name]
    assert len(prepared) == 1
    assert query(url, "SELECT count(*) FROM t") == 0
    postgres.drop(url)


def test_databases_are_made_side_by_side(postgres):
    with ThreadPoolExecutor(4) as pool:
        urls = list(pool.map(lambda _: postgres.create(), range(4)))

    assert len(set(urls)) == 4
    for url in urls:
        postgres.drop(url)


def test_postgresql_is_durable(postgres_url):
    assert query(postgres_url, "SHOW fsync") == "on"
    assert query(postgres_url, "SHOW synchronous_commit") == "on"


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_postgresql_comes_back_with_its_data(own_postgres, end):
    url = own_postgres.databases.create()
    query(url, "CREATE TABLE t AS SELECT 7 AS x")

    getattr(own_postgres, end)()

    with pytest.raises(psycopg.OperationalError):
        own_postgres.databases.connect()
    own_postgres.start()
    assert query(url, "SELECT x FROM t") == 7


def test_workers_share_one_postgresql_that_goes_with_the_last_of_them(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(
        "import sys, pathlib\n"
        "from tests.support.shared_postgres import SharedPostgres\n"
        "shared = SharedPostgres(pathlib.Path(sys.argv[1]))\n"
        "print(shared.join().port, flush=True)\n"
        "sys.stdin.read()\n"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ports = {int(worker.stdout.readline()) for worker in workers}

    def serves(port):
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    (port,) = ports
    workers[0].kill()
    workers[0].communicate()
    assert serves(port)
    workers[1].kill()
    workers[1].communicate()
    wait_until(lambda: not serves(port), what="the end of the server")


def test_a_process_is_signalled_frozen_and_read(tmp_path):
    # One process alone: a shell whose child is frozen between fork and exec is not stopped, it waits.
    script = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('term', flush=True), sys.exit(3)))\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    process = LocalProcess("script", [sys.executable, "-c", script], tmp_path)
    process.start()
    process.wait_for_log("ready")

    process.pause()
    wait_until(lambda: state(process.pid) == "T")
    process.resume()
    status = process.stop()

    assert status == 3
    assert process.logs() == b"ready\nterm\n"
    process.restart()
    process.wait_for_log("ready")
    process.kill()
    assert process.returncode == -9
    assert process.logs(this_run=True) == b"ready\n"


def test_a_process_that_ends_early_is_told_with_its_last_words(tmp_path):
    process = LocalProcess("shell", ["sh", "-c", "echo no licence >&2; exit 4"], tmp_path)
    process.start()

    with pytest.raises(AssertionError, match=r"(?s)\(4\).*no licence"):
        process.wait_for_log("ready")


def test_processes_die_with_the_test_run(tmp_path):
    script = (
        "import pathlib, sys, time\n"
        "from tests.support.processes import LocalProcess\n"
        "process = LocalProcess('sleep', ['sleep', '60'], pathlib.Path(sys.argv[1]))\n"
        "process.start()\n"
        "print(process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    pid = int(run.stdout.readline())

    run.kill()
    run.communicate()

    wait_until(lambda: state(pid) in {"", "Z"})


def test_a_free_port_is_free():
    assert free_port() != free_port()
