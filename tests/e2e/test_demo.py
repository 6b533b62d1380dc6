"""The demo is the first thing that anybody runs: it must hold its promise, and fail when it cannot."""

import subprocess
import sys
from pathlib import Path

import pytest

REFUNDRY = Path(sys.executable).with_name("refundry")
PROOF = (
    "every job became one refund",
    "refunds accepted = final + in review",
    "each succeeded refund was paid exactly once",
    "no failed refund was paid",
    "each refund in review was paid once at most",
    "no money moved that nobody asked for",
    "no payment gave back more than was captured",
    "jobs that cannot be accepted are kept with the reason",
    "the audit journal verifies",
    "the books balance",
)


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """Runs the demo, which leaves its own things in a folder of ours."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def run(*arguments):
        return subprocess.run(
            [REFUNDRY, "demo", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=140, check=False
        )

    return run


@pytest.mark.timeout(150)
def test_each_refund_is_paid_once_whatever_goes_wrong(demo, tmp_path):
    done = demo("--refunds", "60")

    assert done.returncode == 0, done.stdout + done.stderr
    proof = done.stdout.partition("PROOF")[2]
    for claim in PROOF:
        assert f"holds  {claim}" in proof
    assert "FAILS" not in done.stdout
    assert "SIGKILL" in done.stdout
    assert "60 refunds, 0 missing" in proof
    assert list(tmp_path.iterdir()) == []
