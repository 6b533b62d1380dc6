"""Settings written as TOML, for `up --sandbox` and `demo`."""

import json
from collections.abc import Iterator, Mapping
from typing import Any


def dumps(tree: Mapping[str, Any]) -> str:
    """A tree of tables, texts, numbers, booleans and lists as TOML."""
    return "\n".join(_tables(tree, ())) + "\n"


def _tables(tree: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Plain values first: whatever follows a table's head belongs to it."""
    plain = {key: value for key, value in tree.items() if not isinstance(value, Mapping)}
    if path and (plain or not tree):
        yield f"[{'.'.join(map(_key, path))}]"
    for key, value in plain.items():
        if value is not None:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _tables(value, (*path, key))


def _key(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def _value(value: Any) -> str:
    # A JSON text, number, boolean or list of these is written the same way in TOML.
    return json.dumps(value, ensure_ascii=False)
