"""A ledger that may forget is no ledger: nothing starts on it, and doctor says why."""

import json

from cli import main
from ledger.migrate import upgrade
from tests.support.settings import ENCRYPTION_KEY, INDEX_KEY


def test_nothing_starts_on_a_server_that_may_forget(own_postgres, tmp_path, monkeypatch, capsys):
    url = own_postgres.databases.create()
    upgrade(url)
    settings = f"""
[database]
url = "{url}"
[redis]
url = "redis://127.0.0.1:1/0"
[security]
encryption_keys = ["{ENCRYPTION_KEY}"]
index_key = "{INDEX_KEY}"
"""
    (tmp_path / "refundry.toml").write_text(settings)
    monkeypatch.chdir(tmp_path)
    assert main.run(["refunds", "list"]) == 0

    with own_postgres.databases.connect() as connection:
        connection.execute("ALTER SYSTEM SET full_page_writes = off")
    own_postgres.restart()
    capsys.readouterr()

    for command in (["refunds", "list"], ["worker"], ["api"], ["console"]):
        assert main.run(command) == 2, command
    assert "full_page_writes is off" in capsys.readouterr().err
    main.run(["doctor", "-o", "json"])
    (found,) = [each for each in json.loads(capsys.readouterr().out) if each["what"] == "durability"]
    assert found["grade"] == "unhealthy"
