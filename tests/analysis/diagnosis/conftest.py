"""A run to diagnose."""

from pathlib import Path

import pytest

from atbptt.training import StoredModel, open_stored_model
from tests.helpers.training import train


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs"), "truncation=adaptive", "truncation.K_max=20", "lr=3")


@pytest.fixture
def trained(directory: Path) -> StoredModel:
    return open_stored_model(directory)
