"""Reads run directories: data frames, statistics, tables, figures, a report. See `python -m analysis --help`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.errors import AnalysisError as AnalysisError

    from .loading import (
        Results as Results,
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
    from .statistics import (
        best_validation as best_validation,
        compare as compare,
        cumulative_best as cumulative_best,
        endings as endings,
        labels as labels,
        mean_curve as mean_curve,
        paired_differences as paired_differences,
        policies as policies,
        settings as settings,
        still_improving as still_improving,
        summarize as summarize,
        summarize_targets as summarize_targets,
        time_to_target as time_to_target,
    )
else:  # pandas takes longer to import than `python -m analysis status` takes in all
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
