"""With what code, which packages and on which machines the runs ran."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atbptt.runs import reason
from atbptt.runs.schema import ENVIRONMENT

MACHINE = ("system", "processor", "cores", "memory_gib", "gpus", "cuda")  # what makes two machines alike
_Facts = tuple[tuple[str, str], ...]
_Version = tuple[tuple[tuple[str, bool], ...], str, _Facts]


@dataclass(frozen=True)
class Software:
    """A version of code, Python and packages: how many runs ran with it."""

    runs: int
    code: tuple[tuple[str, bool], ...]  # commits, and whether files differ from them
    python: str
    packages: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Machine:
    """A kind of machine: how many runs ran on one, and which there were."""

    runs: int
    hosts: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Environment:
    """All that runs ran with; a run that was continued elsewhere counts in each.

    `packages` has the packages whose version differs: the version in each of `software`, `-` where there is none.
    """

    software: tuple[Software, ...]
    machines: tuple[Machine, ...]
    packages: tuple[tuple[str, tuple[str, ...]], ...]
    missing: int  # runs that stored none
    problems: tuple[str, ...]


@dataclass
class _Kind:
    runs: int = 0
    hosts: set[str] = field(default_factory=set)


def environment(directories: Iterable[Path]) -> Environment:
    """What the runs in these directories stored about where they ran, the most frequent first.

    A directory without such a file is counted; a file that cannot be read is a line in `problems`.
    """
    software: dict[_Version, int] = {}
    machines: dict[_Facts, _Kind] = {}
    problems, missing = [], 0
    for directory in directories:
        path = directory / ENVIRONMENT
        try:
            attempts = json.loads(path.read_bytes())["attempts"]
            found = [(_software(attempt), _machine(attempt), str(attempt["machine"]["host"])) for attempt in attempts]
        except FileNotFoundError:
            missing += 1
            continue
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            why = f"lacks {error}" if isinstance(error, KeyError) else reason(error)
            problems.append(f"{path}: {why}; environment unknown")
            continue
        for version in dict.fromkeys(version for version, _, _ in found):
            software[version] = software.get(version, 0) + 1
        for kind in dict.fromkeys(kind for _, kind, _ in found):
            machines.setdefault(kind, _Kind()).runs += 1
        for _, kind, host in found:
            machines[kind].hosts.add(host)
    versions = sorted((Software(runs, *own) for own, runs in software.items()), key=lambda own: (-own.runs, own.code))
    kinds = sorted(
        (Machine(kind.runs, tuple(sorted(kind.hosts)), facts) for facts, kind in machines.items()),
        key=lambda kind: (-kind.runs, kind.hosts),
    )
    return Environment(tuple(versions), tuple(kinds), _differing(versions), missing, tuple(problems))


def _software(attempt: dict[str, Any]) -> _Version:
    code = attempt["code"]
    repositories = code["repositories"]
    commits = tuple((str(part["commit"]), bool(part["dirty"])) for part in repositories)
    packages = tuple((str(name), str(version)) for name, version in code["packages"].items())
    return commits, str(code["python"]), packages


def _machine(attempt: dict[str, Any]) -> _Facts:
    found = attempt["machine"]
    return tuple((name.replace("_gib", " (GiB)"), _fact(found.get(name))) for name in MACHINE)


def _fact(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _differing(versions: list[Software]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    known = [dict(own.packages) for own in versions]
    names = sorted({name for packages in known for name in packages}, key=str.lower)
    rows = [(name, tuple(packages.get(name, "-") for packages in known)) for name in names]
    return tuple(row for row in rows if len(set(row[1])) > 1)
