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
    words = f"upgraded from {before or 'nothing'} to {after}" if before != after else _standing(after)
    session.out.say(words, before=before, current=after, head=migrate.head())


@command(app, "current")
def show_current(session: Session) -> None:
    """Show which schema the database has, and which this program wants."""
    found, wanted = migrate.current(session.settings.database.url), migrate.head()
    words = wanted if found == wanted else _standing(found)
    session.out.say(words, current=found, head=wanted, up_to_date=found == wanted)


def _standing(found: str | None) -> str:
    match migrate.fits(found):
        case migrate.Fit.CURRENT:
            return f"up to date at {found}"
        case migrate.Fit.AHEAD:
            return f"{found}, of a newer program than this one, which has {migrate.head()}"
        case _:
            return f"{found or 'no schema yet'}: {migrate.head()} is wanted, run `refundry db upgrade`"
