import json
import platform
from dataclasses import asdict

import pytest

from benchmarks import report, scaling
from benchmarks.machine import kernel, machine
from benchmarks.measured import Row, Spread
from benchmarks.report import keep, load, missed, rendered

ROW = Row(
    what="refunds per second",
    figure="11 times",
    bar="at least 10 times",
    holds=True,
    details={"wall clock": Spread(900.0, 800.0, 1000.0, "/s")},
    notes=("A note.",),
    raw=({"side": "refundry", "wall_rate": 900.0},),
)
MISSED = Row(what="latency", figure="60 ms", bar="below 50 ms", holds=False)
PLAIN = Row(what="intake", figure="900/s")


def part(*rows, title="Throughput", cpu="a processor"):
    about = {"cores": 2, "cpu": cpu, "kernel": "Linux 6", "python": "3.11", "sqlite": "3", "packages": {"celery": "5"}}
    return {
        "title": title,
        "how": "How it is measured.",
        "seconds": 5,
        "machine": about,
        "rows": [json.loads(json.dumps(asdict(row))) for row in rows],
    }


def test_one_part_is_merged_into_what_others_have_left(tmp_path):
    data = tmp_path / "performance.json"
    keep("throughput", part(ROW), data)
    keep("latency", part(MISSED), data)
    keep("throughput", part(PLAIN), data)

    assert set(load(data)["parts"]) == {"throughput", "latency"}
    assert load(data)["parts"]["throughput"]["rows"][0]["figure"] == "900/s"


def test_the_page_is_made_of_the_data():
    page = rendered({"parts": {"throughput": part(ROW)}}, ["throughput.svg"])

    assert "| refunds per second | 11 times | at least 10 times | held |" in page
    assert "| wall clock | 900 /s (800 to 1,000) |" in page
    assert "A note." in page
    assert "How it is measured." in page
    assert "(charts/throughput.svg)" in page


def test_a_missed_bar_is_said_plainly():
    parts = {"latency": part(MISSED)}

    assert "**missed**" in rendered({"parts": parts}, [])
    assert missed(parts) == ["latency"]


def test_what_has_no_bar_is_neither_held_nor_missed():
    parts = {"intake": part(PLAIN)}

    assert "| intake |" not in rendered({"parts": parts}, [])
    assert missed(parts) == []


def test_a_chart_that_was_not_drawn_is_not_shown():
    assert "charts/" not in rendered({"parts": {"throughput": part(ROW)}}, [])


def test_parts_measured_on_different_machines_say_so():
    page = rendered({"parts": {"throughput": part(ROW, cpu="one"), "latency": part(MISSED, cpu="another")}}, [])

    assert "throughput: measured on 2 cores (one)" in page
    assert "latency: measured on 2 cores (another)" in page


def test_the_bars_are_printed_at_the_end_and_so_is_what_failed(capsys):
    report.show({"throughput": part(ROW, MISSED)}, {"growth": "Traceback\nRuntimeError: no room"})

    printed = capsys.readouterr().out
    assert "held" in printed
    assert "missed" in printed
    assert "growth failed: RuntimeError: no room" in printed


def test_the_pages_in_the_documentation_are_those_of_the_data():
    kept = load()
    charts = [name for name, *_ in report.PICTURES if (report.CHARTS / name).exists()]

    assert report.PAGE.read_text() == rendered(kept, charts), "make them again: python -m benchmarks.report"
    if scaling.measured(kept):
        assert report.SCALING.read_text() == scaling.rendered(kept), "make them again: python -m benchmarks.report"


def test_the_machine_is_described_without_its_name():
    assert platform.node() not in json.dumps(machine())


@pytest.mark.parametrize(("release", "number"), [("6.1.0-13-cloud-amd64", "6.1.0"), ("odd", "")])
def test_of_the_kernel_only_its_number_is_kept(release, number):
    assert kernel(release) == number
