"""From run directories and compacted folders to data frames."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.loading.compacting import compact as compact
    from analysis.loading.finding import own_id as own_id
    from analysis.loading.frames import (
        RunsWarning as RunsWarning,
        load as load,
        load_gradients as load_gradients,
        load_metrics as load_metrics,
        load_options as load_options,
        load_positions as load_positions,
        load_predictions as load_predictions,
        load_status as load_status,
    )
    from analysis.loading.options import asked_on_command_line as asked_on_command_line
    from analysis.loading.provenance import environment as environment
    from analysis.loading.results import Results as Results
    from atbptt.runs.schema import ID as ID
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
