"""Statistics of several runs: settings, best validation, intervals, curves, pairs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .convergence import still_improving as still_improving
    from .curves import (
        AXES as AXES,
        clocks_of as clocks_of,
        compare as compare,
        cumulative_best as cumulative_best,
        mean_curve as mean_curve,
    )
    from .ending import (
        BETTER_FIRST as BETTER_FIRST,
        COMPLETE as COMPLETE,
        DIVERGED as DIVERGED,
        UNFINISHED as UNFINISHED,
        endings as endings,
    )
    from .options import (
        GROUPED as GROUPED,
        ID as ID,
        KEY_OF_POLICY as KEY_OF_POLICY,
        NO_PROBES as NO_PROBES,
        PROBE as PROBE,
        check_replicates as check_replicates,
        conditions as conditions,
        described as described,
        format_value as format_value,
        labels as labels,
        natural as natural,
        options_of as options_of,
        policies as policies,
        replicates as replicates,
        settings as settings,
    )
    from .pairs import as_good_as_best as as_good_as_best, paired_differences as paired_differences
    from .summary import (
        COSTS as COSTS,
        Group as Group,
        comparable as comparable,
        costs as costs,
        grouped as grouped,
        standing as standing,
        summarize as summarize,
    )
    from .targets import (
        default_target as default_target,
        summarize_targets as summarize_targets,
        time_to_target as time_to_target,
    )
    from .uncertainty import LEAST_RUNS as LEAST_RUNS, LEVEL as LEVEL
    from .validation import (
        COMPANIONS as COMPANIONS,
        best_validation as best_validation,
        is_perplexity as is_perplexity,
        of_test as of_test,
        validation_metrics as validation_metrics,
    )
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
