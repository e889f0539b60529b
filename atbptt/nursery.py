"""Imported by the process that runs are forked from (see `isolation`), and by no other.

It imports once what every run needs, and computes nothing: a thread or a GPU's context would not survive the fork.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys

# A signal to all processes of a terminal or of a job is meant for the runs, which store a checkpoint first.
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)

from atbptt.isolation import WANTED_VARIABLE  # noqa: E402  (takes seconds, in which a signal may come)

_wanted = json.loads(os.environ[WANTED_VARIABLE])
sys.path[:] = _wanted["path"]  # Python's fork server does not have the folder of the script
for _module in _wanted["modules"]:
    with contextlib.suppress(Exception):  # the run that needs it will say so
        importlib.import_module(_module)
