"""Options that count for some of the swept choices only: -m truncation=fixed,adaptive truncation.K=5,10"""

from typing import Any

from omegaconf import AnyNode, DictConfig

from atbptt.config.explaining import option_names
from atbptt.config.jobs import Shared
from atbptt.errors import ConfigError, did_you_mean


def narrowed(shared: Shared, batch: list[list[str]]) -> tuple[list[list[str]], list[str]]:
    """The jobs, each without the options that its choice of a group lacks and another job's choice has.

    Returns also a remark for each of these options. Raises a `ConfigError` if none of several choices has it.
    """
    having: dict[str, dict[str, bool]] = {}  # whether an option exists, by its name and its group's choice
    examples: dict[tuple[str, str], DictConfig] = {}  # a config of each group's choice
    jobs: list[list[tuple[str, str, str]]] = []  # of each job: override, option, choice
    try:
        for overrides in batch:
            options = [(text, key) for text in overrides if (key := shared.option(text))]
            config = shared.composed(shared.choices(overrides)) if options else DictConfig({})
            jobs.append([])
            for text, key in options:
                group = key.partition(".")[0]
                choice = str(config.hydra.runtime.choices.get(group))
                examples.setdefault((group, choice), config)
                counts = having.setdefault(key, {})
                counts[choice] = counts.get(choice, False) or exists(config, key)
                jobs[-1].append((text, key, choice))
    except Exception:  # reported where the job is composed
        return batch, []
    remarks = []
    for key, counts in having.items():
        group = key.partition(".")[0]
        if len(counts) > 1 and not any(counts.values()):
            raise _nowhere(key, {choice: examples[group, choice] for choice in counts})
        if any(counts.values()) and not all(counts.values()):
            remarks.append(f"{key} counts for {group}={','.join(choice for choice in counts if counts[choice])} only")
    lacking = [{text for text, key, choice in job if len(having[key]) > 1 and not having[key][choice]} for job in jobs]
    return [[text for text in texts if text not in lost] for texts, lost in zip(batch, lacking, strict=True)], remarks


def exists(config: DictConfig, key: str) -> bool:
    """Whether a config has an option, so that it can be set."""
    node: Any = config
    for part in key.split("."):
        if isinstance(node, AnyNode) and not (node._is_interpolation() or node._is_none()):
            return False  # a value has none, as probe=none
        if not isinstance(node, DictConfig) or node._is_interpolation() or node._is_none():
            return True  # for Hydra to decide
        if part not in node.keys():  # noqa: SIM118  (`in node` denies a key without a value)
            return False
        node = node._get_node(part)
    return True


def _nowhere(key: str, examples: dict[str, DictConfig]) -> ConfigError:
    parent, _, leaf = key.rpartition(".")
    options = {choice: option_names(config, parent) for choice, config in examples.items()}
    known = ", ".join(f"of {parent}={choice} are {', '.join(names) or 'none'}" for choice, names in options.items())
    every = [name for names in options.values() for name in names]
    return ConfigError(key, f"is no option{did_you_mean(leaf, every)}; the options {known}")
