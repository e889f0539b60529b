"""YAML files that somebody else may have written: checked before their values are made, and errors of one line."""

import functools
import math
import os
from typing import Any

import yaml  # type: ignore[import-untyped]

from atbptt.errors import described
from atbptt.system.reading import open_file

BYTES = 250_000  # of a file: YAML is read at some hundred thousand bytes a second
VALUES = 10_000  # of a file, with those that aliases repeat: OmegaConf copies all of them several times
LEVELS = 50  # of lists and mappings within each other
TOO_DEEP = f"is nested too deep: must have at most {LEVELS} levels"


def read_yaml(path: str | os.PathLike[str]) -> tuple[str, dict[Any, Any]]:
    """The text of a YAML file, and its values, none if it is empty.

    Raises:
        OSError: it cannot be opened, or is a folder, a pipe or a device.
        ValueError: it is too large, no YAML, or no mapping of names to values; the message is of one line.
    """
    with open_file(path) as file:
        content = file.read(BYTES + 1)
    if len(content) > BYTES:
        raise ValueError(f"is too large: must have at most {BYTES:,} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"must be text in UTF-8: {error.reason} at byte {error.start}") from error
    try:
        loader = _loader()(text)
        node = loader.get_single_node()
        refused = None if node is None else _refusal(node)
        values = None if node is None or refused else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        problem = str(error.problem or error.context).removeprefix("but ")
        raise ValueError(f"cannot be read as YAML: {problem}{where}") from error
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    except Exception as error:  # a number with too many digits, a date that is none, ...
        raise ValueError(f"cannot be read as YAML: {described(error)}") from error
    if refused:
        raise ValueError(refused)
    if not isinstance(values, dict | None):
        kind = "a list" if isinstance(values, list) else "one value"
        raise ValueError(f"must hold names with values, as in `lr: 1`, and is {kind}")
    return text, values or {}


@functools.cache
def _loader() -> Any:
    from omegaconf._utils import get_yaml_loader  # numbers and truth values as OmegaConf and Hydra read them

    return get_yaml_loader()


def _refusal(node: yaml.Node) -> str | None:
    """Why the values of a node are not made."""
    values, levels = _measured(node, {})
    if values == math.inf:
        return "contains itself, by an alias"
    if levels > LEVELS:
        return TOO_DEEP
    if values > VALUES:
        return f"holds {values:,} values, with those that aliases repeat: must hold at most {VALUES:,}"
    return None


def _measured(node: yaml.Node, known: dict[int, tuple[float, int]]) -> tuple[float, int]:
    """How many values a node holds, infinitely many if it contains itself, and in how many levels.

    Each node is counted once, however often aliases repeat it: `known` are those that are counted.
    """
    if id(node) not in known:
        known[id(node)] = math.inf, 0  # while it is open
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = [part for pair in parts for part in pair] if isinstance(node, yaml.MappingNode) else parts
        inner = [_measured(part, known) for part in parts]
        known[id(node)] = 1 + sum(values for values, _ in inner), 1 + max((levels for _, levels in inner), default=0)
    return known[id(node)]
