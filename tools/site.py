"""Look through the built site, `python -m tools.site FOLDER`: links lead somewhere, nothing comes from elsewhere."""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: What a browser fetches by itself.
LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}


class Page(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One element."""
        for name, value in attrs:
            if value is None:
                continue
            if name == "id":
                self.anchors.add(value)
            if (tag, name) == ("a", "href"):
                self.links.append(value)
            if (tag, name) in LOADED:
                self.loads.append(value)


def faults(site: Path) -> Iterator[str]:
    """Every link that leads nowhere and everything that is loaded from another host."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    for path, page in pages.items():
        where = path.relative_to(site.resolve())
        yield from (f"{where}: loads {load}" for load in page.loads if urlsplit(load).netloc)
        yield from (f"{where}: {link} leads nowhere" for link in page.links if not _leads(path, link, pages))


def _leads(path: Path, link: str, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not parts.fragment or target not in pages:
        return target.exists()

    return unquote(parts.fragment) in pages[target].anchors


def main() -> int:
    """1 if anything is wrong."""
    found = list(faults(Path(sys.argv[1])))
    sys.stderr.writelines(f"{fault}\n" for fault in found)

    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
