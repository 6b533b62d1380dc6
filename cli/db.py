"""`refundry db`: the schema of the ledger."""

from cli.command import command, group
from cli.session import Session
from ledger import migrate

app = group("The ledger's database schema.")


@command(app, "upgrade")
def upgrade_database(session: Session) -> None:
    """Bring the database to the newest schema; harmless when it is there already."""
    url = session.settings.database.url
    before = migrate.current(url)
    migrate.upgrade(url)
    after = migrate.current(url)
    words = f"upgraded from {before or 'nothing'} to {after}" if before != after else f"up to date at {after}"
    session.out.say(words, before=before, current=after, head=migrate.head())


@command(app, "current")
def show_current(session: Session) -> None:
    """Show which schema the database has, and which this program wants."""
    found, wanted = migrate.current(session.settings.database.url), migrate.head()
    words = f"{found or 'no schema yet'}{'' if found == wanted else f': {wanted} is wanted, run `refundry db upgrade`'}"
    session.out.say(words, current=found, head=wanted, up_to_date=found == wanted)
