"""Which runs of a sweep run, wait or failed, and why, read from its files."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.monitor.display import (
        STYLES as STYLES,
        print_status as print_status,
        seconds_left as seconds_left,
        watch_status as watch_status,
    )
    from atbptt.monitor.failures import print_failures as print_failures, trace_and_output as trace_and_output
    from atbptt.monitor.progress import Watch as Watch
    from atbptt.monitor.reading import (
        Reader as Reader,
        Report as Report,
        Run as Run,
        Sweep as Sweep,
        check_folders as check_folders,
        sweeps_with as sweeps_with,
        walk_folders as walk_folders,
    )
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
