from __future__ import annotations

import pytest

from atbptt.system.command_line import needed_by


def test_a_missing_package_is_reported_with_what_to_install() -> None:
    with pytest.raises(SystemExit) as ended, needed_by("python -m atbptt.probe"):
        raise ModuleNotFoundError("No module named 'hydra.utils'", name="hydra.utils")
    assert ended.value.code == (
        "error: python -m atbptt.probe needs the packages of experiments: "
        'pip install "atbptt[experiments]" (hydra.utils is missing)'
    )


@pytest.mark.parametrize("error", [ModuleNotFoundError("gone", name="atbptt.nothing"), ImportError("half gone")])
def test_what_is_broken_otherwise_is_not_hidden(error: ImportError) -> None:
    with pytest.raises(type(error)), needed_by("python launch.py"):
        raise error
