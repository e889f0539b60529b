"""Compose runs from conf/, check all of them, run them: python launch.py -m truncation=adaptive lr=1,10"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

for _descriptor in range(3):  # else the next file would get its number, and what is printed
    try:
        os.fstat(_descriptor)
    except OSError:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115

# Importing takes seconds, in which Ctrl-C ends this at once; an exception would wait for torch's native code.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from atbptt.system import needed_by  # noqa: E402

with needed_by("python launch.py"):
    import hydra
    from omegaconf import DictConfig

    from atbptt.sweeps import leave, main

CONF = Path(__file__).resolve().parent / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def show(config: DictConfig) -> None:
    """Have Hydra answer --help, --info and --shell-completion."""


if __name__ == "__main__":
    leave(main(sys.argv[1:], CONF, show))
