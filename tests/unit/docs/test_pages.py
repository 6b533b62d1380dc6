import ast
import os
import re
import tomllib
from pathlib import Path

import pytest

from config.celery import QUEUES, ROUTES
from domain.decision import Cause
from tools import licences, reference

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
CAUSES = DOCS / "handbook" / "dead-letters"
COMMAND = re.compile(r"(?:^(?:[$#] )?|`)(?:REFUNDRY_\S+ )*refundry ([a-z][^`#|<>\n]*)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def headings(page):
    return set(re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE))


def anchors(page):
    """As the site makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def nav(part):
    for each in part:
        for value in each.values() if isinstance(each, dict) else [each]:
            yield from nav(value) if isinstance(value, list) else [value]


@pytest.mark.parametrize("name", reference.pages())
def test_what_is_written_from_the_code_is_up_to_date(name):
    assert (reference.FOLDER / name).read_text() == reference.pages()[name], "make reference"


def test_every_cause_of_a_dead_letter_has_its_page():
    written = {path.stem for path in CAUSES.glob("*.md")} - {"index", "rejected"}

    assert written == set(Cause)
    for cause in Cause:
        page = CAUSES / f"{cause}.md"
        assert f"]({cause}.md)" in (CAUSES / "index.md").read_text()
        assert page.read_text().startswith(f"# `{cause}`\n")
        assert headings(page) == {"What to do", "So that it does not come back"}


def findings():
    """The names under which doctor reports, as the code has them."""
    for module in ("engine/health.py", "cli/status.py"):
        for node in ast.walk(ast.parse((ROOT / module).read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding":
                first = node.args[0]
                yield first.value if isinstance(first, ast.Constant) else f"{first.values[0].value}NAME"


def test_every_check_of_doctor_is_explained():
    explained = {name.removeprefix("doctor: `").removesuffix("`") for name in headings(DOCS / "handbook" / "checks.md")}

    assert {name for name in explained if not name.startswith("status: ")} == set(findings())


def test_every_queue_and_task_is_named():
    page = (DOCS / "celery.md").read_text()

    assert all(f"| `{queue}` |" in page for queue in QUEUES)
    assert all(f"`{task}`" in page for task in ROUTES)


def test_every_page_is_in_the_navigation_and_none_is_missing():
    told = list(nav(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))

    assert len(told) == len(set(told))
    assert set(told) == {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}


def test_every_link_leads_somewhere():
    for page in [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]:
        for link in LINK.findall(re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)):
            target, _, anchor = link.partition("#")
            if "://" in link or link.startswith("mailto:"):
                continue
            found = Path(os.path.normpath(page.parent / target)) if target else page
            assert found.exists(), f"{page.name}: {link}"
            assert not anchor or anchor in anchors(found), f"{page.name}: {link}"
            assert page.parent == ROOT or found.is_relative_to(DOCS), f"{page.name}: {link} leaves the site"


def test_no_page_asks_for_a_command_or_an_option_that_is_not_there():
    from typer.main import get_command

    from cli.main import app

    for page in [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]:
        for line in COMMAND.findall(page.read_text()):
            command, words = get_command(app), line.split()
            while words and words[0].isalpha() and (subcommands := getattr(command, "commands", None)):
                assert words[0] in subcommands, f"{page.name}: refundry {line}"
                command = subcommands[words.pop(0)]
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            assert {word for word in words if word.startswith("--")} <= known, f"{page.name}: refundry {line}"


@pytest.mark.parametrize(
    ("said", "fits"),
    [("MIT", True), ("Apache-2.0 OR BSD-3-Clause", True), ("MIT AND GPL-3.0-only", False), ("not told", False)],
)
def test_a_licence_is_allowed_as_a_whole_or_not(said, fits):
    assert licences.allowed(said) is fits
