"""The licences of what the product runs with: the page that lists them, and a refusal of what may not be shipped."""

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "licences.md"
HEAD = """# Licences

<!-- Written by `make reference` from requirements/run-extras.txt; do not edit. -->

What an installation of Refundry brings along with all its extras (`requirements/run-extras.txt`; without them
`requirements/run.txt`, which has less), by the packages' own word. `make check` refuses a package whose licence is not
one of those that `tools/licences.py` allows. Refundry itself: Apache-2.0.

| package | licence |
|---|---|
"""
#: What packages say that may be shipped; LGPL for psycopg alone, which is used unchanged and can be replaced.
ALLOWED = {
    "3-Clause BSD License",
    "Apache Software License",
    "Apache-2.0",
    "BSD License",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC License (ISCL)",
    "LGPL-3.0-only",
    "MIT",
    "MIT License",
    "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)",
    "PSF-2.0",
    "Python Software Foundation License",
}


def main() -> int:
    """1 if a licence is not allowed or not told, or if the page is not up to date."""
    strange = {name: said for name in required() if _installed(name) and not allowed(said := licence(name))}
    faults = [f"{name}: the licence {said!r} is not allowed by tools/licences.py" for name, said in strange.items()]
    if PAGE.read_text() != page():
        faults.append("docs/reference/licences.md is not up to date: make reference")
    sys.stderr.writelines(f"{fault}\n" for fault in faults)

    return 1 if faults else 0


def required(rest: str = "") -> list[str]:
    """The names in the lock whose version and what follows match `rest`."""
    lock = (ROOT / "requirements" / "run-extras.txt").read_text()

    return re.findall(rf"^([a-z0-9][a-z0-9._-]*)=={rest}", lock, re.MULTILINE)


def page() -> str:
    """The page: what every machine gets. What a marker keeps from some is checked where it is installed."""
    everywhere = required(r"\S+ \\$")

    return HEAD + "".join(f"| {name} | {licence(name)} |\n" for name in sorted(everywhere))


def licence(name: str) -> str:
    """What a package says of itself, as short as it says it."""
    about = distribution(name).metadata.json
    if "license_expression" in about:
        return str(about["license_expression"])
    named = [each.rpartition(" :: ")[2] for each in about.get("classifier", ()) if each.startswith("License :: OSI ")]

    return " AND ".join(named) or str(about.get("license", "not told")).splitlines()[0]


def allowed(said: str) -> bool:
    """Whether every part of it may be shipped."""
    parts = re.split(r" AND | OR ", said)

    return all(part.strip() in ALLOWED for part in parts)


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None  # a marker keeps it from this machine


if __name__ == "__main__":
    sys.exit(main())
