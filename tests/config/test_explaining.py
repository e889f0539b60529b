from pathlib import Path

import pytest

from atbptt.errors import ConfigError
from tests.config.conftest import Opened, composed

TABLE = [
    ("K=5", r"K \(=5\) is no option; did you mean truncation.K\?"),
    ("-m K=5,10", r"K \(=5\) is no option; did you mean truncation.K\?"),
    ("~K", r"K is no option; did you mean truncation.K\?"),
    ("hidden=32", r"hidden \(=32\) is no option; did you mean model.hidden\?"),
    ("batch_size=32", r"batch_size \(=32\) is no option; did you mean dataset.batch_size\?"),
    ("tau=5", r"tau \(=5\) is no option; did you mean probe.tau\?"),
    ("delta=0.5", r"delta \(=0.5\) is no option; did you mean truncation.delta, of truncation=adaptive\?"),
    ("truncation=adaptive delta=0.5", r"delta \(=0.5\) is no option; did you mean truncation.delta\?"),
    # Of a file that sets other options too, and of several choices.
    ("eps=1", r"eps \(=1\) is no option; did you mean optimizer.eps, of optimizer=adadelta,adam\?"),
    ("dataset=mine sizes=1", r"sizes is no option; .*the options are .*"),  # deeper, in a part of an option
    ("dataset=mine later=1", r"later \(=1\) is no option; did you mean dataset.later\?"),
    ("alpha=1", r"alpha \(=1\) is no option; did you mean truncation.alpha, of truncation=randomized\?"),
    ("dropot=0.5", r"dropot \(=0.5\) is no option; did you mean model.dropout\?"),
    # In two sections, and nearer to an option at the top.
    ("truncation=warmup +model.epoch=1 epoch=3", r"epoch is no option; did you mean epochs\?; the options are .*"),
    (
        "twin=1",
        r"twin \(=1\) is no option; did you mean model.twin, of model=mine or truncation.twin, of truncation=mine\?",
    ),
    ("lr_scal=none", r"lr_scal is no option; did you mean lr_scaling\?; the options are .*"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("+truncation=adaptive", "truncation is chosen already: truncation=... without [+] chooses another"),
        ("-m model=gru,null", "model [(]=null[)] must be one of gru, lstm, .*"),
        ("-m arm=K5,null", "arm [(]=null[)] must be K with a length, .*"),
    ],
)
def test_a_choice_that_cannot_be_made_is_named(opened: Opened, arguments: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        composed(opened, *arguments.split())


@pytest.mark.parametrize(("arguments", "message"), TABLE, ids=[arguments for arguments, _ in TABLE])
def test_an_option_without_its_section_is_answered_with_its_full_name(
    opened: Opened, users: Path, arguments: str, message: str
) -> None:
    for group in ("model", "truncation"):
        (users / "yaml" / group).mkdir(exist_ok=True)
        (users / "yaml" / group / "mine.yaml").write_text("twin: 1\n")
        (users / "yaml" / group / "broken.yaml").write_text("twin: [\n")
    with pytest.raises(ConfigError, match=f"^{message}$"):
        composed(opened, "--config-dir=USERS/yaml", *arguments.split())
