"""What each person prefers to see on their own screens."""

from sqlalchemy import Connection, delete, insert, select

from ledger.models import preference


def get(connection: Connection, owner: str) -> dict[str, str]:
    """By name, what somebody has chosen."""
    query = select(preference.c.name, preference.c.value).where(preference.c.owner == owner)

    return {row.name: row.value for row in connection.execute(query)}


def put(connection: Connection, owner: str, chosen: dict[str, str]) -> None:
    """Keep a choice in place of what was chosen under the same names; an empty one is the default again."""
    connection.execute(delete(preference).where(preference.c.owner == owner, preference.c.name.in_(chosen)))
    rows = [{"owner": owner, "name": name, "value": value} for name, value in chosen.items() if value]
    if rows:
        connection.execute(insert(preference), rows)
