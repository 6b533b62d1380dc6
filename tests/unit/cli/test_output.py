import json

import pytest

from cli.output import Format, Printer

ROWS = [{"id": "a", "count": 1, "inner": {"x": None}}, {"id": "-b", "count": 2, "inner": {"x": [1]}}]
COLUMNS = {"Id": lambda row: row["id"], "Count": lambda row: row["count"]}


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        (Format.JSONL, "".join(json.dumps(row) + "\n" for row in ROWS)),
        (Format.CSV, "id,count,inner.x\na,1,\n'-b,2,[1]\n"),
    ],
)
def test_rows_are_written_as_they_come(capsys, chosen, wanted):
    assert Printer(chosen).rows(iter(ROWS), COLUMNS, empty="nothing") == 2

    assert capsys.readouterr().out == wanted


def test_json_is_one_array(capsys):
    Printer(Format.JSON).rows(iter(ROWS), COLUMNS, empty="nothing")

    assert json.loads(capsys.readouterr().out) == ROWS


def test_a_table_has_the_columns_and_no_markup_of_others(capsys):
    Printer(Format.TABLE).rows([{"id": "[red]x[/red]", "count": 1}], COLUMNS, empty="nothing")

    out = capsys.readouterr().out
    assert "[red]x[/red]" in out
    assert "\x1b" not in out


def test_nothing_is_said_in_words_only_to_people(capsys):
    assert Printer(Format.TABLE).rows([], COLUMNS, empty="nothing here") == 0
    assert capsys.readouterr().out == "nothing here\n"

    Printer(Format.JSON).rows([], COLUMNS, empty="nothing here")
    assert capsys.readouterr().out == "[]\n"


def test_colours_are_left_out_where_they_are_not_wanted(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")

    printer = Printer(Format.TABLE)
    printer.console.print("word", style="red")

    assert "\x1b[31" not in capsys.readouterr().out


def test_what_was_done_is_a_sentence_or_its_members(capsys):
    Printer(Format.TABLE).say("a is closed", id="a")
    Printer(Format.JSON).say("a is closed", id="a")

    words, _, document = capsys.readouterr().out.partition("\n")
    assert words == "a is closed"
    assert json.loads(document) == {"id": "a"}
