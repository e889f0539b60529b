"""What Hydra's users expect of a job, by every launcher: callbacks, HydraConfig and env_set in a class of theirs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import json
import os
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher

def note(**what):
    with open("notes.jsonl", "a") as file:
        file.write(json.dumps({"pid": os.getpid(), **what}) + "\\n")

class Noting(Callback):
    def on_multirun_start(self, config, **_):
        note(what="multirun_start", mode=config.hydra.mode.name)

    def on_multirun_end(self, config, **_):
        note(what="multirun_end")

    def on_run_start(self, config, **_):
        note(what="run_start", mode=config.hydra.mode.name)

    def on_run_end(self, config, job_return, **_):
        note(what="run_end", status=job_return.status.name)

    def on_job_start(self, config, task_function, **_):
        note(what="job_start", lr=config.lr, num=config.hydra.job.get("num"), task=list(config.hydra.overrides.task))

    def on_job_end(self, config, job_return, **_):
        note(what="job_end", status=job_return.status.name, lr=job_return.cfg.lr, value=str(job_return._return_value))

class Alone(JoblibLauncher):
    "The plug-in as it is, with worker processes."

class Policy:
    def __init__(self):
        self.K = 3
        self.hydra = HydraConfig.get()
        assert os.environ["TOLD"] == "by env_set"
        assert self.hydra.runtime.choices.model == "lstm"

    def state_dict(self):
        return {"K": self.K}

    def load_state_dict(self, saved):
        self.K = saved["K"]

    def update(self, progress, probe):
        if self.hydra.job.get("num") == 1 and progress.step >= progress.epoch_steps:
            raise ValueError("not this one")
"""


@pytest.mark.parametrize(
    "launcher",
    ["joblib", *(pytest.param(name, marks=pytest.mark.slow) for name in ("basic", "alone", "submitit_local"))],
)
def test_callbacks_config_and_variables(root: Path, tmp_path: Path, tiny: tuple[str, ...], launcher: str) -> None:
    (tmp_path / "noting.py").write_text(MODULE)
    for name, text in {
        "hydra/callbacks/noting": "noting:\n  _target_: noting.Noting",
        "hydra/launcher/alone": "defaults: [joblib]\n_target_: noting.Alone",
        "truncation/mine": "name: mine\n_target_: noting.Policy",
    }.items():
        path = tmp_path / "mine" / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    given = ("hydra/callbacks=noting", "+hydra.job.env_set.TOLD='by env_set'", "truncation=mine", "lr_scaling=none")

    def launch(*arguments: str) -> tuple[int, str, list[dict[str, object]]]:
        (tmp_path / "notes.jsonl").unlink(missing_ok=True)
        command = [sys.executable, str(root / "launch.py"), *arguments, *given, *tiny, f"hydra/launcher={launcher}"]
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{root}"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stderr, [*map(json.loads, (tmp_path / "notes.jsonl").read_text().splitlines())]

    code, errors, notes = launch("-m", "--config-dir=mine", "lr=1,2", "hydra.mode=RUN")  # -m counts
    assert code == 1
    assert errors.count("\n") == 1 or launcher == "alone"  # whose joblib warns of a folder it has not removed
    assert "lr=2: ValueError: not this one" in errors
    found = {(note["what"], note.get("lr")): note for note in notes}
    assert [note["what"] for note in (notes[0], notes[-1])] == ["multirun_start", "multirun_end"]
    assert notes[0]["mode"] == "MULTIRUN"
    assert len(notes) == 6
    for number, (lr, status) in enumerate(((1.0, "COMPLETED"), (2.0, "FAILED"))):
        started, ended = found["job_start", lr], found["job_end", lr]
        assert started["num"] == number
        assert f"lr={lr:g}" in started["task"]  # type: ignore[operator]
        assert ended["status"] == status
        assert started["pid"] == ended["pid"]
        assert (started["pid"] == notes[0]["pid"]) is (launcher == "basic")
    assert "not this one" in str(found["job_end", 2.0]["value"])

    if launcher == "basic":  # a single run has no launcher of its own
        code, errors, notes = launch("--config-dir=mine", "lr=3")
        assert (code, errors) == (0, "")
        assert [note["what"] for note in notes] == ["run_start", "job_start", "job_end", "run_end"]
        assert (notes[0]["mode"], notes[-1]["status"]) == ("RUN", "COMPLETED")
