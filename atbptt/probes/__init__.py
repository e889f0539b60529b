"""Probes: how much gradient reaches how far back, and how much of it truncation loses."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.probes.bias import (
        ESTIMATORS as ESTIMATORS,
        BiasEstimate as BiasEstimate,
        RelativeBias as RelativeBias,
        at_length as at_length,
        average_norms as average_norms,
        resampling_weights as resampling_weights,
    )
    from atbptt.probes.gradients import lag_gradients as lag_gradients
    from atbptt.probes.measurement import Measurement as Measurement, measure as measure, probe as probe
    from atbptt.probes.settings import (
        FORMER_NAMES as FORMER_NAMES,
        SCHEMES as SCHEMES,
        ProbeSettings as ProbeSettings,
        default_tau as default_tau,
        lengths_seen as lengths_seen,
        renamed as renamed,
    )
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
