"""The built site: complete, without dead links, and in need of no network."""

from __future__ import annotations

import inspect
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import atbptt
from tests.docs.building import build

LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class Page(HTMLParser):
    """What a page loads, where it leads, and what in it can be led to."""

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
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(root, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    folders = {
        Path("404.html"),
        Path("example/report.html"),
    }  # a server's, whose links have another root; not ours to build
    found = sorted(path for path in site.rglob("*.html") if path.relative_to(site) not in folders)
    return {path: Page(path) for path in found}


def test_every_page_of_the_navigation_is_there(site: Path, root: Path) -> None:
    nav = (root / "mkdocs.yml").read_text().partition("\nnav:")[2].partition("\ntheme:")[0]
    named = re.findall(r"[\w/]+\.md", nav)
    assert "index.md" in named
    assert [name for name in named if not (site / name).with_suffix(".html").is_file()] == []
    assert (site / "metrics" / "index.html").is_file()


def test_every_page_is_in_the_navigation(site: Path, root: Path, pages: dict[Path, Page]) -> None:
    nav = {urlsplit(link).path for link in pages[site / "index.html"].links}
    written = {
        path.relative_to(root / "docs").with_suffix(".html").as_posix() for path in (root / "docs").rglob("*.md")
    }
    assert written - nav - {"example/table.html"} == set()


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    assert [(path.name, url) for path, page in pages.items() for url in page.loaded if urlsplit(url).netloc] == []
    styles = [(path, path.read_text()) for path in site.rglob("*.css")]
    assert len(styles) > 1
    outside = r"url\(['\"]?(?:https?:)?//|@import"
    assert [path.name for path, text in styles if re.search(outside, text)] == []


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
    concepts = pages[site / "definitions.html"]
    assert concepts.tags.count("math") > 40
    for path in pages:
        text = path.read_text()
        assert "arithmatex" not in text, path
        assert "$$" not in re.sub(r"<(pre|code)\b.*?</\1>", "", text, flags=re.DOTALL), path


def test_files_of_the_repository_are_pages(site: Path) -> None:
    text = (site / "source" / "atbptt" / "windows" / "schemes.py.html").read_text()
    assert "TBPTT(k1, k2)" in re.sub(r"<[^>]+>", "", text)
    assert 'href="source/atbptt/windows/schemes.py.html"' in (site / "definitions.html").read_text()
    assert (site / "source" / "analysis" / "notebooks" / "tour_of_a_sweep.ipynb").is_file()


def test_the_reference_has_every_name_and_its_arguments(site: Path) -> None:
    html = (site / "reference.html").read_text()
    text = words(html)
    assert "inputs, targets" not in text  # an entry each
    assert "Arguments:" not in text  # else a section was not read as one
    parts = re.split(r'<h[23] id="([^"]+)"', html)
    entries = dict(zip(parts[1::2], parts[2::2], strict=True))
    missing = []
    for name in atbptt.__all__:
        entry = entries["atbptt.probes.measurement.probe" if name == "probe" else f"atbptt.{name}"]
        found = getattr(atbptt, name)
        if callable(found) and name not in ("Policy", "StreamWindow"):  # a protocol; not for users to make
            explained = words(re.sub(r'<div class="[^"]*\bdoc-signature\b.*?</div>', "", entry, flags=re.DOTALL))
            names = inspect.signature(found).parameters
            missing += [(name, each) for each in names if not re.search(rf"\b{each}\b", explained)]
    assert missing == []


def words(html: str) -> str:
    return re.sub(r"<[^>]+>", " ", html)


def test_the_reference_shows_nothing_internal(site: Path, pages: dict[Path, Page]) -> None:
    ids = pages[site / "reference.html"].ids
    assert {"atbptt.Policy.update", "atbptt.StreamWindow.loss"} <= ids
    policies = ("Fixed", "Adaptive", "Variable", "Randomized", "Warmup", "Full")
    hidden = {f"atbptt.{policy}.{name}" for policy in policies for name in ("update", "cut_probabilities")}
    assert hidden & ids == set()
    assert "StreamWindow(" not in words((site / "reference.html").read_text())


def test_the_figure_of_the_schemes_is_what_the_code_cuts(root: Path) -> None:
    drawn = runpy.run_path(str(root / "docs" / "theme" / "schemes.py"))["draw"]()
    assert (root / "docs" / "schemes.svg").read_text() == drawn
