"""The library as its users meet it: the names that `atbptt` exports, their types, and the numbers they take."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import atbptt


@pytest.mark.parametrize("size", [0, 10, 2.5])
def test_more_streams_than_steps_are_refused(size: Any) -> None:
    with pytest.raises(atbptt.ConfigError, match=rf"batch_size \(={size}\) must be a whole number in 1..9"):
        atbptt.batchify(torch.zeros(9), size)


def test_the_module_of_the_command_is_not_the_function() -> None:
    with pytest.raises(ImportError, match="from atbptt import probe"):
        importlib.import_module("atbptt.probe")
    assert callable(atbptt.probe)


def test_the_library_imports_nothing_of_what_runs_experiments(root: Path) -> None:
    code = """
import sys, atbptt
assert "torch" not in sys.modules
for name in atbptt.__all__:
    getattr(atbptt, name)
heavy = "hydra omegaconf pandas matplotlib seaborn pyarrow pydantic joblib submitit rich jinja2 scipy"
print([name for name in heavy.split() if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=120)
    assert done.stdout == "[]\n", done.stderr


def test_names_are_listed_and_others_are_reported() -> None:
    assert dir(atbptt) == sorted(atbptt.__all__)
    assert len(set(atbptt.__all__)) == len(atbptt.__all__)
    with pytest.raises(AttributeError, match="module 'atbptt' has no attribute 'Adaptiv'"):
        _ = atbptt.Adaptiv  # type: ignore[attr-defined]


SCRIPT = """
import atbptt
import torch
from torch import nn

inputs, targets = torch.zeros(40, 3, 4), torch.zeros(40, 3, 5)

def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs - targets).square().mean(-1)

policy = atbptt.Adaptive(delta=0.5, K_init=4, K_min=2, K_max=9, update_every=1)
windows = atbptt.Windows(nn.LSTM(4, 5), loss, inputs, targets, policy)
for window in windows:
    window.loss().backward()
found = atbptt.probe(nn.LSTM(4, 5), loss, inputs, targets)
reveal_type((window, window.loss(), found.phi, found.measured, found.K(0.5)))
atbptt.Windows(nn.LSTM(4, 5), loss, inputs, targets, "fixed")
atbptt.probe(nn.LSTM(4, 5), loss, inputs, targets, burnin=3)
atbptt.nothing
"""


@pytest.mark.slow
def test_a_type_checker_sees_the_types_and_which_names_there_are(root: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "mypy", "--config-file=", f"--cache-dir={tmp_path}", "script.py"]
    environment = {"PATH": "", "MYPYPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=600)
    array = r"numpy\.ndarray\[.*\]"
    types = (
        rf"atbptt\.windows\.stream_window\.StreamWindow, torch\._tensor\.Tensor, {array}, {array} \| None, int \| None"
    )
    assert re.search(rf'Revealed type is "tuple\[{types}\]"', done.stdout), done.stdout
    assert '"Windows" has incompatible type "str"; expected "AnyPolicy"' in done.stdout
    assert 'Unexpected keyword argument "burnin"' in done.stdout
    assert 'has no attribute "nothing"' in done.stdout
