from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from atbptt.config.components import component
from atbptt.errors import ConfigError, require


class Inner:
    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError("a negative size")
        self.size = size


@dataclass
class Mine:
    size: int
    rate: float = 0.5
    mode: str = "fast"
    limit: int | None = None
    extra: Any = None

    def __post_init__(self) -> None:
        require(self.size < 100, "size", self.size, "must be below 100")


class Typed:
    def __init__(self, inner: Inner) -> None:
        self.inner = inner


class Sink:
    def __init__(self, size: int, **others: object) -> None:
        pass


class Unresolvable:
    def __init__(self, size: NoSuchType) -> None:  # noqa: F821
        self.size = size


class Read:
    def __init__(self, path: str, file: str = "one.txt") -> None:
        pass

    @staticmethod
    def data_files(arguments: Mapping[str, Any]) -> list[Path | list[str]]:
        files = [f"{arguments['path']}/{name}" for name in arguments["file"].split("+")]
        return [Path(files[0])] if len(files) == 1 else [files]


class ReadAll:
    data_files = "the name means something else here"

    def __init__(self, path: str) -> None:
        pass


def make(input_size: int) -> dict[str, int]:
    return {"made": input_size}


class Maker:
    __hash__ = None

    def __call__(self, input_size: int) -> dict[str, int]:
        return make(input_size)


maker = Maker()
number = 3


def node(made_by: str = "Mine", **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.{made_by}", **arguments}


def test_a_users_class_is_built_with_arguments_of_the_annotated_types() -> None:
    part = component("dataset", node(name="my data", size=3.0, rate=1, limit=None, extra=1))
    assert (part.name, part.target) == ("my data", f"{__name__}.Mine")
    assert repr(part.arguments) == "{'size': 3, 'rate': 1.0, 'limit': None, 'extra': 1}"
    assert part.build() == Mine(3, 1.0, extra=1)
    assert component("dataset", node(size=3)).name == "Mine"
    # Where an annotation does not resolve, the class itself must judge.
    assert component("dataset", node("Unresolvable", size="3")).build().size == "3"


@pytest.mark.parametrize("maker", ["make", "maker"])
def test_a_function_or_an_object_that_cannot_be_hashed_may_make_the_part(maker: str) -> None:
    part = component("dataset", node(maker, input_size=3.0))
    assert part.arguments == {"input_size": 3.0}
    assert part.build() == {"made": 3}


def test_a_class_that_is_defined_anew_is_checked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook."""
    assert component("dataset", node(size=3)).arguments == {"size": 3}
    monkeypatch.setitem(globals(), "Mine", Sink)
    with pytest.raises(ConfigError, match=r"^dataset.rate \(=2\) is no option .*; its options are size$"):
        component("dataset", node(size=3, rate=2))


def test_what_the_system_supplies_is_passed() -> None:
    sgd = component("optimizer", {"_target_": "torch.optim.SGD", "momentum": 0.5})
    optimizer = sgd.build([nn.Parameter(torch.ones(1))], lr=0.25)
    assert [optimizer.defaults[key] for key in ("lr", "momentum")] == [0.25, 0.5]


def test_a_nested_target_is_built_first() -> None:
    made = component("dataset", node(size=3, extra=[node("Inner", size=5)])).build()
    assert isinstance(made.extra[0], Inner)
    assert component("dataset", node("Typed", inner=node("Inner", size=5))).build().inner.size == 5


NO_TARGET = r"^model._target_ is missing: it must name a class"
NO_IMPORT = r"^model._target_ \(={}\) cannot be imported: {}"
NO_CLASS = r"^model._target_ \(={}\) must be a class or function$"
REFUSED = [
    ("model", None, NO_TARGET),
    ("model", "Mine", NO_TARGET),
    ("model", {"_target_": 3}, NO_TARGET),
    ("model", {"name": "x"}, NO_TARGET),
    ("model", node("Nine"), NO_IMPORT.format(f"{__name__}.Nine", "AttributeError: .*Nine")),
    ("model", {"_target_": "nowhere.Mine"}, NO_IMPORT.format("nowhere.Mine", "ModuleNotFoundError: .*nowhere")),
    ("model", {"_target_": "broken_part.Mine"}, NO_IMPORT.format("broken_part.Mine", "ZeroDivisionError: division by")),
    ("model", {"_target_": ""}, NO_IMPORT.format("", "ValueError")),
    ("model", {"_target_": __name__}, NO_CLASS.format(__name__)),
    ("model", node("number"), NO_CLASS.format(f"{__name__}.number")),
    ("model", {"_target_": "builtins.dict"}, r"^model._target_ \(=builtins.dict\) does not tell what arguments it "),
    ("model", {"_target_": "torch.nn.Linear"}, r"^model.in_features is missing: torch.nn.Linear needs it; set it "),
    ("model", node("make", input_size=3), r"^model.input_size \(=3\) is no option"),
    ("optimizer", {"_target_": "torch.optim.SGD", "lr": 3}, r"^optimizer.lr \(=3\) is no option of torch.optim.SGD"),
    ("dataset", node(size=3, rat=1), rf"^dataset.rat \(=1\) is no option of {__name__}.Mine; did you mean rate\?; "),
    ("dataset", node(size=3, xyz=1), "; its options are size, rate, mode, limit, extra$"),
    ("dataset", node(), rf"^dataset.size is missing: {__name__}.Mine needs it; set it with dataset.size=...$"),
    ("dataset", node(size="???"), "^dataset.size is missing: "),
    ("dataset", node(size="big"), r"^dataset.size \(=big\) must be a valid integer$"),
    ("dataset", node(size=None), r"^dataset.size \(=null\) must be a valid integer$"),
    ("dataset", node(size=3, rate=float("nan")), r"^dataset.rate \(=nan\) must be a finite number$"),
    ("dataset", node(size=3, mode=4), r"^dataset.mode \(=4\) must be a valid string$"),
    ("dataset", node("Sink", size=3, sise=3), r"^dataset.sise \(=3\) is no option .* did you mean size\?"),
]


@pytest.mark.parametrize(("group", "given", "message"), REFUSED)
def test_a_part_that_does_not_fit_its_class_is_refused(
    group: str, given: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_part.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=message):
        component(group, given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (node(size=100), r"^dataset.size \(=100\) must be below 100$"),
        (
            node("Inner", size=-1),
            rf"^dataset cannot be made by {__name__}.Inner: ValueError: a negative size \(line \d+ of ",
        ),
        (node(size=3, extra=node("Inner", size=-1)), r"^dataset.*a negative size"),
    ],
)
def test_a_class_that_raises_is_reported(given: dict[str, Any], message: str) -> None:
    part = component("dataset", given)
    with pytest.raises(ConfigError, match=message):
        part.build()


def test_data_count_by_the_files_that_the_class_lists_else_whole(tmp_path: Path) -> None:
    def digest(made_by: str = "Read", **options: str) -> str | None:
        return component("dataset", node(made_by, path=str(tmp_path), **options)).data_digest()

    for name, text in (("one", "one"), ("two", "two"), ("same", "one")):
        (tmp_path / f"{name}.txt").write_text(text)
    one, whole = digest(), digest("ReadAll")
    assert digest(file="one.txt") == digest(file="same.txt") == one
    assert digest(file="two.txt") != one
    assert digest(file="one.txt+two.txt") == digest(file="same.txt+two.txt") != digest(file="two.txt+one.txt")
    (tmp_path / "two.txt").write_text("changed")
    assert digest() == one
    assert digest("ReadAll") != whole
    assert component("dataset", node(size=3)).data_digest() is None


def test_data_that_cannot_be_read_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("atbptt.config.components.content_digest", refuse)
    with pytest.raises(ConfigError, match=r"^dataset.path \(=.*one.txt\) cannot be read: Permission denied$"):
        component("dataset", node("Read", path=str(tmp_path))).data_digest()
