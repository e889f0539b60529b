from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from atbptt.config.components import component
from atbptt.errors import ConfigError

MODULE = """
from __future__ import annotations

from atbptt.errors import require


class Inner:
    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError("a negative size")
        self.size = size


class Mine:
    def __init__(self, size: int, rate: float = 0.5, mode: str = "fast", limit: int | None = None, extra=None) -> None:
        require(size < 100, "size", size, "must be below 100")
        if mode == "broken":
            raise ValueError("no such mode")
        self.arguments = dict(size=size, rate=rate, mode=mode, limit=limit, extra=extra)


class Read:
    def __init__(self, path: str, file: str = "one.txt") -> None:
        self.path = path

    @staticmethod
    def data_files(arguments):
        from pathlib import Path

        return [Path(arguments["path"]) / arguments["file"]]


class ReadAll:
    data_files = ["the name means something else here"]

    def __init__(self, path: str) -> None:
        self.path = path


class Typed:
    def __init__(self, inner: Inner) -> None:
        self.inner = inner


class Sink:
    def __init__(self, size: int, **others: object) -> None:
        self.size = size


class Unresolvable:
    def __init__(self, size: "NoSuchType") -> None:
        self.size = size


def make(size: int) -> dict[str, int]:
    return {"made": size}


def make_sized(input_size: int) -> int:
    return input_size


class Maker:
    __hash__ = None

    def __call__(self, size: int) -> dict[str, int]:
        return {"made": size}


maker = Maker()
number = 3
"""


@pytest.fixture(autouse=True)
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's module, importable as user_parts_of_a_test."""
    (tmp_path / "user_parts_of_a_test.py").write_text(MODULE)
    (tmp_path / "user_broken_part_of_a_test.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))


def node(made_by: str = "Mine", **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"user_parts_of_a_test.{made_by}", **arguments}


def test_a_users_class_is_built_with_its_arguments() -> None:
    made = component("dataset", node(size=3, rate=2, limit=None)).build()
    assert type(made).__name__ == "Mine"
    assert made.arguments == {"size": 3, "rate": 2.0, "mode": "fast", "limit": None, "extra": None}


@pytest.mark.parametrize("maker", ["make", "maker"])
def test_a_function_or_an_object_that_cannot_be_hashed_may_make_the_part(maker: str) -> None:
    part = component("dataset", node(maker, size=3.0))
    assert part.arguments == {"size": 3.0}
    assert component("dataset", node(maker, size=3)).build() == {"made": 3}


def test_a_class_that_is_defined_anew_is_checked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook."""
    assert component("dataset", node(size=3)).arguments == {"size": 3}
    module = importlib.import_module("user_parts_of_a_test")
    monkeypatch.setattr(module, "Mine", module.Sink)
    with pytest.raises(ConfigError, match=r"^dataset.rate \(=2\) is no option .*; its options are size$"):
        component("dataset", node(size=3, rate=2))


def test_what_is_supplied_to_one_group_is_an_option_in_another() -> None:
    sized = node("make_sized", input_size=3)
    assert component("dataset", sized).arguments == {"input_size": 3}
    with pytest.raises(ConfigError, match=r"^model.input_size \(=3\) is no option"):
        component("model", sized)


def test_the_name_is_the_yamls_or_the_class_and_arguments_take_the_annotated_type() -> None:
    part = component("dataset", node(name="my data", size=3.0, rate=1, extra=1))
    assert (part.name, part.target) == ("my data", "user_parts_of_a_test.Mine")
    assert repr(part.arguments) == "{'size': 3, 'rate': 1.0, 'extra': 1}"
    assert component("dataset", node(size=3)).name == "Mine"


def test_what_the_system_supplies_is_passed_and_is_no_option() -> None:
    linear = {"_target_": "torch.nn.Linear", "bias": False}
    with pytest.raises(ConfigError, match=r"^model.in_features is missing: torch.nn.Linear needs it; set it with "):
        component("model", linear)
    sgd = component("optimizer", {"_target_": "torch.optim.SGD", "momentum": 0.5})
    parameter = nn.Parameter(torch.ones(1))
    optimizer = sgd.build([parameter], lr=0.25)
    assert [optimizer.defaults[key] for key in ("lr", "momentum")] == [0.25, 0.5]
    with pytest.raises(ConfigError, match=r"^optimizer.lr \(=3\) is no option of torch.optim.SGD"):
        component("optimizer", {"_target_": "torch.optim.SGD", "lr": 3})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"size": 3, "rat": 1},
            r"^dataset.rat \(=1\) is no option of user_parts_of_a_test.Mine; did you mean rate\?; "
            r"its options are size, rate, mode, limit, extra$",
        ),
        ({}, r"^dataset.size is missing: user_parts_of_a_test.Mine needs it; set it with dataset.size=...$"),
        ({"size": "???"}, r"^dataset.size is missing: user_parts_of_a_test.Mine needs it; "),
        ({"size": "big"}, r"^dataset.size \(=big\) must be a valid integer$"),
        ({"size": None}, r"^dataset.size \(=null\) must be a valid integer$"),
        ({"size": 3, "rate": float("nan")}, r"^dataset.rate \(=nan\) must be a finite number$"),
        ({"size": 3, "mode": 4}, r"^dataset.mode \(=4\) must be a valid string$"),
        ({"made_by": "Sink", "size": 3, "sise": 3}, r"^dataset.sise \(=3\) is no option .* did you mean size\?"),
    ],
)
def test_arguments_are_checked_against_the_signature(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        component("dataset", node(**arguments))


def test_an_annotation_that_does_not_resolve_leaves_the_judgement_to_the_class() -> None:
    assert component("dataset", node("Unresolvable", size="3")).build().size == "3"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 100}, r"^dataset.size \(=100\) must be below 100$"),
        ({"size": 3, "mode": "broken"}, r"^dataset cannot be made by user_parts_of_a_test.Mine: ValueError: no such m"),
        ({"size": 3, "extra": node("Inner", size=-1)}, r"^dataset.*a negative size"),
    ],
)
def test_a_class_that_raises_is_reported(arguments: dict[str, Any], message: str) -> None:
    part = component("dataset", node(**arguments))
    with pytest.raises(ConfigError, match=message):
        part.build()


@pytest.mark.parametrize("broken", [None, "Mine", {}, {"_target_": 3}, {"name": "x"}])
def test_a_group_without_a_target_is_refused(broken: Any) -> None:
    with pytest.raises(ConfigError, match=r"^model._target_ is missing: it must name a class"):
        component("model", broken)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("user_parts_of_a_test.Nine", r"cannot be imported: AttributeError: .*Nine"),
        ("no_such_module_here.Mine", r"cannot be imported: ModuleNotFoundError: .*no_such_module_here"),
        ("user_broken_part_of_a_test.Mine", r"cannot be imported: ZeroDivisionError: division by zero"),
        ("", r"cannot be imported: ValueError"),
        ("user_parts_of_a_test", r"must be a class or function$"),
        ("user_parts_of_a_test.number", r"must be a class or function$"),
    ],
)
def test_a_target_that_is_no_class_is_refused_with_the_reason(target: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^model._target_ \(={target}\) {message}"):
        component("model", {"_target_": target})


def test_a_nested_target_is_built_first() -> None:
    made = component("dataset", node(size=3, extra=[node("Inner", size=5)])).build()
    assert type(made.arguments["extra"][0]).__name__ == "Inner"
    assert component("dataset", node("Typed", inner=node("Inner", size=5))).build().inner.size == 5


def test_a_class_without_a_signature_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^model._target_ \(=builtins.dict\) does not tell what arguments it "):
        component("model", {"_target_": "builtins.dict"})


def test_data_counts_by_the_files_that_the_class_lists(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("one.txt", "two.txt"):
        (data / name).write_text(name)
    (data / "same.txt").write_text("one.txt")
    digests = {
        name: component("dataset", node("Read", path=str(data), **options)).data_digest()
        for name, options in (("default", {}), ("one", {"file": "one.txt"}), ("same", {"file": "same.txt"}))
    }
    assert digests["default"] == digests["one"] == digests["same"]
    assert component("dataset", node("Read", path=str(data), file="two.txt")).data_digest() != digests["one"]
    (data / "two.txt").write_text("changed")
    assert component("dataset", node("Read", path=str(data))).data_digest() == digests["one"]


def test_data_counts_whole_where_the_class_lists_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "one.txt").write_text("one")
    before = component("dataset", node("ReadAll", path=str(data))).data_digest()
    (data / "two.txt").write_text("two")
    assert component("dataset", node("ReadAll", path=str(data))).data_digest() != before
    assert component("dataset", node(size=3)).data_digest() is None


def test_data_that_cannot_be_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "one.txt"
    file.write_text("one")

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("atbptt.config.components.content_digest", refuse)
    with pytest.raises(ConfigError, match=r"^dataset.path \(=.*one.txt\) cannot be read: Permission denied$"):
        component("dataset", node("Read", path=str(tmp_path))).data_digest()
