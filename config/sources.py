"""Where settings come from: the file, and the environment, which wins over it."""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

PREFIX = "REFUNDRY_"
#: Names without a section that stand for a setting.
SHORT_NAMES = {
    "REFUNDRY_DATABASE_URL": ("database", "url"),
    "REFUNDRY_REDIS_URL": ("redis", "url"),
    "REFUNDRY_ENCRYPTION_KEYS": ("security", "encryption_keys"),
    "REFUNDRY_INDEX_KEY": ("security", "index_key"),
}
#: Names of ours that are no settings.
OTHER_NAMES = {"REFUNDRY_CONFIG", "REFUNDRY_ACTOR"}
#: Kubernetes puts these into every pod beside a service called `refundry`.
_SERVICE_LINK = re.compile(r"REFUNDRY(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?)")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Stands in for a value whose variable or file is missing, so that it is a fault only if it is used."""

    reason: str


class GivenSource(PydanticBaseSettingsSource):
    """A tree of settings that has been read already."""

    def __init__(self, settings: type[BaseSettings], tree: Tree) -> None:
        super().__init__(settings)
        self._tree = tree

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """One top-level value, as pydantic-settings asks for it."""
        return self._tree.get(field_name), field_name, False

    def __call__(self) -> Tree:
        """The tree."""
        return self._tree


def settings_file(environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The file that REFUNDRY_CONFIG names, else `refundry.toml` of the working directory if it is there."""
    named = environ.get("REFUNDRY_CONFIG")
    if named:
        return cwd / named
    found = cwd / "refundry.toml"
    return found if found.exists() else None


def read_file(path: Path | None, environ: Mapping[str, str]) -> Tree:
    """The file as a tree with its references resolved; ValueError if it cannot be read, is no TOML or is too deep."""
    if path is None:
        return {}
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
        return {key: _resolved(value, environ, path.parent) for key, value in tree.items()}
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # TOML and UTF-8 faults alike
        raise ValueError(f"{path}: is not valid TOML: {error}") from error
    except RecursionError:
        raise ValueError(f"{path}: is nested too deeply") from None


def read_environment(environ: Mapping[str, str], cwd: Path, accounts: Iterable[str]) -> Tree:
    """The settings named in the environment as a tree.

    `accounts` are the accounts of the file: in a variable a dash of their names is written as an underscore.
    ValueError if a list or a table in a variable is nested too deeply to be read.
    """
    tree: Tree = {}
    names = {name.replace("-", "_"): name for name in accounts}
    for variable in sorted(environ):
        if not _is_setting(variable):
            continue
        try:
            value = _parsed(resolve(environ[variable], environ, cwd))
        except RecursionError:
            raise ValueError(f"{variable}: is nested too deeply") from None
        _put(tree, _path(variable, names), value)
    return tree


def resolve(value: object, environ: Mapping[str, str], folder: Path) -> object:
    """The value with `${NAME}` and a leading `file:` or `vault:` replaced by what they name; anything else as it is."""
    if not isinstance(value, str):
        return value
    missing = [name for name in _REFERENCE.findall(value) if name not in environ]
    if missing:
        return Unresolved(f"the environment variable {missing[0]}, which it names, to be set")
    text = _REFERENCE.sub(lambda match: environ[match[1]], value)
    if value.startswith("vault:"):
        from config import vault  # noqa: PLC0415 - it brings an HTTP client

        return vault.read(text, environ)
    return _content(folder / text.removeprefix("file:")) if value.startswith("file:") else text


def unresolved(value: object) -> list[Unresolved]:
    """Every missing reference inside a value."""
    if isinstance(value, Unresolved):
        return [value]
    return [missing for item in _items(value) for missing in unresolved(item)]


def _content(path: Path) -> object:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError):
        return Unresolved(f"the file {path}, which it names, to be readable")


def _resolved(tree: Any, environ: Mapping[str, str], folder: Path) -> Any:
    def again(item: Any) -> Any:
        return _resolved(item, environ, folder)

    return _mapped(again, tree) if isinstance(tree, dict | list) else resolve(tree, environ, folder)


def _mapped(change: Callable[[Any], Any], tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: change(item) for key, item in tree.items()}
    return [change(item) for item in tree]


def _items(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _is_setting(variable: str) -> bool:
    ours = variable.startswith(PREFIX) and variable not in OTHER_NAMES
    return ours and _SERVICE_LINK.fullmatch(variable) is None


def _path(variable: str, accounts: Mapping[str, str]) -> tuple[str, ...]:
    if variable in SHORT_NAMES:
        return SHORT_NAMES[variable]
    path = variable.removeprefix(PREFIX).lower().split("__")
    if path[0] == "accounts" and len(path) > 1:
        path[1] = accounts.get(path[1].replace("-", "_"), path[1])
    return tuple(path)


def _put(tree: Tree, path: tuple[str, ...], value: object) -> None:
    *parents, last = path
    for key in parents:
        inner = tree.get(key)
        tree[key] = tree = inner if isinstance(inner, dict) else {}
    tree[last] = value


def _parsed(value: object) -> object:
    """A list or a table is written as JSON in a variable."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
