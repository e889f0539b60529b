"""A policy with its K or delta in one word: arm=K15, arm=delta0.9

Any number does: an arm without a file in conf/arm/ is made like one.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from hydra.core.config_store import ConfigStore

from atbptt.errors import ConfigError

GROUP = "arm"
FORMS = "K with a length, as K15, or delta with a relative bias, as delta0.9"
NUMBER = r"\d{1,20}\.?\d{0,20}(?:e-?\d{1,3})?|\.\d{1,20}"  # no file has a name of 300 digits
ARM = re.compile(rf"(?<![\w.-])(?:(K)(\d{{1,20}})|(delta)({NUMBER}))(?![\w.-])")


def make_arms(overrides: Iterable[str], folders: Iterable[Path]) -> None:
    """Let Hydra know the arms that overrides name, unless one of the folders has a file."""
    store = ConfigStore.instance()
    store.repo.pop(GROUP, None)  # of an earlier command: Hydra accepts no other file of the same name
    values = [text.partition("=")[2] for text in overrides if text.lstrip("+").startswith(f"{GROUP}=")]
    for match in ARM.finditer(" ".join(values)):
        if any((folder / GROUP / f"{match[0]}.yaml").is_file() for folder in folders):
            continue
        policy, option = ("fixed", {"K": int(match[2])}) if match[1] else ("adaptive", {"delta": float(match[4])})
        node = {"defaults": [{"override /truncation": policy}], "truncation": option}
        store.store(match[0], node, GROUP, package="_global_")


def beside_policy(error: ConfigError, overrides: Iterable[str]) -> ConfigError:
    """The error of an option of the policy; where an arm sets it beside truncation=, it says so."""
    chosen = {key: text for text in overrides if (key := text.lstrip("+").partition("=")[0]) in (GROUP, "truncation")}
    if not error.name.startswith("truncation.") or len(chosen) < 2:
        return error
    return ConfigError(error.name, f"{error.rule}; {chosen[GROUP]} and {chosen['truncation']} both choose the policy")
