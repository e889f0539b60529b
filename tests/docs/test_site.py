"""The built site: nothing is missing, links lead somewhere, and it needs no network.

`mkdocs build --strict` itself reports pages that are not in the navigation and broken links between pages.
"""

import inspect
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import atbptt

LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
# The first is for a server, where links have another root; the second is a report, which is not built here.
NOT_OURS = ("404.html", "example/report.html")


class Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.tags: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.ids.update(value for name in ("id", "name") if (value := found.get(name)))
        if (url := found.get(LOADING.get(tag, ""))) is not None:
            self.loaded.append(url)
        if tag == "a" and (url := found.get("href")) is not None:
            self.links.append(url)


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if path.relative_to(site).as_posix() not in NOT_OURS}


def words(html: str) -> str:
    return re.sub(r"<[^>]+>", " ", html)


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    assert [(path.name, url) for path, page in pages.items() for url in page.loaded if urlsplit(url).netloc] == []
    outside = re.compile(r"url\(['\"]?(?:https?:)?//|@import")
    assert [path.name for path in site.rglob("*.css") if outside.search(path.read_text())] == []


def test_links_lead_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    dead = []
    for path, page in pages.items():
        for url in page.links + page.loaded:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages.get(target)
            named = parts.fragment in ("", "__tabbed") or known is None or unquote(parts.fragment) in known.ids
            if not target.is_file() or not target.is_relative_to(site) or not named:
                dead.append((path.relative_to(site).as_posix(), url))
    assert dead == []


def test_equations_are_mathml(site: Path, pages: dict[Path, Page]) -> None:
    assert pages[site / "definitions.html"].tags.count("math") > 40
    for path in pages:
        text = path.read_text()
        assert "arithmatex" not in text, path
        assert "$$" not in re.sub(r"<(pre|code)\b.*?</\1>", "", text, flags=re.DOTALL), path


def test_linked_files_of_the_repository_are_pages(site: Path, pages: dict[Path, Page]) -> None:
    source = "source/atbptt/truncation/fixed.py.html"
    assert f"../{source}" in pages[site / "policies" / "fixed.html"].links
    assert re.search(r"class\s+Fixed", words((site / source).read_text()))
    assert (site / "source" / "analysis" / "notebooks" / "tour_of_a_sweep.ipynb").is_file()


def test_the_reference_has_every_name_with_its_arguments_and_nothing_internal(site: Path) -> None:
    html = (site / "reference.html").read_text()
    text = words(html)
    for unwanted in ("inputs, targets", "Arguments:", "StreamWindow("):  # each argument has an entry in a table
        assert unwanted not in text
    parts = re.split(r'<h[234] id="([^"]+)"', html)
    entries = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert {"atbptt.Policy.update", "atbptt.StreamWindow.loss"} <= entries.keys()
    assert not [name for name in entries if re.fullmatch(r"atbptt\.(?!Policy)\w+\.(update|cut_probabilities)", name)]
    for name in atbptt.__all__:
        entry = entries["atbptt.probes.measurement.probe" if name == "probe" else f"atbptt.{name}"]
        found = getattr(atbptt, name)
        if callable(found) and name not in ("Policy", "StreamWindow"):  # a protocol; not for users to make
            explained = words(re.sub(r'<div class="[^"]*\bdoc-signature\b.*?</div>', "", entry, flags=re.DOTALL))
            for argument in inspect.signature(found).parameters:
                assert re.search(rf"\b{argument}\b", explained), (name, argument)


def test_the_figure_of_the_schemes_is_current(root: Path) -> None:
    drawn = runpy.run_path(str(root / "docs" / "theme" / "schemes.py"))["draw"]()
    assert (root / "docs" / "schemes.svg").read_text() == drawn
