"""With what code and packages, and on which machines, the runs ran."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from atbptt.runs import reason
from atbptt.runs.schema import ENVIRONMENT

SOFTWARE = ["code", "python", "packages"]
FACTS = ("system", "processor", "cores", "memory_gib", "gpus", "cuda")  # machines with equal facts are of one kind


def environment(directories: Iterable[Path]) -> dict[str, Any]:
    """What the runs in these directories ran with; a run that was continued elsewhere counts in each place.

    Returns:
        - `software`: `runs`, `code` as (commit, whether files differ from it), `python` and `packages` as (name,
          version) of each combination, the most frequent first;
        - `machines`: `runs`, `hosts` and `facts` of each kind of machine, the most frequent first;
        - `packages`: (name, version in each of `software`) of packages whose version differs, `-` for none;
        - `missing`: how many runs stored no environment;
        - `problems`: a line for each file that cannot be read.
    """
    rows: list[tuple[Any, ...]] = []
    problems, missing = [], 0
    for directory in directories:
        path = directory / ENVIRONMENT
        try:
            attempts = json.loads(path.read_bytes())["attempts"]
            rows += [(str(directory), *_row(attempt["code"], attempt["machine"])) for attempt in attempts]
        except FileNotFoundError:
            missing += 1
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            why = f"lacks {error}" if isinstance(error, KeyError) else reason(error)
            problems.append(f"{path}: {why}; environment unknown")
    frame = pd.DataFrame(rows, columns=["run", *SOFTWARE, "host", "facts"])
    by_code = frame.groupby(SOFTWARE, sort=False).agg(runs=("run", "nunique")).reset_index()
    by_kind = frame.groupby("facts", sort=False).agg(
        runs=("run", "nunique"), hosts=("host", lambda hosts: tuple(sorted(set(hosts))))
    )
    software = by_code.sort_values(["runs", "code"], ascending=[False, True]).to_dict("records")
    return {
        "software": software,
        "machines": by_kind.reset_index().sort_values(["runs", "hosts"], ascending=[False, True]).to_dict("records"),
        "packages": _differing([dict(own["packages"]) for own in software]),
        "missing": missing,
        "problems": problems,
    }


def _row(code: dict[str, Any], machine: dict[str, Any]) -> tuple[Any, ...]:
    """The columns of an attempt, in values that can be grouped by."""
    commits = tuple((str(part["commit"]), bool(part["dirty"])) for part in code["repositories"])
    packages = tuple((str(name), str(version)) for name, version in code["packages"].items())
    facts = []
    for name in FACTS:
        value = machine.get(name)
        text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
        facts.append((name.replace("_gib", " (GiB)"), text or "none"))
    return commits, str(code["python"]), packages, str(machine["host"]), tuple(facts)


def _differing(versions: list[dict[str, str]]) -> list[tuple[str, list[str]]]:
    names = sorted({name for packages in versions for name in packages}, key=str.lower)
    rows = [(name, [packages.get(name, "-") for packages in versions]) for name in names]
    return [row for row in rows if len(set(row[1])) > 1]
