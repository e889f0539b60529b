"""A Slurm that is made up, for the units, and a real one on this machine, for `make test-slurm`."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Every command of the made-up Slurm; its state is the files of its folder.
COMMAND = """#!{python}
import os, pathlib, re, signal, sys
state = pathlib.Path({folder!r})
name = os.path.basename(sys.argv[0])
with open(state / "calls", "a") as calls:
    print(name, *sys.argv[1:], file=calls)
hidden = [key for key in os.environ if key.startswith("SQUEUE_")]
if (state / "silent").exists() or hidden:
    (state / "silent").unlink(missing_ok=True)
    sys.exit(f"{{name}}: error: Unable to contact slurm controller (connect failure)")
if name == "sbatch":
    if signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        (state / "spared").touch()
    number = 10 + len(list(state.glob("*.sh")))
    if (state / "full").exists() and number > 10:
        sys.exit("sbatch: error: Batch job submission failed: Job violates accounting/QOS policy")
    (state / f"{{number}}.sh").write_text(pathlib.Path(sys.argv[1]).read_text())
    print(f"Submitted batch job {{number}}")
elif name == "squeue":
    answers = sorted(state.glob("answer*"))  # one after the other, the last one for ever
    text = answers[0].read_text()
    if len(answers) > 1:
        answers[0].unlink()
    if text == "none":
        sys.exit("slurm_load_jobs error: Unable to contact slurm controller")
    print(text, end="")
elif name == "scontrol":
    print("MaxArraySize            = 3")
elif name == "scancel":
    for answer in state.glob("answer*"):
        answer.write_text(re.sub(r"\\|(RUNNING|PENDING)\\|", "|CANCELLED|", answer.read_text()))
elif name == "sinfo":
    print("main\\nlong\\nmain")
"""


class MadeUpSlurm:
    """Commands of Slurm that answer what a test writes into their folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("sbatch", "squeue", "scontrol", "scancel", "sinfo", "srun"):
            path = folder / name
            path.write_text(COMMAND.format(python=sys.executable, folder=str(folder)))
            path.chmod(0o755)
        self.answers("")

    def answers(self, *texts: str) -> None:
        """What squeue answers, one text after the other, the last one for ever; of `none` it fails."""
        for old in self.folder.glob("answer*"):
            old.unlink()
        for number, text in enumerate(texts):
            (self.folder / f"answer{number:03}").write_text(text)

    def say(self, what: str) -> None:
        """`silent`: the next command fails; `full`: no second submission is taken."""
        (self.folder / what).touch()

    @property
    def calls(self) -> list[str]:
        """The commands that were called."""
        return (self.folder / "calls").read_text().splitlines()

    @property
    def scripts(self) -> list[str]:
        """The scripts that were submitted."""
        return [path.read_text() for path in sorted(self.folder.glob("*.sh"))]


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
