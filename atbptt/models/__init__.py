"""Recurrent models: their protocol, and those of the published experiments."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.models.batch_first import time_first as time_first, turned as turned, turned_loss as turned_loss
    from atbptt.models.losses import (
        LossFunction as LossFunction,
        both_counted as both_counted,
        counted_by as counted_by,
        counted_of as counted_of,
        cross_entropy as cross_entropy,
        losses_of as losses_of,
        mean_loss as mean_loss,
        share_counted as share_counted,
        shares_of as shares_of,
        steps_at_once as steps_at_once,
    )
    from atbptt.models.memory import TRIED_STEPS as TRIED_STEPS
    from atbptt.models.modes import (
        evaluating as evaluating,
        flushing_subnormals as flushing_subnormals,
        frozen as frozen,
        native_layers as native_layers,
        preserved as preserved,
        thawed as thawed,
    )
    from atbptt.models.nested import (
        Nested as Nested,
        at as at,
        axes as axes,
        joined as joined,
        kinds as kinds,
        map_tensors as map_tensors,
        ordered_as as ordered_as,
        tensors as tensors,
    )
    from atbptt.models.networks import PointProcessNetwork as PointProcessNetwork, RecurrentNetwork as RecurrentNetwork
    from atbptt.models.point_process import log_density as log_density, mean_interval as mean_interval
    from atbptt.models.recurrent import (
        Halves as Halves,
        Recurrent as Recurrent,
        check_outputs as check_outputs,
        check_recurrent as check_recurrent,
        check_state as check_state,
        check_streams as check_streams,
        halves as halves,
        output_of_step as output_of_step,
        pair_of as pair_of,
        starting_state as starting_state,
        widened as widened,
    )
    from atbptt.models.states import (
        State as State,
        begun_anew as begun_anew,
        detach as detach,
        differentiable as differentiable,
        leaves as leaves,
        recur_anew as recur_anew,
        resetting as resetting,
    )
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
