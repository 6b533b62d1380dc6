"""What the figures were taken on; nothing that names the machine."""

import platform
import re
import sqlite3
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("celery", "kombu", "redis", "sqlalchemy", "psycopg", "aiohttp", "uvloop")


def machine() -> dict[str, Any]:
    """Processors, memory, versions."""
    return {
        "cores": len(cores := processors()),
        "cpu": cores[0] if cores else platform.machine(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GB",
        "kernel": f"{platform.system()} {kernel(platform.release())}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: version(name) for name in PACKAGES},
    }


def processors() -> list[str]:
    """The model of each processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]


def kernel(release: str) -> str:
    """The version's numbers; what a builder appended to them stays out."""
    found = re.match(r"[0-9]+(\.[0-9]+)*", release)
    return found[0] if found else ""
