from __future__ import annotations

from pathlib import Path

import pytest

from atbptt import schema
from atbptt.command import ended
from atbptt.isolation import Outcome
from atbptt.status import STALE, WAITING, RunStatus


def status(state: str, why: str | None = None) -> RunStatus:
    return RunStatus(Path(), state, "id", why)


@pytest.mark.parametrize(
    ("found", "told", "expected"),
    [
        (status(schema.FAILED, "ValueError: no"), Outcome("failed", "told"), (schema.FAILED, "ValueError: no")),
        (status(schema.INTERRUPTED, "SIGTERM at epoch 1"), None, (schema.INTERRUPTED, "SIGTERM at epoch 1")),
        (status(STALE, "killed at epoch 1.5"), None, (schema.FAILED, "killed at epoch 1.5")),
        (
            status(STALE, "killed at epoch 1.5"),
            Outcome("failed", "StorageError: full"),
            (schema.FAILED, "killed at epoch 1.5; StorageError: full"),
        ),
        (status(WAITING), Outcome("failed", "StorageError: full"), (schema.FAILED, "StorageError: full")),
        (status(WAITING), None, (schema.FAILED, "never started")),
    ],
)
def test_why_a_run_is_not_finished_is_said_by_its_directory_or_by_who_launched_it(
    found: RunStatus, told: Outcome | None, expected: tuple[str, str]
) -> None:
    assert ended(found, told) == expected
