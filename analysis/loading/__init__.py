"""From run directories and compacted folders to data frames."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.runs.schema import ID as ID

    from .compacting import compact as compact
    from .finding import own_id as own_id
    from .frames import (
        RunsWarning as RunsWarning,
        load as load,
        load_gradients as load_gradients,
        load_metrics as load_metrics,
        load_options as load_options,
        load_positions as load_positions,
        load_predictions as load_predictions,
        load_status as load_status,
        load_trials as load_trials,
    )
    from .options import asked_on_command_line as asked_on_command_line
    from .provenance import environment as environment
    from .results import Results as Results
    from .searches import Search as Search
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
