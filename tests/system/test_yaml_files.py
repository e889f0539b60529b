"""YAML of others: the values of a good file, and why one is refused before its values are made."""

from pathlib import Path

import pytest

from atbptt.system import read_yaml
from atbptt.system.yaml_files import BYTES, LEVELS, VALUES


def written(folder: Path, text: str) -> Path:
    file = folder / "file.yaml"
    file.write_text(text, encoding="utf-8-sig")  # as some editors do
    return file


def test_a_good_file_is_read_as_omegaconf_reads_it(tmp_path: Path) -> None:
    text = "# @package _global_\nlr: 1e-3\ntimes: &t [1, yes]\nsame: *t\nday: 2020-01-01\n"
    values = {"lr": 0.001, "times": [1, True], "same": [1, True], "day": "2020-01-01"}
    assert read_yaml(written(tmp_path, text)) == (text, values)
    assert read_yaml(written(tmp_path, "# nothing\n")) == ("# nothing\n", {})


@pytest.mark.parametrize(
    ("most", "more", "message"),
    [
        (f"a: [{'1,' * (VALUES - 3)}]", f"a: [{'1,' * (VALUES - 2)}]", "holds 10,001 values"),
        (f"a: {'[' * (LEVELS - 2)}1{']' * (LEVELS - 2)}", f"a: {'[' * LEVELS}{']' * LEVELS}", "is nested too deep"),
        (f"a: {'x' * (BYTES - 6)}", f"a: {'x' * (BYTES - 5)}", "is too large"),
    ],
)
def test_sizes_are_counted_before_values_are_made(tmp_path: Path, most: str, more: str, message: str) -> None:
    read_yaml(written(tmp_path, most))
    with pytest.raises(ValueError, match=f"^{message}"):
        read_yaml(written(tmp_path, more))


def test_an_alias_counts_as_often_as_it_repeats_values(tmp_path: Path) -> None:
    shared = "a: &a [1, 2]\n"  # with its name and that of b: 3 values, and 4 for the whole and its parts
    read_yaml(written(tmp_path, f"{shared}b: [{'*a,' * 3000}]"))
    with pytest.raises(ValueError, match=r"^holds 12,007 values, with those that aliases repeat"):
        read_yaml(written(tmp_path, f"{shared}b: [{'*a,' * 4000}]"))
