"""What schemathesis finds when it holds the running server against its own document."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.keys import Scope

ROOT = Path(__file__).parents[3]
#: JSON Schema calls 1.0 an integer, and no schema knows which payments and accounts exist: a job that fits the schema
#: may be refused. Everything else that schemathesis looks at must hold.
EXCLUDED = "positive_data_acceptance"


@pytest.mark.timeout(300)
def test_the_server_does_what_its_document_says(api, name):
    key = api.key(name, scopes=list(Scope))
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            "run",
            str(ROOT / "docs" / "openapi.json"),
            f"--url={api.url}",
            f"--header=Authorization: Bearer {key}",
            "--header=X-Forwarded-For: 203.0.113.7",  # so that /metrics wants its scope
            "--phases=examples,coverage,fuzzing,stateful",
            "--checks=all",
            f"--exclude-checks={EXCLUDED}",
            "--max-examples=15",
            "--seed=20260131",
            "--generation-deterministic",
            "--max-response-time=30",
            "--request-timeout=60",
            "--no-color",
        ],
        cwd=api.process.cwd,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "http.failed" not in api.process.logs().decode()
