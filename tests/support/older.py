"""The program as it stood before the newest migration, out of the repository's own history."""

import subprocess
import sys
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from tests.support.stack import ROOT

# Migrations between two releases, at most; what lies further back is no release before this one.
NEAR = 5


def unpack(folder: Path) -> bool:
    """Put it there; False where the history does not have it: an archive, a shallow or a squashed clone."""
    config = Config()
    config.set_main_option("script_location", "ledger:migrations")
    newest, *before = ScriptDirectory.from_config(config).walk_revisions()
    added = _git("log", "-m", "--first-parent", "--diff-filter=A", "--format=%H", "-1", "--", newest.path)
    commit = _git("rev-parse", "--verify", "--quiet", f"{added}^" if added else "HEAD")
    if not commit:
        return False
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit], check=True, capture_output=True)
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)

    return any((folder / "ledger/migrations/versions" / Path(each.path).name).exists() for each in before[:NEAR])


def migrate(program: Path, database_url: str, folder: Path) -> None:
    """Make that program's ledger."""
    command = [sys.executable, "-c", f"from ledger.migrate import upgrade; upgrade({database_url!r})"]
    subprocess.run(command, check=True, cwd=folder, env={"PYTHONPATH": str(program)})


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)

    return done.stdout.strip() if done.returncode == 0 else ""
