"""The command `python -m atbptt.probe` of earlier versions: names its successor.

It cannot be imported: `atbptt.probe` is the library's function.
"""

import shlex
import sys

from atbptt.errors import printable

if __name__ != "__main__":
    raise ImportError("atbptt.probe is a function of the library: from atbptt import probe")
sys.exit(printable(f"error: this command is now: python -m analysis probe {shlex.join(sys.argv[1:])}"))
