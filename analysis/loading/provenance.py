"""With which code and packages, and on which machines, the runs ran."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from atbptt.errors import printable
from atbptt.runs import reason
from atbptt.runs.schema import ENVIRONMENT
from atbptt.system import read_json

SOFTWARE = ["code", "python", "packages"]
FACTS = ("system", "processor", "cores", "memory_gib", "gpus", "cuda")  # machines with equal facts are of one kind


def environment(directories: Iterable[Path]) -> dict[str, Any]:
    """The software and machines of some runs, the most frequent first; a continued run counts in each place.

    `packages` are those whose version differs, with a version for each of `software`; `missing` counts runs that
    stored no environment; `problems` has a line for each file that cannot be read.
    """
    rows: list[tuple[Any, ...]] = []
    problems, missing = [], 0
    for directory in directories:
        path = directory / ENVIRONMENT
        try:
            attempts = read_json(path)["attempts"]
            rows += [(str(directory), *_row(attempt["code"], attempt["machine"])) for attempt in attempts]
        except FileNotFoundError:
            missing += 1
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            why = f"lacks {error}" if isinstance(error, KeyError) else reason(error)
            problems.append(f"{path}: {why}; environment unknown")
    frame = pd.DataFrame(rows, columns=["run", *SOFTWARE, "host", "facts"])
    runs = ("run", "nunique")
    by_code = frame.groupby(SOFTWARE, sort=False).agg(runs=runs).reset_index()
    hosts = ("host", lambda hosts: tuple(sorted(set(hosts))))
    by_kind = frame.groupby("facts", sort=False).agg(runs=runs, hosts=hosts)
    software = by_code.sort_values(["runs", "code"], ascending=[False, True]).to_dict("records")
    packages = [dict(own["packages"]) for own in software]
    names = sorted(set().union(*packages), key=str.lower)
    versions = [(name, [own.get(name, "-") for own in packages]) for name in names]
    return {
        "software": software,
        "machines": by_kind.reset_index().sort_values(["runs", "hosts"], ascending=[False, True]).to_dict("records"),
        "packages": [(name, own) for name, own in versions if len(set(own)) > 1],
        "missing": missing,
        "problems": problems,
    }


def _row(code: dict[str, Any], machine: dict[str, Any]) -> tuple[Any, ...]:
    """The columns of an attempt, in values that can be grouped by."""
    parts = code["repositories"]
    # Earlier versions stored no diff.
    commits = tuple((_text(part["commit"]), bool(part["dirty"]), _text(part.get("diff") or "")) for part in parts)
    packages = tuple((_text(name), _text(version)) for name, version in code["packages"].items())
    facts = []
    for name in FACTS:
        value = machine.get(name)
        text = ", ".join(map(_text, value)) if isinstance(value, list) else "" if value is None else _text(value)
        facts.append((name.replace("_gib", " (GiB)"), text or "none"))
    return commits, _text(code["python"]), packages, _text(machine["host"]), tuple(facts)


def _text(value: object) -> str:
    return printable(str(value))  # halves of characters are none in a data frame
