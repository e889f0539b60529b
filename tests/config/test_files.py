from pathlib import Path

import pytest

from atbptt.config.jobs import Shared
from tests.config.conftest import Opened

COPIED = {"model/gru": "hidden: 7", "arm/K5": "K: 55", "truncation/own": "defaults: [fixed]\nK: 3", "unused/x": "a: 1"}


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    """A user's folder: shipped files that are copied and edited, and files of its own."""
    for name, text in COPIED.items():
        path = (tmp_path / "mine" / name).with_suffix(".yaml")
        shipped = root / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        key = text.partition(":")[0]
        lines = shipped.read_text().splitlines() if shipped.exists() else []
        indent = next((line[: line.index(key)] for line in lines if line.lstrip().startswith(f"{key}:")), "")
        kept = [line for line in lines if not line.lstrip().startswith(f"{key}:")]
        path.write_text("\n".join([*kept, f"{indent}{text}"]))
    return tmp_path / "mine"


@pytest.mark.parametrize(
    ("arguments", "leaf", "expected", "taken"),
    [
        ("model=gru", "model.hidden", [7], [["model/gru.yaml*"]]),
        ("-m model=lstm,gru lr=1,2", "model.hidden", [50, 50, 7, 7], [[], [], *[["model/gru.yaml*"]] * 2]),
        ("-m arm=K5,K10", "truncation.K", [55, 10], [["arm/K5.yaml*"], []]),
        ("truncation=own model=gru", "truncation.K", [3], [["model/gru.yaml*", "truncation/own.yaml"]]),
        ("hydra/launcher=basic", "lr", [1.0], [[]]),
    ],
)
def test_a_users_file_comes_before_the_shipped_one_of_its_name(
    opened: Opened, folder: Path, arguments: str, leaf: str, expected: list[float], taken: list[list[str]]
) -> None:
    hydra, command, batch = opened(f"--config-dir={folder}", *arguments.split())
    made = Shared(hydra, command)
    for overrides, value, names in zip(batch, expected, taken, strict=True):
        node = made.config(overrides)
        for part in leaf.split("."):
            node = node[part]
        assert node == value
        files = made.files(overrides)
        assert [f"{file.name}{'*' * file.replaces}" for file in files] == names
        assert {file.folder for file in files} <= {str(folder)}


def test_without_a_folder_of_the_user_there_are_no_files(opened: Opened) -> None:
    hydra, command, (overrides,) = opened("model=gru")
    assert Shared(hydra, command).files(overrides) == []


def test_a_file_says_where_it_is_taken_from(opened: Opened, folder: Path) -> None:
    hydra, command, (overrides,) = opened(f"--config-dir={folder}", "model=gru", "truncation=own")
    gru, own = Shared(hydra, command).files(overrides)
    assert str(gru) == f"model/gru.yaml is taken from {folder}, not the shipped one"
    assert str(own) == f"truncation/own.yaml is taken from {folder}"
