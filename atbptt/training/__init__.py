"""One run: what its config describes, trained to its budget."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.training.costs import Costs as Costs
    from atbptt.training.devices import (
        check_device as check_device,
        configure_torch as configure_torch,
        parallel_jobs as parallel_jobs,
    )
    from atbptt.training.experiment import build as build, build_task as build_task, run as run
    from atbptt.training.stored_model import (
        WHICH as WHICH,
        StoredModel as StoredModel,
        open_stored_model as open_stored_model,
    )
    from atbptt.training.trainer import Parts as Parts, Trainer as Trainer
    from atbptt.training.trust import Trust as Trust
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
