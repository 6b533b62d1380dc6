import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from providers.registry import BUILT_IN

FOLDER = Path(__file__).parents[3] / "deploy" / "systemd"
SERVICES = sorted(FOLDER.glob("*.service"))
PROGRAM = "/opt/refundry/.venv/bin/refundry"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (apt-get install systemd)"
)


@pytest.fixture
def units(tmp_path):
    """The units with a program that is there."""
    for path in FOLDER.iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace(PROGRAM, "/bin/true"))
    return tmp_path


def analyze(*arguments):
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@needs_systemd
def test_systemd_understands_every_line(units):
    done = analyze("verify", *sorted(units.iterdir()))

    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("service", [path.name for path in SERVICES])
def test_systemd_finds_little_exposed(units, service):
    done = analyze("security", "--offline=true", "--threshold=20", "--no-pager", units / service)  # 20 is level 2.0

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_a_unit_runs_one_of_our_commands(service):
    command = re.search(rf"^ExecStart={PROGRAM} (.+)$", service.read_text(), re.MULTILINE)[1]

    assert CliRunner().invoke(app, [*command.split(), "--help"]).exit_code == 0
    assert "NoNewPrivileges=yes" in service.read_text()
    assert "ProtectSystem=strict" in service.read_text()


def test_the_grace_outlasts_the_slowest_provider_by_ten_seconds():
    all_of_them = [import_module(place.partition(":")[0]).CAPABILITIES for place in BUILT_IN.values()]
    longest = max(each.connect_timeout + each.read_timeout for each in all_of_them)
    given = re.search(r"^TimeoutStopSec=(\d+)$", (FOLDER / "refundry-worker.service").read_text(), re.MULTILINE)

    assert int(given[1]) >= longest + 10
