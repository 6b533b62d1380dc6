"""The Dockerfile's own steps, run where no Docker is: in a mount namespace of their own, with paths as in the image.

What stands in the file is run word for word. What this cannot show is the base image and `useradd`.
"""

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import wait_until

ROOT = Path(__file__).parents[2]
INSTRUCTION = re.compile(r"^(?P<verb>[A-Z]+)\s+(?P<rest>.*)$", re.DOTALL)
USER = 10001
PATH = "/usr/local/bin:/usr/bin:/bin"

pytestmark = [
    pytest.mark.timeout(1200),  # it installs everything anew
    pytest.mark.skipif(
        os.geteuid() != 0
        or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0,
        reason="needs root and the right to make a mount namespace",
    ),
]


def instructions(dockerfile):
    """(verb, rest) of each instruction, continued lines joined."""
    lines = [line for line in dockerfile.splitlines() if line.strip() and not line.startswith("#")]
    whole = re.split(r"\n(?=[A-Z]+ )", "\n".join(lines))
    return [tuple(INSTRUCTION.match(each).group("verb", "rest")) for each in whole]


def stages(dockerfile):
    """The instructions of each FROM."""
    found = []
    for verb, rest in instructions(dockerfile):
        if verb == "FROM":
            found.append([])
        elif found:
            found[-1].append((verb, rest))
    return found


def context(target):
    """What `.dockerignore` lets through, as `COPY .` finds it."""
    rules = (ROOT / ".dockerignore").read_text().split()
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    dropped = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    assert rules[0] == "*"
    for name in kept:
        source, sink = ROOT / name, target / name
        sink.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, sink, ignore=shutil.ignore_patterns(*dropped))
        elif source.exists():
            shutil.copy(source, sink)


class Image:
    """The folders that the image would have, mounted over this machine's for one command at a time."""

    def __init__(self, folder):
        self.folder = folder
        self.mounts = {f"/{name}": folder / name for name in ("opt", "app", "build", "tmp")}
        for path in self.mounts.values():
            path.mkdir(parents=True)
        (folder / "tmp").chmod(0o1777)

    def run(self, command, **options):
        """What came of a command in the image."""
        return subprocess.run(capture_output=True, text=True, check=False, **self.inside(command, **options))

    def inside(self, command, *, cwd="/build", env=None, user=None, read_only=False):
        """The arguments of `subprocess` that run it in the image."""
        script = ["set -e", *(f"mkdir -p {inside}" for inside in ("/app", "/build"))]
        if sys.base_prefix != "/usr":
            script.append(f"mount --bind {sys.base_prefix} /usr/local")  # where the base image has its Python
        # `/tmp` last: it hides the folders of the others.
        script += [f"mount --bind {outside} {inside}" for inside, outside in self.mounts.items()]
        if read_only:
            script.append(
                "mount -o remount,bind,ro / && mount -o remount,bind,ro /app && mount -o remount,bind,ro /opt"
            )
        script.append(f"cd {cwd}")
        drop = (
            f"setpriv --reuid={user} --regid={user} --clear-groups --no-new-privs --bounding-set=-all " if user else ""
        )
        script.append(f"exec {drop}sh -c {shlex.quote(command)}")
        return {
            "args": ["unshare", "-m", "sh", "-c", "\n".join(script)],
            "env": {
                "PATH": PATH,
                "HOME": "/tmp",
                "LD_LIBRARY_PATH": "/usr/local/lib",
                **self.registry(),
                **(env or {}),
            },
        }

    @staticmethod
    def registry():
        """How this machine reaches its package registry."""
        return {
            name: value
            for name, value in os.environ.items()
            if re.match("PIP_|SSL_|REQUESTS_|https?_proxy", name, re.IGNORECASE)
        }


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    image = Image(tmp_path_factory.mktemp("image"))
    context(image.folder / "context")
    build, _final = stages((ROOT / "Dockerfile").read_text())
    for verb, rest in build:
        if verb == "RUN":
            done = image.run(rest.replace("\\\n", " "))
            assert done.returncode == 0, f"{rest}\n{done.stdout}{done.stderr}"
        elif verb == "COPY":
            copy(image, rest.replace("${LOCK}", "run"))
        elif verb == "ARG":
            assert rest == "LOCK=run"
        else:
            assert (verb, rest) == ("WORKDIR", "/build")
    yield image
    # Another test of this module must not be running now: removing these ends what is mounted on them elsewhere.
    for leftover in ("/app", "/build"):
        if Path(leftover).is_dir() and not any(Path(leftover).iterdir()):
            Path(leftover).rmdir()


def copy(image, rest):
    source, target = rest.split()
    found = image.folder / "context" / source
    if source == ".":
        shutil.copytree(found, image.mounts["/app"], dirs_exist_ok=True)
        assert target == "/app"
    else:
        sink = image.mounts["/build"] / target
        sink.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(found, sink)


@pytest.fixture
def environ():
    """What the last stage sets."""
    _build, final = stages((ROOT / "Dockerfile").read_text())
    settings = next(rest for verb, rest in final if verb == "ENV").replace("\\\n", " ")
    found = dict(part.split("=", 1) for part in shlex.split(settings))
    return found | {"PATH": found["PATH"].replace("$PATH", PATH)}


def test_the_built_image_runs_as_nobody_on_a_read_only_root(image, environ):
    def refundry(arguments, **more):
        return image.run(f"refundry {arguments}", cwd="/tmp", env=environ | more, user=USER, read_only=True)

    first = refundry("--help")
    assert first.returncode == 0, first.stderr
    for command in ("worker", "beat", "db upgrade", "doctor", "sandbox", "workers alive"):
        assert refundry(f"{command} --help").returncode == 0, command
    keys = {"REFUNDRY_ENCRYPTION_KEYS": "A" * 43 + "=", "REFUNDRY_INDEX_KEY": "an index key of a test"}
    done = refundry("db upgrade", REFUNDRY_DATABASE_URL="sqlite:////tmp/ledger.db", **keys)
    assert done.returncode == 0, done.stderr
    assert "upgraded from nothing" in done.stdout


def test_a_worker_of_the_image_lives_and_stops_in_order(image, environ, redis_server):
    settings = {
        "REFUNDRY_ENCRYPTION_KEYS": "A" * 43 + "=",
        "REFUNDRY_INDEX_KEY": "an index key of a test",
        "REFUNDRY_DATABASE_URL": "sqlite:////tmp/worker.db",
        "REFUNDRY_REDIS_URL": redis_server.url,
    }
    how = {"cwd": "/tmp", "env": environ | settings, "user": USER, "read_only": True}
    assert image.run("refundry db upgrade", **how).returncode == 0
    log = image.folder / "worker.log"
    with log.open("wb") as out:
        worker = subprocess.Popen(stdout=out, stderr=out, **image.inside("exec refundry worker --processes 2", **how))
    try:
        wait_until(lambda: image.run("refundry workers alive", **how).returncode == 0, timeout=90, what="a heartbeat")
        worker.terminate()

        assert worker.wait(60) == 0, log.read_text()
    finally:
        worker.kill()
        worker.wait()
    assert image.run("refundry workers alive", **how).returncode == 2


def test_nothing_but_tmp_can_be_written(image, environ):
    for place in ("/app/x", "/opt/refundry/x", "/etc/x"):
        done = image.run(f"touch {place}", cwd="/tmp", env=environ, user=USER, read_only=True)

        assert done.returncode != 0, place


def test_the_image_holds_the_product_and_nothing_else(image):
    names = {path.name for path in image.mounts["/app"].iterdir()}

    assert {"cli", "worker", "ledger", "sandbox", "LICENSE"} <= names
    assert not names & {"tests", "benchmarks", "docs", ".git", "secrets", "refundry.toml"}
    assert not list(image.mounts["/opt"].glob("refundry/lib/*/site-packages/pip"))
    assert not [path for path in image.mounts["/app"].rglob("*") if fnmatch.fnmatch(path.name, "*.pem")]


def test_the_last_stage_is_nobody_and_stops_as_a_worker_does():
    _build, final = stages((ROOT / "Dockerfile").read_text())
    last = dict(final)

    assert last["USER"] == f"{USER}:{USER}"
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert f"--uid {USER}" in last["RUN"]
