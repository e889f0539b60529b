"""Turns links to files outside docs/, which work in the repository, into links to pages that show these files.

The pages are generated under `source/`; a folder becomes a list of its content.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

log = logging.getLogger("mkdocs.hooks.links")
HOME = "source/"  # folder of the generated pages
LINK = re.compile(r"(?P<code>`+[^`]*`+)|\]\((?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")
FENCE = re.compile(r" *(`{3,}|~{3,})")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".sh": "bash", ".json": "json"}
TEXT = {*LANGUAGES, ".txt", ".md", ""}
HIDDEN = ("__pycache__",)


def on_files(files: Files, config: Any) -> Files:
    """Make pages of all files and folders that pages link to, and of those that the new pages link to."""
    root, docs = _folders(config)
    waiting = [(_origin(file, docs), file.content_string) for file in files.documentation_pages()]
    made: set[str] = set()
    while waiting:
        origin, text = waiting.pop()
        for target in _targets(text, origin):
            uri = _page_of(target, root, docs)
            if uri is None or uri in made or not uri.startswith(HOME):
                continue
            made.add(uri)
            path = root / target
            if path.is_file() and path.suffix not in TEXT:
                files.append(File.generated(config, uri, abs_src_path=str(path)))
                continue
            content = _content(path, target)
            files.append(File.generated(config, uri, content=content, inclusion=InclusionLevel.NOT_IN_NAV))
            if path.is_dir() or path.suffix == ".md":
                waiting.append((target, content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Replace links to files of the repository by links to their pages."""
    root, docs = _folders(config)
    origin = _origin(page.file, docs)

    def turned(found: re.Match[str]) -> str:
        if found["code"]:
            return found[0]
        target = _resolved(found["path"], origin)
        uri = _page_of(target, root, docs)
        if uri is None and page.file.src_uri.startswith(HOME) and target.startswith(docs):
            uri = target.removeprefix(docs)
        if uri is None:
            return found[0]
        anchor = found["anchor"] or "" if target.endswith(".md") else ""
        return f"]({posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or '.')}{anchor})"

    return _outside_fences(markdown, lambda line: LINK.sub(turned, line))


def _folders(config: Any) -> tuple[Path, str]:
    root = Path(config.config_file_path).parent
    return root, f"{Path(config.docs_dir).relative_to(root).as_posix()}/"


def _origin(file: File, docs: str) -> str:
    """The path in the repository of the file that a page shows."""
    if not file.src_uri.startswith(HOME):
        return docs + file.src_uri
    path = file.src_uri.removeprefix(HOME)
    return path if path == "README.md" else path.removesuffix(".md")


def _resolved(link: str, origin: str) -> str:
    folder = origin if origin and not posixpath.splitext(origin)[1] else posixpath.dirname(origin)
    return posixpath.normpath(posixpath.join(folder, link))


def _page_of(target: str, root: Path, docs: str) -> str | None:
    """The page of a file or folder of the repository; None for a file in docs/ and for a missing one."""
    path = root / target
    if target.startswith("..") or not path.exists() or (target.startswith(docs) and path.is_file()):
        return None
    if target.startswith(docs) and (path / "index.md").is_file():
        return f"{target.removeprefix(docs)}/index.md"
    keeps_its_name = path.is_file() and (path.suffix == ".md" or path.suffix not in TEXT)
    return f"{HOME}{target}" if keeps_its_name else f"{HOME}{target}.md"


def _targets(text: str, origin: str) -> Iterator[str]:
    found: list[str] = []

    def noted(match: re.Match[str]) -> str:
        if match["path"]:
            found.append(_resolved(match["path"], origin))
        return match[0]

    _outside_fences(text, lambda line: LINK.sub(noted, line))
    yield from found


def _outside_fences(text: str, change: Callable[[str], str]) -> str:
    lines, fence = [], None
    for line in text.split("\n"):
        mark = FENCE.match(line)
        if fence is None and mark:
            fence = mark[1]
        elif fence is not None and mark and mark[1].startswith(fence) and line.strip() == mark[1]:
            fence = None
        elif fence is None:
            line = change(line)
        lines.append(line)
    return "\n".join(lines)


def _content(path: Path, target: str) -> str:
    """The page of a file or a folder; it is excluded from the search."""
    header = f"---\nsearch:\n  exclude: true\ntitle: {target}\n---\n"
    if path.suffix == ".md":
        return header + path.read_text()
    header += f"# {target}\n\n"
    if path.is_dir():
        names = [f"{each.name}/" if each.is_dir() else each.name for each in sorted(path.iterdir())]
        shown = [name for name in names if not name.startswith(".") and name.rstrip("/") not in HIDDEN]
        return header + "\n".join(f"- [{name}]({name.rstrip('/')})" for name in shown) + "\n"
    fence = "`" * 8
    return f"{header}{fence}{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text().rstrip()}\n{fence}\n"
