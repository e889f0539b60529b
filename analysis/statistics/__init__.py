"""Statistics of several runs: settings, best validation, intervals, curves, pairs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.statistics.curves import (
        AXES as AXES,
        compare as compare,
        cumulative_best as cumulative_best,
        mean_curve as mean_curve,
    )
    from analysis.statistics.pairs import paired_differences as paired_differences
    from analysis.statistics.summary import (
        COMPANIONS as COMPANIONS,
        GROUPED as GROUPED,
        ID as ID,
        KEY_OF_POLICY as KEY_OF_POLICY,
        Group as Group,
        best_validation as best_validation,
        comparable as comparable,
        described as described,
        format_value as format_value,
        labels as labels,
        natural as natural,
        options_of as options_of,
        policies as policies,
        settings as settings,
        summarize as summarize,
        validation_metrics as validation_metrics,
    )
    from analysis.statistics.targets import (
        default_target as default_target,
        summarize_targets as summarize_targets,
        time_to_target as time_to_target,
    )
    from analysis.statistics.uncertainty import INTERVAL_RUNS as INTERVAL_RUNS, LEVEL as LEVEL
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
