"""The sandbox run beside us: started, found, and its accounts as settings."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from cli.children import Child, sandbox_command

START_SECONDS = 20.0
PROVIDERS = ("smartpay", "smartretry", "jpm_smartpay", "smart2pay", "smart_glocal")
_LISTENING = re.compile(r"^sandbox listening on (http://\S+)$", re.MULTILINE)


class DidNotStart(RuntimeError):
    """The message has the sandbox's last words."""


def child(folder: Path, environ: Mapping[str, str], *, port: int, seed: int | None = None) -> Child:
    """The sandbox as a program of ours; its log in `folder` is where it says that it listens."""
    log = folder / "sandbox.log"
    log.unlink(missing_ok=True)
    command = sandbox_command(host="127.0.0.1", port=port, seed=seed)

    return Child("sandbox", command, env=environ, cwd=folder, log=log)


def address(sandbox: Child) -> str:
    """Where it listens, once it does. Raises DidNotStart."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and sandbox.running:
        found = _LISTENING.search(sandbox.last_words())
        if found:
            return found[1]
        time.sleep(0.02)
    raise DidNotStart(f"the sandbox did not start: {sandbox.last_words()}")


def accounts(url: str) -> dict[str, dict[str, Any]]:
    """Its accounts as settings; an account's name begins with its provider's."""
    found = httpx.get(f"{url}/_sandbox/credentials", timeout=10).raise_for_status().json()

    return {
        name.replace("_", "-"): {"provider": next(each for each in PROVIDERS if name.startswith(each)), **account}
        for name, account in found.items()
    }
