"""Imported by the process that runs are forked from (see `process`), and by no other.

It imports once what every run needs, and computes nothing: a thread or a GPU's context would not survive the fork. For
the same reason a user's own module must not use the GPU while it is imported.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
from multiprocessing import spawn

# A signal to all processes of a terminal or of a job is meant for the runs, which store a checkpoint first.
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # whether there is a GPU, without a context on it

from atbptt.sweeps.process import WANTED_VARIABLE  # noqa: E402  (takes seconds, in which a signal may come)

_wanted = json.loads(os.environ[WANTED_VARIABLE])
sys.path[:] = _wanted["path"]  # Python's fork server does not have the folder of the script
for _module in _wanted["modules"]:
    with contextlib.suppress(Exception):  # the run that needs it will say so
        importlib.import_module(_module)
if _wanted["script"] is not None:  # Python imports it in every new process, unless it is there
    with contextlib.suppress(Exception):
        spawn.import_main_path(_wanted["script"])
