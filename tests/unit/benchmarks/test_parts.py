import pytest

from benchmarks import __main__ as command
from benchmarks import parts
from benchmarks.measured import Row
from benchmarks.parts import PARTS, Failed, Part, explained, run


def works(*, quick):
    return [Row(what="a thing", figure=f"quick {quick}")]


def breaks(*, quick):
    raise RuntimeError("no room on the disk")


def hangs(*, quick):
    import time

    time.sleep(60)


def test_a_part_is_measured_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setitem(PARTS, "works", Part("Works", works))

    measured = run("works", quick=True)

    assert measured["rows"][0]["figure"] == "quick True"
    assert measured["title"] == "Works"


@pytest.mark.parametrize(
    ("measure", "minutes", "why"), [(breaks, 1, "no room on the disk"), (hangs, 0.001, "not done after")]
)
def test_a_part_that_breaks_or_hangs_has_failed(monkeypatch, measure, minutes, why):
    monkeypatch.setattr(parts, "PATIENCE", 0.1)
    monkeypatch.setitem(PARTS, "ill", Part("Ill", measure, minutes=minutes))

    with pytest.raises(Failed, match=why):
        run("ill", quick=True)


def test_the_others_are_measured_all_the_same(monkeypatch):
    def one(name, *, quick):
        if name == "growth":
            raise Failed("no room on the disk")
        return {"seconds": 1, "rows": []}

    monkeypatch.setattr(command, "run", one)

    measured, failed = command.measure(["growth", "intake"], quick=True)

    assert list(measured) == ["intake"]
    assert failed == {"growth": "no room on the disk"}


def test_the_two_commands_share_the_parts_among_them():
    short, long = command.chosen(full=False), command.chosen(full=True)

    assert short == ["throughput", "latency", "hanging"]
    assert set(short) | set(long) == set(PARTS)
    assert not set(short) & set(long)
    assert {"intake", "http", "reconcile"} <= set(long)


def test_of_a_module_s_words_the_commands_are_left_out():
    assert explained("What.\n\n    python -m it\n\nHow it\nis done.\n\nAnd why.") == "How it is done.\n\nAnd why."
