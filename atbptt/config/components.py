"""Parts of an experiment that YAML names by `_target_`: model, data set, policy, optimizer.

What keys such a part takes, and of which type, is read from the signature of the class, so that a user's
own class is checked as closely as ours and needs no schema.
"""

from __future__ import annotations

import functools
import inspect
import pkgutil
import re
import typing
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra.utils
from pydantic import ConfigDict, TypeAdapter, ValidationError

from atbptt.errors import ConfigError, described, did_you_mean, listed, show
from atbptt.system import content_digest

# What the system passes besides the YAML's keys; `dataset` and `truncation` get nothing.
SUPPLIED: dict[str, tuple[str, ...]] = {
    "model": ("input_size", "output_size"),
    "dataset": (),
    "truncation": (),
    "optimizer": ("params", "lr"),
}


@dataclass(frozen=True)
class Component:
    """A class and its arguments, checked against the class's signature.

    Attributes:
        group: `model`, `dataset`, `truncation` or `optimizer`.
        name: the YAML's `name`, or the class's.
        target: the class's dotted path.
        arguments: keyword arguments, coerced to the annotated types (so that 1 and 1.0 are the same).
    """

    group: str
    name: str
    target: str
    arguments: dict[str, Any]

    @property
    def module(self) -> str:
        """The module that the class is defined in."""
        return _locate(self.group, self.target).__module__

    def data_digest(self) -> str | None:
        """A digest of the data that an argument named `path` leads to, None where there is no such argument.

        Of the files that the class's static method `data_files(arguments)` lists, where it has one; else of all
        that the path holds.

        Raises:
            ConfigError: a file cannot be read.
        """
        if "path" not in self.arguments:
            return None
        located = _locate(self.group, self.target)
        files = [Path(str(self.arguments["path"]))]
        if isinstance(inspect.getattr_static(located, "data_files", None), staticmethod):
            bound = inspect.signature(located).bind_partial(**self.arguments)
            bound.apply_defaults()
            files = located.data_files(bound.arguments)  # type: ignore[attr-defined]
        try:
            return ",".join(map(content_digest, files))
        except OSError as error:
            raise ConfigError(f"{self.group}.path", f"(={error.filename}) cannot be read: {error.strerror}") from error

    def build(self, *supplied: Any, **named: Any) -> Any:
        """The object.

        Raises:
            ConfigError: the class refuses its arguments, in its own words.
        """
        try:
            arguments = {key: _instantiated(value) for key, value in self.arguments.items()}
            return _locate(self.group, self.target)(*supplied, **named, **arguments)
        except ConfigError as error:
            raise error.within(self.group) from error
        except (Exception, SystemExit) as error:  # whatever a user's own class does
            raise ConfigError(self.group, f"cannot be made by {self.target}: {described(error)}") from error


def component(group: str, node: Mapping[str, Any]) -> Component:
    """Check a group's YAML node against the signature of its `_target_`."""
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        raise ConfigError(f"{group}._target_", "is missing: it must name a class, as in package.module.Class")
    target = node["_target_"]
    given = {str(key): value for key, value in node.items() if key not in ("_target_", "name")}
    located = _locate(group, target)
    read = _signature if isinstance(located, Hashable) else _signature.__wrapped__
    try:
        parameters, adapters = read(located, SUPPLIED[group])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{group}._target_", f"(={target}) does not tell what arguments it takes") from error
    for key in given:
        if key not in parameters:
            raise ConfigError(
                f"{group}.{key}",
                f"(={show(given[key])}) is no option of {target}{did_you_mean(key, parameters)}; "
                f"its options are {listed(parameters)}",
            )
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and given.get(name, "???") == "???":
            raise ConfigError(f"{group}.{name}", f"is missing: {target} needs it; set it with {group}.{name}=...")
    arguments = {key: _coerced(f"{group}.{key}", value, adapters.get(key)) for key, value in given.items()}
    return Component(group, str(node.get("name") or target.rpartition(".")[2]), target, arguments)


def _locate(group: str, target: str) -> Callable[..., Any]:
    try:
        located = pkgutil.resolve_name(target)
    except Exception as error:  # importing a user's module may raise anything
        raise ConfigError(f"{group}._target_", f"(={target}) cannot be imported: {described(error)}") from error
    if not callable(located):
        raise ConfigError(f"{group}._target_", f"(={target}) must be a class or function")
    return typing.cast("Callable[..., Any]", located)


@functools.lru_cache(maxsize=128)  # what a sweep of many jobs would read of the same few classes each time
def _signature(
    located: Callable[..., Any], supplied: tuple[str, ...]
) -> tuple[dict[str, inspect.Parameter], dict[str, TypeAdapter[Any]]]:
    """The parameters that YAML may set, and what checks the values of those that have a known type.

    Raises:
        TypeError, ValueError: there is no signature.
    """
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(located).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and name not in supplied
    }
    adapters = {name: _adapter(hint) for name, hint in _type_hints(located).items() if name in parameters}
    return parameters, {name: adapter for name, adapter in adapters.items() if adapter is not None}


def _type_hints(located: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(located.__init__ if inspect.isclass(located) else located)
    except (NameError, TypeError):  # annotations that only a type checker can resolve
        return {}


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    config = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
    try:
        return TypeAdapter(annotation, config=None if _has_config(annotation) else config)
    except Exception:  # a type that pydantic has no schema for: the class itself must judge
        return None


def _coerced(name: str, value: Any, adapter: TypeAdapter[Any] | None) -> Any:
    if adapter is None or (isinstance(value, dict) and "_target_" in value):  # an object of its own, made with this one
        return value
    try:
        # A truth value is no number: strict.
        return adapter.validate_python(value, strict=isinstance(value, bool) or None)
    except ValidationError as error:
        raise ConfigError(name, f"(={show(value)}) {rule_of(error.errors()[0])}") from error


def _has_config(annotation: Any) -> bool:
    return hasattr(annotation, "model_config") or hasattr(annotation, "__dataclass_fields__")


def rule_of(error: Mapping[str, Any]) -> str:
    """A pydantic error as the rest of a sentence: `must be greater than 0`."""
    message = str(error["msg"]).removeprefix("Value error, ")
    message = re.sub(r"^(Input|String) should", "must", message)
    message = message if message.startswith("must") else f"must be valid: {message[:1].lower()}{message[1:]}"
    return message.split(", unable to parse")[0].split(", got a number")[0]


def _instantiated(value: Any) -> Any:
    """The value with each nested `_target_` as its object."""
    if isinstance(value, dict) and "_target_" in value:
        return hydra.utils.instantiate(value, _convert_="all")
    if isinstance(value, dict):
        return {key: _instantiated(part) for key, part in value.items()}
    return [_instantiated(part) for part in value] if isinstance(value, list) else value
