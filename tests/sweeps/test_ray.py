"""hydra-ray-launcher as it is, with its workers killed; `make test-extras` installs it."""

import os
import signal
from pathlib import Path

import pytest

from atbptt.runs import schema
from tests.conftest import TINY
from tests.helpers.comparing import differences
from tests.helpers.launched import Sweep, parent_of

pytestmark = pytest.mark.extras
pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="needs Ray: make test-extras")


def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    options = (*TINY, "epochs=40", "device.type=cpu", "init=range(3)")
    undisturbed = Sweep(tmp_path / "undisturbed", *options)
    disturbed = Sweep(tmp_path / "ray", *options, "hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2")
    try:
        assert undisturbed.run() == 0
        disturbed.launch()
        disturbed.until(lambda: len(training(disturbed)) == 2, "two runs")
        run = training(disturbed)[0]
        os.kill(parent_of(parent_of(run)), signal.SIGKILL)  # run, its fork server, Ray's worker
        code = disturbed.wait()
        disturbed.until(lambda: set(disturbed.processes()) <= {"other"}, "the end of all runs")
        if code != 0:
            assert disturbed.run() == 0
        assert list(differences(disturbed.output, undisturbed.output)) == []
        assert "Traceback" not in disturbed.terminal
    finally:
        undisturbed.clear()
        disturbed.clear()


def training(sweep: Sweep) -> list[int]:
    """The processes of runs that have finished an epoch."""
    found = [status for status in sweep.statuses().values() if (status.get("epoch") or 0) >= 1]
    return [int(status["pid"]) for status in found if status["state"] == schema.RUNNING]
