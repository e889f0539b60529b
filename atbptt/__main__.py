"""The command `atbptt`, also as `python -m atbptt`: the sweeps, their analysis and the data sets under one name."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from atbptt.interrupts import end_silently

CONF = (Path(__file__).parent / "conf").resolve()
# The commands besides those of the analysis.
OTHERS = {
    "launch": "Train the runs that a command line asks for: atbptt launch -m truncation=adaptive lr=1,10",
    "fetch": "Download a published data set, or take it from copies: atbptt fetch ptb",
}


def main() -> NoReturn:
    """Run the command of `sys.argv` and end the process with its exit code."""
    end_silently()
    from atbptt.system import PROGRAM, end_process, needed_by, program

    sys.argv[0] = PROGRAM  # however it was started: in messages, and in what a sweep records
    command, *arguments = sys.argv[1:] or ["--help"]
    if command == "-sc":  # asked by Hydra's shell completion, of which `atbptt launch -sc install=bash` is the script
        command, arguments = "launch", [command, *arguments]
        if line := os.environ.get("COMP_LINE"):
            os.environ["COMP_LINE"] = line.replace(" launch ", " ", 1)
    if command == "launch":
        from atbptt.launch import launch

        try:
            sys.path.insert(0, os.getcwd())  # a user's classes are found as beside launch.py
        except FileNotFoundError:
            sys.exit("error: the folder where you are has been deleted")
        launch(arguments, CONF)
    with needed_by(program(command)):
        if command == "fetch":
            from atbptt.datasets.__main__ import main as fetch

            end_process(fetch([command, *arguments]))
        from atbptt.analysis.__main__ import main as analyse

        end_process(analyse([command, *arguments], OTHERS))


if __name__ == "__main__":
    main()
