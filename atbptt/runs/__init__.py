"""What runs and sweeps leave on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.runs.checkpoints import CheckpointError as CheckpointError, DamagedError as DamagedError, read as read
    from atbptt.runs.directory import BusyError as BusyError, RunDirectory as RunDirectory, read_status as read_status
    from atbptt.runs.provenance import Origin as Origin
    from atbptt.runs.schema import (
        ENVIRONMENT as ENVIRONMENT,
        FAILED as FAILED,
        FINISHED as FINISHED,
        GRADIENTS as GRADIENTS,
        GRADIENTS_SCHEMA as GRADIENTS_SCHEMA,
        INTERRUPTED as INTERRUPTED,
        INTERVAL as INTERVAL,
        LOCK as LOCK,
        METRICS as METRICS,
        METRICS_SCHEMA as METRICS_SCHEMA,
        OPTIONS as OPTIONS,
        OPTIONS_JSON as OPTIONS_JSON,
        OUTPUT as OUTPUT,
        PLAN as PLAN,
        POSITIONS as POSITIONS,
        POSITIONS_SCHEMA as POSITIONS_SCHEMA,
        PREDICTIONS as PREDICTIONS,
        PREDICTIONS_SCHEMA as PREDICTIONS_SCHEMA,
        RUNNING as RUNNING,
        STATUS as STATUS,
        SWEEPS as SWEEPS,
        TRACEBACK as TRACEBACK,
    )
    from atbptt.runs.status import (
        STALE as STALE,
        STATES as STATES,
        UNKNOWN as UNKNOWN,
        WAITING as WAITING,
        RunStatus as RunStatus,
        duration as duration,
        read_run as read_run,
        reason as reason,
        result as result,
    )
    from atbptt.runs.sweep import PLAN_VARIABLE as PLAN_VARIABLE, SweepDirectory as SweepDirectory, planned as planned
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
