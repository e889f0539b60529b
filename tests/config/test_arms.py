from pathlib import Path

import pytest

from atbptt.config.jobs import Shared
from atbptt.config.settings import validated
from atbptt.errors import ConfigError
from tests.config.conftest import Opened


@pytest.mark.parametrize(
    ("arguments", "policies"),
    [
        ("arm=K7", [("fixed", 7)]),
        ("-m arm=K10,K11,delta0.33,delta2", [("fixed", 10), ("fixed", 11), ("adaptive", 0.33), ("adaptive", 2)]),
        ("-m arm=choice(K12,delta.5,delta1e-2)", [("fixed", 12), ("adaptive", 0.5), ("adaptive", 0.01)]),
        ("-m experiment=armed", [("fixed", 13), ("adaptive", 0.45)]),  # swept by an experiment's file
        ("arm=K14 truncation.K=15", [("fixed", 15)]),
        ("-m arm=K16,mine", [("fixed", 160), ("adaptive", 0.25)]),  # the user's own files
    ],
)
def test_an_arm_takes_any_number(
    opened: Opened, tmp_path: Path, arguments: str, policies: list[tuple[str, float]]
) -> None:
    for name, text in {
        "arm/K16": "# @package _global_\ndefaults: [override /truncation: fixed]\ntruncation: {K: 160}\n",
        "arm/mine": "# @package _global_\ndefaults: [override /truncation: adaptive]\ntruncation: {delta: 0.25}\n",
        "experiment/armed": "# @package _global_\nhydra: {sweeper: {params: {arm: 'K13,delta0.45'}}}\n",
    }.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).with_suffix(".yaml").write_text(text)
    hydra, command, batch = opened(f"--config-dir={tmp_path}/own", *arguments.split())
    shared = Shared(hydra, command)
    made = [validated(shared.config(overrides)).truncation for overrides in batch]
    assert [(each["name"], each["K" if each["name"] == "fixed" else "delta"]) for each in made] == policies


FORMS = r"it is K with a length, as K15, or delta with a relative bias, as delta0.9"


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("fast", rf"^arm \(=fast\) is no option; {FORMS}$"),
        ("K7.5", rf"^arm \(=K7.5\) is no option; {FORMS}$"),
        ("delta-1", rf"^arm \(=delta-1\) is no option; {FORMS}$"),
        ("xK7", rf"^arm \(=xK7\) is no option; {FORMS}$"),
        ("5", r"^arm \(=5\) must be K with a length, as K15, or delta "),
    ],
)
def test_another_name_is_refused_with_the_two_forms(opened: Opened, arm: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(f"arm={arm}")


def test_an_arm_that_was_made_is_forgotten(opened: Opened, tmp_path: Path) -> None:
    """Hydra takes no file of a name that it knows otherwise, as of a user's later command in the same process."""
    opened("arm=K7")
    (tmp_path / "arm").mkdir()
    (tmp_path / "arm" / "K7.yaml").write_text("# @package _global_\nlr: 7.0\n")
    hydra, command, (overrides,) = opened(f"--config-dir={tmp_path}", "arm=K7")
    assert Shared(hydra, command).config(overrides)["lr"] == 7
