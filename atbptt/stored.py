"""`atbptt.load`: stored runs in Python. Reading them takes what experiments need, which the library itself does not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atbptt.errors import AnalysisError, ConfigError, needs_extra, require_choice

if TYPE_CHECKING:
    from atbptt.training import StoredModel


def load(
    run: str | os.PathLike[str], which: str = "last", *, modules: Sequence[str] = (), trust: bool = False
) -> StoredModel:
    """The model, data and settings of a run, which may still be running.

    ```python
    found = atbptt.load("outputs/copy_fixed/0a1b2c3d4e5f", which="best")
    outputs, state = found.model(inputs, found.model.initial_state(batch))
    ```

    Nothing that the run's files name is run, but for classes that you allow: the run may be somebody else's.

    Arguments:
        run: its directory.
        which: `best`, the model at its best validation, or `last`.
        modules: top modules that may be imported besides those of atbptt and torch's optimizers (`("series",)`).
        trust: allow all classes that the run's config names.

    Raises:
        ConfigError: `which` is neither, a package is missing, or the run's config breaks a rule; for example, its data
            are gone.
        AnalysisError: it is no run's directory, has no such model or none that can be read, or a class is not trusted.
    """
    try:
        from atbptt.training import WHICH, Trust, open_stored_model
    except ModuleNotFoundError as error:
        raise ConfigError("load", needs_extra("experiments", error)) from error
    require_choice("which", which, WHICH)
    if Path(run).is_file():
        raise AnalysisError(f"{run}: must be a run's directory, in which `which` chooses the file")
    return open_stored_model(Path(run), Trust(trust, tuple(modules)), which)
