"""The runs of the fixture `sweep`, and what reading them warns of."""

from __future__ import annotations

import pytest

from analysis import RunsWarning

ID = "experiment_id"
IDS = ["000000000001", "1e5000000000", "abcdefabcdef"]


def problems(caught: pytest.WarningsRecorder) -> list[str]:
    assert len(caught) == 1
    message = caught[0].message
    assert isinstance(message, RunsWarning)
    return message.problems
