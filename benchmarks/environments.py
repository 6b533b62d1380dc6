"""Environments of their own for what the project does not depend on: `.venv-bench/<name>` from its locked list."""

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(".venv-bench")


class NotInstalled(RuntimeError):
    """The environment could not be made; the message says why."""


def python_of(name: str) -> str:
    """The interpreter of an environment, made on first use and again when its list has changed."""
    lock = Path(f"requirements/peers-{name}.txt")
    folder = ROOT / name
    stamp, digest = folder / ".installed", hashlib.sha256(lock.read_bytes()).hexdigest()
    python = str((folder / "bin" / "python").absolute())
    if stamp.exists() and stamp.read_text() == digest:
        return python
    print(f"  making {folder} ...", flush=True)
    _run(sys.executable, "-m", "venv", "--clear", str(folder))
    (ROOT / ".gitignore").write_text("*\n")
    _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(lock))
    stamp.write_text(digest)

    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise NotInstalled(f"{' '.join(command[1:4])} failed: {done.stderr.strip()[-500:]}")
