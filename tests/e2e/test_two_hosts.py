"""Two worker hosts, each in a network namespace of its own, share one PostgreSQL and one Redis; one is cut off."""

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections import Counter

import pytest
from sqlalchemy import text

from tests.support.gate import Gate
from tests.support.processes import LocalProcess, wait_until
from tests.support.stack import ROOT, Stack

RANGE = "198.18.77"  # a range for tests of networks (RFC 2544); nobody else sees these addresses


def _may_make_namespaces():
    return (
        os.geteuid() == 0
        and shutil.which("ip") is not None
        and subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0
    )


pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not _may_make_namespaces(), reason="needs root, iproute2 and the right to make network namespaces"
    ),
]


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Network:
    """A switch with this machine at one port, at `gate`."""

    gate = f"{RANGE}.1"

    def __init__(self):
        self._switch = f"rf{secrets.token_hex(4)}"
        ip("link", "add", self._switch, "type", "bridge")
        ip("addr", "add", f"{self.gate}/24", "dev", self._switch)
        ip("link", "set", self._switch, "up")
        self._hosts = []

    def host(self, name):
        """A machine of that name, plugged in."""
        self._hosts.append(Host(name, f"{RANGE}.{len(self._hosts) + 2}", self._switch))
        return self._hosts[-1]

    def remove(self):
        for host in self._hosts:
            host.remove()
        ip("link", "del", self._switch)


class Host:
    """A network namespace with one cable."""

    def __init__(self, name, address, switch):
        self.name = name
        self.namespace, self._cable = f"rf{secrets.token_hex(4)}", f"rf{secrets.token_hex(4)}"
        ip("netns", "add", self.namespace)
        ip("link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        ip("link", "set", self._cable, "master", switch, "up")
        ip("-n", self.namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            ip("-n", self.namespace, "link", "set", device, "up")

    def unplug(self):
        ip("link", "set", self._cable, "down")

    def plug_in(self):
        ip("link", "set", self._cable, "up")

    def remove(self):
        ip("link", "del", self._cable)  # its connections would keep the namespace for a while
        ip("netns", "del", self.namespace)

    def command(self, *command):
        inside = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name, *command]
        return ["ip", "netns", "exec", self.namespace, *inside]


class Spread(Stack):
    """A stack whose workers run on hosts of their own."""

    def start_on(self, host):
        """A worker on that host."""
        command = [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "--pool=prefork", "--concurrency=2"]
        command += ["--without-mingle", "--without-gossip"]
        env = {"REFUNDRY_CONFIG": str(self.folder / "far.toml"), "PYTHONPATH": str(ROOT)}
        worker = LocalProcess(host.name, host.command(*command), self.folder, env=env)
        self.processes.append(worker)
        self.workers.append(worker)
        worker.start()
        worker.wait_for_log("ready.")


@pytest.fixture
def network():
    network = Network()
    yield network
    network.remove()


@pytest.fixture
def stack(tmp_path, postgres, postgres_url, redis_server, network):
    stack = Spread(tmp_path / "stack", postgres_url, redis_server)
    gates = []
    try:
        stack.start(workers=0)
        settings = (stack.folder / "refundry.toml").read_text()
        for port in (postgres.port, redis_server.port, stack.sandbox.base_url.port):
            gates.append(Gate(network.gate, port))
            settings = settings.replace(f"127.0.0.1:{port}", f"{network.gate}:{gates[-1].port}")
        far = re.sub(r"^(\[accounts\..+\])$", r"\1\nallow_http = true", settings, flags=re.MULTILINE)
        (stack.folder / "far.toml").write_text(far)
        yield stack
    finally:
        stack.stop()
        for gate in gates:
            gate.close()


def hosts_that_sent(stack):
    with stack.engine.ledger.read() as connection:
        names = connection.execute(text("SELECT worker FROM attempt")).scalars().all()
    return Counter(name.rpartition(":")[0] for name in names)


def test_two_hosts_share_the_work_and_one_may_be_cut_off(stack, network):
    here, there = network.host("host-a"), network.host("host-b")
    for host in (here, there):
        stack.start_on(host)
    total = 0

    def both_have_sent():
        nonlocal total
        stack.enqueue(stack.jobs("smartretry", 20, tag=f"{total}-"))
        total += 20
        stack.settle(total)
        return set(hosts_that_sent(stack)) == {"host-a", "host-b"}

    wait_until(both_have_sent, timeout=90, what="work on both hosts")
    stack.faults({"provider": "smartretry", "call": "refund", "fault": "slow", "probability": 0.5})
    stack.enqueue(stack.jobs("smartretry", 60, tag="cut-"))
    wait_until(lambda: stack.states().get("sending"), what="refunds on their way")
    there.unplug()
    states = stack.settle(total + 60, timeout=240)
    there.plug_in()

    assert states == {"succeeded": total + 60}
    stack.assert_paid_once()
