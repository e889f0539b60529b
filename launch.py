"""Compose runs from conf/, check all of them, run them: python launch.py -m truncation=adaptive lr=1,10"""

from atbptt.interrupts import end_silently

if __name__ == "__main__":
    end_silently()

import sys
from pathlib import Path

from atbptt.launch import launch

if __name__ == "__main__":
    launch(sys.argv[1:], Path(__file__).resolve().parent / "conf")
