"""Classes that YAML names by `_target_`: model, data set, policy, optimizer, learning-rate schedule.

Their arguments are checked against their signature, so that a user's own class needs no schema.
"""

import functools
import inspect
import pkgutil
import re
import traceback
import typing
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra.utils
from pydantic import ConfigDict, TypeAdapter, ValidationError

from atbptt.config.sources import Source, code_digest, is_users, user_sources
from atbptt.errors import ConfigError, described, did_you_mean, listed, require, show
from atbptt.system import content_digest

# Arguments that are not options, since the system passes them.
SUPPLIED: dict[str, tuple[str, ...]] = {
    "model": ("input_size", "output_size"),
    "dataset": (),
    "truncation": (),
    "optimizer": ("params", "lr"),
    "lr_decay": (),
}


@dataclass(frozen=True)
class Component:
    """A class and its checked arguments."""

    group: str  # a key of SUPPLIED
    name: str  # `name` in YAML, or the name of the class
    target: str  # the dotted path of the class
    arguments: dict[str, Any]  # by keyword, converted to the annotated types

    @property
    def module(self) -> str:
        located = locate(self.group, self.target)
        while isinstance(located, functools.partial):
            located = located.func
        return located.__module__ or ""  # None for some of Python's own

    def may_have(self, method: str) -> bool:
        """Whether its objects have a method, or may have it: what a function makes is unknown."""
        located = locate(self.group, self.target)
        return not inspect.isclass(located) or hasattr(located, method)

    def sources(self) -> dict[str, Source]:
        """The user's modules that its classes need, by name; nested ones too (ConfigError)."""
        # A process of a run has a script's module by another name.
        home = self.module.replace("__mp_main__", "__main__")
        nested = (part for name, part in leaves(self.arguments) if name.endswith("_target_") and isinstance(part, str))
        names = (home, self.target, *nested)
        try:
            return user_sources(name.replace(":", ".") for name in names)
        except ConfigError as error:
            raise error.within(self.group) from error

    def code_digest(self) -> str | None:
        """A digest of the user's code that its classes need; None if there is none."""
        sources = self.sources()
        return code_digest(sources) if sources else None

    def data_digest(self) -> str | None:
        """A digest of the files that the class lists (see `Task`), else of all at the argument `path`, if any."""
        if "path" not in self.arguments:
            return None
        located = locate(self.group, self.target)
        path = self.arguments["path"]
        files: list[Path | list[Path]] = [Path(str(path))]
        if isinstance(inspect.getattr_static(located, "data_files", None), staticmethod):
            bound = inspect.signature(located).bind_partial(**self.arguments)
            bound.apply_defaults()
            with errors_of(self.group, f"fails in {show(self.target)}.data_files"):
                found = located.data_files(bound.arguments)  # type: ignore[attr-defined]
                files = [[*map(Path, part)] if isinstance(part, list) else Path(part) for part in found]
        try:
            return ",".join(map(content_digest, files))
        except (OSError, ValueError) as error:  # a ValueError is a path that no file can have
            reason = error.strerror if isinstance(error, OSError) else error
            file = getattr(error, "filename", None) or path
            raise ConfigError(f"{self.group}.path", f"(={show(str(file))}) cannot be read: {reason}") from error

    def build(self, *supplied: Any, **named: Any) -> Any:
        """The object; a `ConfigError` if the class raises any error."""
        with errors_of(self.group, f"cannot be made by {show(self.target)}"):
            arguments = {key: _instantiated(value) for key, value in self.arguments.items()}
            return locate(self.group, self.target)(*supplied, **named, **arguments)


@contextmanager
def errors_of(group: str, rule: str) -> Iterator[None]:
    """Report what a user's code raises as a `ConfigError` of its group: `model RULE: the error and where it is from`.

    An exit is such an error, too; Ctrl-C is not.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except ConfigError as error:
        raise (error if error.name == group else error.within(group)) from error
    except BaseException as error:
        raise ConfigError(group, f"{rule}: {described(error)}{_place(error)}") from error


def _place(error: BaseException) -> str:
    """The line of the user's code that an error comes from: ` (line 3 of mine.py)`."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    stack = traceback.extract_tb(error.__traceback__)
    users = [summary for frame, summary in zip(frames, stack, strict=True) if is_users(frame.f_code.co_filename)]
    return f" (line {users[-1].lineno} of {show(users[-1].filename)})" if users else ""


def component(group: str, node: Mapping[str, Any]) -> Component:
    """Check a group's YAML node against the signature of its `_target_`."""
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        raise ConfigError(f"{group}._target_", "is missing: it must name a class, as in package.module.Class")
    target = node["_target_"]
    shown = show(target)
    given = {str(key): value for key, value in node.items() if key not in ("_target_", "name")}
    located = locate(group, target)
    read = _signature if isinstance(located, Hashable) else _signature.__wrapped__
    try:
        parameters, adapters = read(located, SUPPLIED[group])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{group}._target_", f"(={shown}) does not tell what arguments it takes") from error
    for key in given:
        if key not in parameters:
            rule = f"is no option of {shown}{did_you_mean(key, parameters)}; its options are {listed(parameters)}"
            require(False, f"{group}.{key}", given[key], rule)
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and given.get(name, "???") == "???":
            raise ConfigError(f"{group}.{name}", f"is missing: {shown} needs it; set it with {group}.{name}=...")
    arguments = {key: _coerced(f"{group}.{key}", value, adapters.get(key)) for key, value in given.items()}
    return Component(group, str(node.get("name") or target.rpartition(".")[2]), target, arguments)


def locate(group: str, target: str) -> Callable[..., Any]:
    """What a `_target_` names, which imports its module (ConfigError)."""
    with errors_of(f"{group}._target_", f"(={show(target)}) cannot be imported"):
        located = pkgutil.resolve_name(target)
    require(callable(located), f"{group}._target_", target, "must be a class or function")
    return typing.cast("Callable[..., Any]", located)


@functools.lru_cache(maxsize=128)  # the jobs of a sweep name the same few classes
def _signature(
    located: Callable[..., Any], supplied: tuple[str, ...]
) -> tuple[dict[str, inspect.Parameter], dict[str, TypeAdapter[Any]]]:
    """The parameters that YAML may set, and validators of those whose type pydantic knows."""
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(located).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and name not in supplied
    }
    try:
        hints = typing.get_type_hints(located.__init__ if inspect.isclass(located) else located)
    except Exception:  # annotations that only a type checker can resolve
        hints = {}
    adapters = {name: _adapter(hint) for name, hint in hints.items() if name in parameters}
    return parameters, {name: adapter for name, adapter in adapters.items() if adapter is not None}


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    own_config = hasattr(annotation, "model_config") or hasattr(annotation, "__dataclass_fields__")
    config = None if own_config else ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
    try:
        return TypeAdapter(annotation, config=config)
    except Exception:  # pydantic has no schema for the type: the class itself must check the value
        return None


def _coerced(name: str, value: Any, adapter: TypeAdapter[Any] | None) -> Any:
    if adapter is None or (isinstance(value, dict) and "_target_" in value):  # a nested object, built later
        return value
    try:
        return adapter.validate_python(value, strict=isinstance(value, bool) or None)  # true is not 1
    except ValidationError as error:
        raise ConfigError(name, f"(={show(value)}) {rule_of(error.errors()[0])}") from error


def rule_of(error: Mapping[str, Any]) -> str:
    """A pydantic error as the rest of a sentence: `must be greater than 0`."""
    message = str(error["msg"]).removeprefix("Value error, ")
    message = re.sub(r"^(Input|String) should", "must", message)
    message = message if message.startswith("must") else f"must be valid: {message[:1].lower()}{message[1:]}"
    return message.split(", unable to parse")[0].split(", got a number")[0]


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All that is no dict or list within a value, by dotted names: `layers.0._target_`."""
    pairs = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else None
    )
    if pairs is None:
        yield name, value
    else:
        for key, part in pairs:
            yield from leaves(part, f"{name}.{key}" if name else str(key))


def _instantiated(value: Any) -> Any:
    if isinstance(value, dict) and "_target_" in value:
        return hydra.utils.instantiate(value, _convert_="all")
    if isinstance(value, dict):
        return {key: _instantiated(part) for key, part in value.items()}
    return [_instantiated(part) for part in value] if isinstance(value, list) else value
