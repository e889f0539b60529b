"""Imports once what every run needs, in the process that runs are forked from (see `process`) and in no other.

It computes nothing: threads and a GPU's context do not survive a fork. For the same reason a user's module must not use
the GPU while it is imported.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
from multiprocessing import spawn

# A signal to all processes of a terminal or of a cluster's job is for the runs, which store a checkpoint first.
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # torch looks for GPUs without a context on one

from atbptt.config import user_sources  # noqa: E402  (takes seconds, in which a signal may come)
from atbptt.sweeps.process import WANTED_VARIABLE  # noqa: E402

_wanted = json.loads(os.environ[WANTED_VARIABLE])
sys.path[:] = _wanted["path"]  # the fork server lacks the folder of the script
for _module in _wanted["modules"]:
    with contextlib.suppress(BaseException):  # the run that needs it reports it, if one does
        importlib.import_module(_module)
if _wanted["script"] is not None:  # else Python imports it in every run
    with contextlib.suppress(BaseException):
        spawn.import_main_path(_wanted["script"])
with contextlib.suppress(Exception):
    user_sources(_wanted["modules"])  # read once, now: the runs have the code as it was imported, whatever is edited
gc.freeze()  # no collector walks over all of this in every run, which would copy it, or when this process ends
