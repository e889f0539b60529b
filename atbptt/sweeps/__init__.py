"""From a command line to running jobs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.sweeps.command import leave as leave, main as main
    from atbptt.sweeps.launching import job as job
    from atbptt.sweeps.planning import compose as compose, plan as plan
    from atbptt.sweeps.process import RunProcess as RunProcess
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
