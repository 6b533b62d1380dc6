"""How PostgreSQL carries out a statement: read as data for a test, and printed for whoever must mend it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class Plan:
    """A plan that was carried out."""

    root: Mapping[str, Any]

    @property
    def nodes(self) -> list[Mapping[str, Any]]:
        return list(_nodes(self.root))

    @property
    def kinds(self) -> set[str]:
        """What is done: `Index Scan`, `Seq Scan`, …"""
        return {node["Node Type"] for node in self.nodes}

    @property
    def indexes(self) -> set[str]:
        """Which indexes are read."""
        return {node["Index Name"] for node in self.nodes if "Index Name" in node}

    @property
    def rows_read(self) -> int:
        """How many rows the scans have looked at, kept or not."""
        return sum(
            int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
            for node in self.nodes
            if node["Node Type"] in {"Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan"}
        )

    def __str__(self) -> str:
        return "\n".join(_lines(self.root, 0))


def explain(connection: Connection, statement: str, parameters: Mapping[str, Any], *, prepared: bool = False) -> Plan:
    """Carry the statement out and tell how; the caller rolls back.

    `prepared`: as a prepared statement that is planned once for all parameters, as drivers come to do by themselves.
    """
    told = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "
    if not prepared:
        (root,) = connection.execute(text(told + statement), dict(parameters)).scalar_one()
        return Plan(root["Plan"])
    names = list(parameters)
    numbered = re.sub(r"(?<!:):([a-z]+)", lambda found: f"${names.index(found[1]) + 1}", statement)
    values = ", ".join(_literal(parameters[name]) for name in names)
    connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
    connection.exec_driver_sql(f"PREPARE explained AS {numbered}")
    try:
        (root,) = connection.exec_driver_sql(f"{told} EXECUTE explained({values})").scalar_one()
    finally:
        connection.exec_driver_sql("DEALLOCATE explained")

    return Plan(root["Plan"])


def _literal(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


def _lines(node: Mapping[str, Any], depth: int) -> Iterator[str]:
    name = node.get("Index Name") or node.get("Relation Name") or ""
    read = node["Shared Hit Blocks"] + node["Shared Read Blocks"]
    yield (
        f"{'  ' * depth}{node['Node Type']} {name}: planned {node['Plan Rows']} rows, "
        f"{node['Actual Rows']:g} x {node['Actual Loops']}, {node.get('Rows Removed by Filter', 0)} thrown away, "
        f"{read} pages, {node['Actual Total Time']:.1f} ms"
    )
    for condition in ("Index Cond", "Filter"):
        if condition in node:
            yield f"{'  ' * depth}    {condition}: {node[condition]}"
    for inner in node.get("Plans", ()):
        yield from _lines(inner, depth + 1)
