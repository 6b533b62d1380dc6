import os
import socket
import stat
import subprocess
import sys

import pytest
import redis

from cli.embedded import EmbeddedRedis, EmbeddedRedisError, running_url
from tests.support.processes import free_port, wait_until


@pytest.fixture
def folder(tmp_path):
    return tmp_path / ".refundry"


@pytest.fixture
def port():
    return free_port()


def ask(url, *command):
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.execute_command(*command)


def answers(url):
    try:
        return ask(url, "PING")
    except redis.ConnectionError:
        return False


def test_the_server_listens_here_alone_and_keeps_what_it_is_given(folder, port):
    with EmbeddedRedis(folder, port=port) as server:
        assert server.url == f"redis://127.0.0.1:{port}/0"
        assert ask(server.url, "CONFIG", "GET", "bind") == ["bind", "127.0.0.1"]
        assert ask(server.url, "CONFIG", "GET", "appendonly") == ["appendonly", "yes"]
        assert ask(server.url, "CONFIG", "GET", "maxmemory-policy") == ["maxmemory-policy", "noeviction"]


def test_its_url_stands_in_a_file_while_it_runs(folder, port):
    with EmbeddedRedis(folder, port=port) as server:
        assert (folder / "redis.url").read_text() == server.url + "\n"
        assert stat.S_IMODE((folder / "redis.url").stat().st_mode) == 0o600
        assert running_url(folder) == server.url

    assert not (folder / "redis.url").exists()
    assert running_url(folder) is None


def test_data_outlive_the_program(folder, port):
    with EmbeddedRedis(folder, port=port) as server:
        ask(server.url, "SET", "kept", "yes")

    with EmbeddedRedis(folder, port=port) as server:
        assert ask(server.url, "GET", "kept") == "yes"


def test_a_port_in_use_is_passed_over(folder, port):
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with EmbeddedRedis(folder, port=port) as server:
            assert server.url != f"redis://127.0.0.1:{port}/0"
            assert running_url(folder) == server.url


def test_a_folder_has_one_server(folder, port):
    with EmbeddedRedis(folder, port=port) as server:
        with pytest.raises(EmbeddedRedisError, match=server.url):
            EmbeddedRedis(folder, port=port).start()

        assert running_url(folder) == server.url


def test_a_server_that_cannot_start_is_told_with_its_log(folder, port):
    folder.mkdir()
    (folder / "appendonly.aof").write_text("this is no append-only file\n" * 10)
    (folder / "appendonlydir").write_text("nor is this a folder")

    with pytest.raises(EmbeddedRedisError, match=r"redis\.log"):
        EmbeddedRedis(folder, port=port).start()

    (folder / "appendonly.aof").unlink()
    (folder / "appendonlydir").unlink()
    with EmbeddedRedis(folder, port=port) as server:
        assert answers(server.url)


def test_it_ends_with_its_program_however_that_ends(folder, port):
    script = (
        "import pathlib, sys, time\n"
        "from cli.embedded import EmbeddedRedis\n"
        "print(EmbeddedRedis(pathlib.Path(sys.argv[1]), port=int(sys.argv[2])).start(), flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(folder), str(port)]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    url = program.stdout.readline().strip()
    ask(url, "SET", "kept", "yes")

    program.kill()
    program.communicate()

    wait_until(lambda: not answers(url), what="the end of the server")
    assert running_url(folder) is None
    wait_until(lambda: _starts_again(folder, port), what="a new start")


def _starts_again(folder, port):
    try:
        with EmbeddedRedis(folder, port=port) as server:
            return ask(server.url, "GET", "kept") == "yes"
    except EmbeddedRedisError:  # the old one still writes its file
        return False


def test_another_servers_answer_is_not_taken_for_ours(folder, port, redis_server):
    folder.mkdir()
    (folder / "redis.url").write_text(redis_server.url + "\n")
    (folder / "redis.lock").touch()

    assert running_url(folder) is None


def test_ctrl_c_reaches_the_program_and_not_the_server(folder, port):
    with EmbeddedRedis(folder, port=port) as server:
        pid = int(ask(server.url, "INFO", "server")["process_id"])

        assert os.getsid(pid) == pid
