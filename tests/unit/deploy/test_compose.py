import hashlib
import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cli.main import app
from config.values import parse_duration
from providers.registry import BUILT_IN

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: each for name, each in SERVICES.items() if each["image"].startswith("refundry:")}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    subprocess.run(["sh", folder / "deploy" / "secrets.sh"], check=True)
    return folder / "secrets"


def test_every_command_is_one_of_ours():
    for service in OURS.values():
        command = [part for part in service["command"] if not part.startswith("-")][:2]
        shown = CliRunner().invoke(app, [*(command if command[0] == "db" else command[:1]), "--help"])

        assert shown.exit_code == 0, service["command"]


def test_what_is_published_is_published_on_this_machine_alone():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert ports
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)


def test_our_containers_cannot_write_or_gain_rights():
    for service in OURS.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_no_secret_stands_in_the_environment_and_each_has_its_file(secrets):
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("URL|KEY|PASSWORD", name):
                assert value.removeprefix("file:").startswith("/run/secrets/"), name
                assert value.rpartition("/")[2] in service["secrets"]
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
    for each in COMPOSE["secrets"].values():
        assert (secrets.parent / each["file"]).stat().st_size > 0


def test_secrets_are_made_once_and_kept(secrets):
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    subprocess.run(["sh", secrets.parent / "deploy" / "secrets.sh"], check=True)

    assert {path.name: path.read_bytes() for path in secrets.iterdir()} == before
    assert secrets.stat().st_mode & 0o077 == 0


def test_redis_is_told_the_hash_of_each_user_s_password(secrets):
    users = (secrets / "redis_users").read_text()

    for file in ("worker", "shop", "listener", "flower"):
        password = re.search(r":([^:@]+)@", (secrets / f"{file}_redis_url").read_text())[1]
        assert f"#{hashlib.sha256(password.encode()).hexdigest()} " in users


def test_the_grace_outlasts_the_slowest_provider_by_ten_seconds():
    all_of_them = [import_module(place.partition(":")[0]).CAPABILITIES for place in BUILT_IN.values()]
    longest = max(each.connect_timeout + each.read_timeout for each in all_of_them)

    assert parse_duration(SERVICES["worker"]["stop_grace_period"]) >= longest + 10
