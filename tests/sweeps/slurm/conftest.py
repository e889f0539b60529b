"""A Slurm that is made up, for the units, and a real one on this machine, for `make test-slurm`."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.slurm import MadeUpSlurm


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUpSlurm:
    """A made-up Slurm, on PATH."""
    slurm = MadeUpSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{slurm.folder}{os.pathsep}{os.environ['PATH']}")
    return slurm


@pytest.fixture(scope="session")
def cluster(root: Path) -> Iterator[None]:
    """A real one-node Slurm on this machine; what this starts it stops."""
    script = root.parent / "shared" / "slurm" / "one-node.sh"
    if not script.exists():
        pytest.skip("needs ../shared/slurm/one-node.sh")
    if os.geteuid() != 0:
        pytest.skip("needs root, to start a Slurm")
    if shutil.which("scontrol") and subprocess.run(["scontrol", "ping"], capture_output=True).returncode == 0:
        shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True).stdout
        if not any(line.split() == ["ClusterName", "=", "onenode"] for line in shown.splitlines()):
            pytest.skip("needs a Slurm of its own, and this machine has another")
        yield  # somebody else's, who will stop it
        return
    before = _munge()
    try:
        # For `nproc`, by which the script counts cores, OMP_NUM_THREADS is their number.
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        started = subprocess.run([str(script), "start"], env=environment, capture_output=True, text=True)
        if started.returncode:
            if shutil.which("slurmctld") is None or shutil.which("munged") is None:
                pytest.skip(f"Slurm's packages are not to be had: {started.stderr.strip()[-200:]}")
            pytest.fail(f"Slurm does not start:\n{started.stdout}\n{started.stderr}")
        yield
    finally:
        subprocess.run([str(script), "stop"], check=True)
        for process in _munge() - before:  # which the script starts, and does not stop
            os.kill(process, signal.SIGTERM)


def _munge() -> set[int]:
    """The munged processes of this machine."""
    return set(map(int, subprocess.run(["pgrep", "-x", "munged"], capture_output=True, text=True).stdout.split()))
