import zipfile

import pytest

from domain.errors import Refused
from domain.settlement import Notation
from engine import files


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "file.csv"
        path.write_bytes(content)
        return files.rows(path, Notation())

    return write


def test_a_line_without_an_end_is_given_up_with_its_number(written):
    found = written(b"a,b\n1,2\n" + b"x" * (2 * files.MAX_ROW))

    assert [next(found), next(found)] == [(1, ["a", "b"]), (2, ["1", "2"])]
    with pytest.raises(Refused, match=f"line 3: a row of more than {files.MAX_ROW} characters"):
        next(found)


def test_a_row_that_never_ends_is_given_up_however_short_its_lines(written):
    found = written(b"a,b\n" + b'"\n",' * files.MAX_ROW)

    assert next(found) == (1, ["a", "b"])
    with pytest.raises(Refused, match="a row of more than"):
        next(found)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_many_rows_are_no_long_row(written, monkeypatch, end):
    monkeypatch.setattr(files, "MAX_ROW", 9)

    assert list(written(end.join([b"a,b", *[b"1,22"] * 50]))) == [
        (1, ["a", "b"]),
        *((number, ["1", "22"]) for number in range(2, 52)),
    ]


@pytest.mark.parametrize("name", ["xl/sharedStrings.xml", "xl/texts.xml", "t", "xl/worksheets.xml"])
def test_a_large_table_of_texts_is_refused_whatever_its_name(tmp_path, monkeypatch, name):
    monkeypatch.setattr(files, "MAX_STRINGS", 1000)
    path = tmp_path / "file.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", "0" * 2000)
        archive.writestr(name, "0" * 1001)

    with pytest.raises(Refused, match="too many texts"):
        list(files.rows(path, Notation()))
