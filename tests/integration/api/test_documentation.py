"""Every example of docs/api.md and of examples/, run against a running server."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall((ROOT / "docs" / "api.md").read_text())


@pytest.fixture
def environ(api, name):
    return {**os.environ, "REFUNDRY_API": api.url, "REFUNDRY_KEY": api.key(name)}


def run(command, environ, folder, **options):
    return subprocess.run(
        command, env=environ, cwd=folder, capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_the_page_has_examples_of_both_kinds():
    assert [kind for kind, _ in BLOCKS].count("bash") >= 3
    assert [kind for kind, _ in BLOCKS].count("python") >= 3


def test_every_example_on_the_page_works_in_the_order_of_the_page(environ, tmp_path):
    for kind, block in BLOCKS:
        command = ["bash", "-euo", "pipefail", "-c", block] if kind == "bash" else [sys.executable, "-c", block]
        done = run(command, environ, tmp_path)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        assert kind == "python" or '"object":' in done.stdout or '"status":' in done.stdout


def shop(environ, folder, code):
    """The Django shop with its tables, and what the test does with it."""
    begin = (
        "import httpx, os, sys; sys.path.insert(0, os.environ['EXAMPLES'])\nfrom django_shop import *\nmake_tables()\n"
    )
    end = "print(json.dumps([[each.number, each.refund, each.problem] for each in Return.objects.order_by('id')]))"
    environ = {**environ, "EXAMPLES": str(ROOT / "examples"), "DATABASE": str(folder / "shop.db")}
    headers = "{'Authorization': 'Bearer ' + os.environ['REFUNDRY_KEY']}"
    client = f"client = httpx.Client(base_url=os.environ['REFUNDRY_API'], headers={headers})\n"
    done = run([sys.executable, "-c", f"import json\n{begin}{client}{code}\n{end}"], environ, folder)
    assert done.returncode == 0, done.stderr

    return json.loads(done.stdout.splitlines()[-1])


def test_the_django_shop_loses_no_refund_and_makes_none_twice(api, client, environ, name, tmp_path):
    away = {**environ, "REFUNDRY_API": "http://127.0.0.1:1"}
    accept = f"accept_return('{name}', payment='P-{name}', paid=2100, amount=1000)"
    [[number, refund, problem]] = shop(away, tmp_path, f"{accept}\nassert relay(client) == 1")
    assert (number, refund, problem) == (name, "", "")

    # It was sent, and the shop died before it could note the answer.
    shop(environ, tmp_path, "ask(client, Outbox.objects.get().job)")
    [[_, refund, problem]] = shop(environ, tmp_path, "assert relay(client) == 0")
    found = client.get("/v1/refunds", params={"reference": name}).json()["data"]
    assert [each["id"] for each in found] == [refund]

    too_much = f"accept_return('{name}-2', payment='P-{name}', paid=2100, amount=1101)\nassert relay(client) == 0"
    _, [_, refund, problem] = shop(environ, tmp_path, too_much)
    assert refund == ""
    assert "amount-exceeds-refundable" in problem


def test_the_django_shop_runs_as_its_first_lines_say(environ, tmp_path):
    environ = {**environ, "DATABASE": str(tmp_path / "shop.db")}
    done = run([sys.executable, str(ROOT / "examples" / "django_shop.py")], environ, tmp_path)

    assert re.fullmatch(r"RMA-\d+ rf_\w+\n", done.stdout), done.stderr


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node on this machine")
def test_the_node_shops_relay_keeps_what_was_not_answered(client, environ, name, tmp_path):
    script = f"""
      import {{ acceptReturn, relay }} from "{ROOT / "examples" / "node_shop.mjs"}";
      const rows = [], told = [];
      const query = async (sql, given) => {{ if (sql.includes("outbox")) rows.push({{ job: JSON.parse(given[0]) }}); }};
      const pool = {{ connect: async () => ({{ query, release: () => {{}} }}) }};
      const outbox = {{
        waiting: async () => [...rows],
        done: async (row, answer) => {{ rows.splice(rows.indexOf(row), 1); told.push(answer); }},
      }};
      const key = process.env.REFUNDRY_KEY, url = process.env.REFUNDRY_API;
      await acceptReturn(pool, "{name}", {{ payment: "P-{name}", paid: 2100, amount: 1000 }});
      const away = await relay(outbox, {{ url: "http://127.0.0.1:1", key }});
      const kept = rows.length;
      await acceptReturn(pool, "{name}-2", {{ payment: "P-{name}", paid: 2100, amount: 5000 }});
      const done = await relay(outbox, {{ url, key }});
      console.log(JSON.stringify({{ away, kept, done, left: rows.length, told }}));
    """
    path = tmp_path / "test.mjs"
    path.write_text(script)
    ran = run(["node", str(path)], environ, tmp_path)
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)

    assert (result["away"], result["kept"], result["done"], result["left"]) == (False, 1, True, 0)
    [found] = client.get("/v1/refunds", params={"reference": name}).json()["data"]
    assert result["told"][0] == {"refund": found["id"]}
    assert json.loads(result["told"][1]["problem"])["code"] == "amount-exceeds-refundable"
