"""The files of runs and sweeps."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.runs.checkpoints import (
        CheckpointError as CheckpointError,
        DamagedError as DamagedError,
        check_id as check_id,
        fitting as fitting,
        read_checkpoint as read_checkpoint,
    )
    from atbptt.runs.directory import BusyError as BusyError, RunDirectory as RunDirectory
    from atbptt.runs.provenance import Origin as Origin
    from atbptt.runs.search import (
        Dimension as Dimension,
        SearchRecord as SearchRecord,
        Trial as Trial,
        Value as Value,
        best_value as best_value,
        read_search as read_search,
        write_search as write_search,
    )
    from atbptt.runs.status import (
        BUDGET as BUDGET,
        LATEST as LATEST,
        STALE as STALE,
        STATES as STATES,
        UNKNOWN as UNKNOWN,
        WAITING as WAITING,
        RunStatus as RunStatus,
        checked as checked,
        duration_text as duration_text,
        read_run as read_run,
        read_status as read_status,
        reason as reason,
        result_text as result_text,
    )
    from atbptt.runs.sweep import (
        Job as Job,
        made_sweep as made_sweep,
        planned as planned,
        read_plan as read_plan,
        recorded as recorded,
    )
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
