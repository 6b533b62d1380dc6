"""The console as a real process beside a whole system."""

import re
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from engine import people, sessions
from engine.people import Actor, Role
from tests.support.processes import LocalProcess, free_port, wait_until
from tests.support.stack import ROOT, Stack

PASSWORD = "correct horse battery"
PEOPLE = {
    "ada": frozenset({Role.ADMIN}),
    "oli": frozenset({Role.OPERATOR}),
    "ove": frozenset({Role.OPERATOR, Role.APPROVER}),
    "pia": frozenset({Role.APPROVER}),
    "vic": frozenset({Role.VIEWER}),
}
FIRST = Actor("system", frozenset({Role.ADMIN}), alone=True)


@dataclass
class ConsoleServer:
    """`python -m console` over the database and Redis of a stack."""

    stack: Stack
    port: int = field(default_factory=free_port)
    process: LocalProcess = field(init=False)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "ConsoleServer":
        """Start it (again), and wait until it answers."""
        command = [sys.executable, "-m", "console", "--port", str(self.port), "--link"]
        env = {"REFUNDRY_CONFIG": str(self.stack.folder / "refundry.toml"), "PYTHONPATH": str(ROOT)}
        self.process = LocalProcess("console", command, self.stack.folder, env=env, port=self.port)
        self.stack.processes.append(self.process)
        self.process.start()
        wait_until(self._answers, what="the console's first answer")

        return self

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/sign-in", timeout=2):
                return True
        except urllib.error.HTTPError:  # under its own name it would answer otherwise
            return True
        except (urllib.error.URLError, ConnectionError):
            return False

    def stop(self) -> None:
        """End it as a power cut would."""
        self.process.remove()

    def link(self) -> str:
        """The one-time link that it printed."""
        found = re.findall(r"http\S+/sign-in/link\?secret=\S+", self.process.log.read_text())

        return str(found[-1])


def add_people(stack: Stack) -> None:
    """One person of each kind, all with the same password."""
    for name, roles in PEOPLE.items():
        people.create(stack.engine, FIRST, name, roles)
        sessions.set_password(stack.engine, FIRST, name, PASSWORD)
