"""`python -m atbptt.datasets fetch NAME`: see `atbptt.datasets.command`."""

import signal
import sys

from atbptt.system import needed_by

if __name__ == "__main__":
    # A scheduler's or a shell's end of the session is a Ctrl-C: it leaves what the next call continues.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with needed_by("python -m atbptt.datasets"):
        from atbptt.datasets.command import main

        sys.exit(main())
