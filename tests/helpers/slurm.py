"""A Slurm that is made up: commands that answer what a test writes."""

import sys
from pathlib import Path

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
