import json
import platform

from benchmarks.measured import Row, Spread
from benchmarks.report import kernel, machine, write

ROW = Row(
    what="refunds per second",
    figure="11 times",
    bar="at least 10 times",
    holds=True,
    details={"wall clock": Spread(900.0, 800.0, 1000.0, "/s")},
    notes=("A note.",),
)


def test_the_page_is_made_of_the_data(tmp_path):
    write([ROW], data=tmp_path / "performance.json", page=tmp_path / "performance.md")

    kept = json.loads((tmp_path / "performance.json").read_text())
    page = (tmp_path / "performance.md").read_text()
    assert kept["rows"][0]["details"]["wall clock"]["median"] == 900.0
    assert "| refunds per second | 11 times | at least 10 times | holds |" in page
    assert "| wall clock | 900 /s (800 to 1,000) |" in page
    assert "A note." in page


def test_a_missed_bar_is_said_plainly(tmp_path):
    missed = Row(what="latency", figure="60 ms", bar="below 50 ms", holds=False)
    write([missed], data=tmp_path / "performance.json", page=tmp_path / "performance.md")

    assert "**missed**" in (tmp_path / "performance.md").read_text()


def test_the_machine_is_described_without_its_name():
    assert platform.node() not in json.dumps(machine())


def test_of_the_kernel_only_its_number_is_kept():
    assert kernel("6.1.0-13-cloud-amd64") == "6.1.0"
    assert kernel("odd") == ""
