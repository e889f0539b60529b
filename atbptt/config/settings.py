"""The schema and rules of a composed config, and the id of an experiment."""

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, field_validator

from atbptt import earlier
from atbptt.config.components import SUPPLIED, Component, component, errors_of, rule_of
from atbptt.errors import ConfigError, did_you_mean, listed, printable, require, require_64_bits, require_choice, show
from atbptt.probes import FORMER_NAMES, ProbeSettings, renamed
from atbptt.randomness import seed_global
from atbptt.system import FILE_NAME_BYTES, is_file_name
from atbptt.truncation import Policy, completed
from atbptt.windows import LR_SCALINGS, PHASES, SCHEMES

DEVICES = ("auto", "cpu", "cuda")
NO_PROBES = "none"  # in the place of the section `probe`
GLOBAL = ("experiment", "size", "arm")  # groups whose files set options of any section
PROBLEMS = 20  # in a message
HASH_DIGITS = 8  # of 64: enough to tell versions apart
NOTED = ("notes", "tags")  # describe runs: others make no other run
NOTES_LENGTH, TAG_LENGTH, TAGS = 1000, 50, 20  # at most: characters, characters of one, number


class Section(BaseModel):
    """A part of the config: unknown keys are errors, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DeviceSettings(Section):
    """Where to compute; see conf/device/."""

    type: str
    threads: int = Field(ge=1, le=1024)
    jobs_per_gpu: int = Field(ge=1, le=64)


class Settings(Section):
    """The whole config of a run; see conf/config.yaml."""

    name: str
    output_dir: str
    notes: str | None = None  # None is what the run's directory has, which a new one has not
    tags: list[str] | None = None  # likewise
    lr: float = Field(gt=0)
    lr_scaling: str
    clip_norm: float | None = Field(gt=0)
    scheme: str
    phase: str = "fixed"  # stored configs of earlier versions have none
    seed: int = Field(ge=0)
    init: int = Field(ge=0)
    epochs: float = Field(gt=0)
    seconds: float | None = Field(gt=0)
    patience: float | None = Field(default=None, gt=0)  # as phase
    evaluate_every: float = Field(gt=0)
    monitor: str | None
    probe: ProbeSettings | None  # none of them with probe=none
    device: DeviceSettings
    model: dict[str, Any]
    dataset: dict[str, Any]
    truncation: dict[str, Any]
    optimizer: dict[str, Any]
    lr_decay: dict[str, Any]

    def component(self, group: str) -> Component:
        return component(group, getattr(self, group))

    @field_validator("probe", mode="before")
    @classmethod
    def _probe_by_present_names(cls, value: Any) -> Any:
        if value == NO_PROBES:
            return None
        if not isinstance(value, Mapping | ProbeSettings):
            raise ValueError(f"must be {NO_PROBES}, or options as in conf/probe/default.yaml")
        return renamed(value) if isinstance(value, Mapping) else value

    @field_validator("truncation", mode="before")
    @classmethod
    def _policy_with_defaults(cls, value: Any) -> Any:
        return earlier.with_defaults(dict(value)) if isinstance(value, Mapping) else value

    @field_validator("lr_decay", mode="before")
    @classmethod
    def _schedule_with_class(cls, value: Any) -> Any:
        return earlier.with_class(value) if isinstance(value, str) else value

    @field_validator("tags", mode="before")
    @classmethod
    def _one_tag_or_several(cls, value: Any) -> Any:
        tags = value if isinstance(value, list | tuple) or value is None else [value]
        if tags and all(type(tag) in (str, int) for tag in tags):
            return list(dict.fromkeys(str(tag).strip() for tag in tags))
        return tags

    @field_serializer("probe")
    def _probe_by_stored_names(self, probe: ProbeSettings | None) -> dict[str, Any] | str:
        if probe is None:
            return NO_PROBES
        stored = {name: former for former, name in FORMER_NAMES.items()}
        return {stored.get(name, name): value for name, value in asdict(probe).items()}

    @property
    def experiment_id(self) -> str:
        """12 hex characters of a hash of all settings that decide the result.

        The budget is left out, so that raising `epochs` continues a run, as are device, output folder, name, notes and
        tags, the monitor unless the learning rate depends on it, and options that came later where they do as earlier
        versions did. An argument named `path` counts by the content of its files, a user's class by its code.
        """
        where_and_how_long = {"name", "output_dir", *NOTED, "epochs", "seconds", "patience", "device"}
        if not self.component("lr_decay").may_have("validated"):
            where_and_how_long.add("monitor")
        decisive = self.model_dump(exclude=where_and_how_long)
        for name, value in earlier.OPTIONS.items():
            if decisive[name] == value:
                del decisive[name]
        for group in SUPPLIED:
            part = self.component(group)
            decisive[group] = {"_target_": part.target, **part.arguments}
            for name, value in earlier.later_arguments(part.target, part.arguments).items():
                if decisive[group].get(name, ...) == value:
                    del decisive[group][name]
            if (digest := part.data_digest()) is not None:
                decisive[group]["path"] = digest
            if (digest := part.code_digest()) is not None:
                decisive.setdefault("code", {})[group] = digest
        decisive["lr_decay"] = earlier.former_name(decisive["lr_decay"])
        canonical = json.dumps(decisive, sort_keys=True, default=str)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def budget_spent(self, epoch: float, train_seconds: float, waited: float = 0.0) -> bool:
        """Whether training ends; `waited` are the epochs from the best to the latest evaluation."""
        in_time = self.seconds is None or train_seconds < self.seconds
        return epoch >= self.epochs or not in_time or self.out_of_patience(waited)

    def out_of_patience(self, waited: float) -> bool:
        return self.patience is not None and waited >= self.patience

    def sources(self) -> dict[str, bytes]:
        """The content of the user's Python modules that the classes need, by their paths: `package/module.py`."""
        found = (source for group in SUPPLIED for source in self.component(group).sources().values())
        return {source.path: source.content for source in found if source.path.endswith(".py")}

    def hashes(self) -> dict[str, str]:
        """`<group>.code_hash` where there is code of the user's, and `<group>.data_hash` of an argument `path`."""
        found = {}
        for group in SUPPLIED:
            part = self.component(group)
            if (code := part.code_digest()) is not None:
                found[f"{group}.code_hash"] = code[:HASH_DIGITS]
            if (data := part.data_digest()) is not None:
                found[f"{group}.data_hash"] = hashlib.sha256(data.encode()).hexdigest()[:HASH_DIGITS]
        return found

    def changes(self, hashes: Mapping[str, str]) -> dict[str, str]:
        """What has changed since there were these `hashes`: `dataset.path` -> `(=folder) holds other data`."""
        now, found = self.hashes(), {}
        for group, _, kind in (key.partition(".") for key in sorted({*now, *hashes})):
            if now.get(f"{group}.{kind}") != hashes.get(f"{group}.{kind}"):
                leaf, rule = ("path", "holds other data") if kind == "data_hash" else ("_target_", "has other code")
                found[f"{group}.{leaf}"] = f"(={getattr(self, group).get(leaf)}) {rule}"
        return found

    def noted(self) -> dict[str, str]:
        """Notes and tags as options, if there are any; tags are one text: `night, long`."""
        texts = {"notes": self.notes, "tags": ", ".join(self.tags or ())}
        return {name: text for name, text in texts.items() if text}

    def options(self) -> dict[str, Any]:
        """Every option by its dotted name, without nulls; a group's own name is that of its choice.

        `probe` is `default`, or `none` without its section. The `hashes` tell versions of code and data apart.
        """
        tree: dict[str, Any] = self.model_dump()
        flat: dict[str, Any] = {"experiment_id": self.experiment_id, **self.hashes(), "probe": "default"}
        for group in SUPPLIED:
            part = self.component(group)
            flat[group] = part.name
            tree[group] = {"_target_": part.target, **part.arguments}
        tree |= {"notes": None, "tags": None, **self.noted()}
        flat.update((key, value) for key, value in flattened(tree) if value is not None)
        return flat


def validated(config: Mapping[str, Any]) -> Settings:
    """A composed config as typed settings, whose classes and arguments are checked (ConfigError)."""
    settings = typed(config)
    check_components(settings)
    return settings


def check_components(settings: Settings) -> None:
    """Raise a `ConfigError` if a class of the settings cannot be imported or does not take its arguments."""
    for group in SUPPLIED:
        settings.component(group)


def typed(config: Mapping[str, Any]) -> Settings:
    """A composed config as typed settings, without importing its classes; a `ConfigError` lists all broken rules."""
    for key, value in flattened(config):
        group = key.partition(".")[0]
        number = group in Settings.model_fields and group not in SUPPLIED  # or text, but no truth value
        require(not (number and isinstance(value, bool)), key, value, "must not be a truth value")
        require_64_bits(key, value)
    try:
        settings = Settings.model_validate(config)
    except ValidationError as error:
        problems = error.errors()
        (name, rule), *others = [_explained(problem) for problem in problems[:PROBLEMS]]
        more = [f"and {len(problems) - PROBLEMS} more"] * (len(problems) > PROBLEMS)
        raise ConfigError(name, "\n".join([rule, *(" ".join(other) for other in others), *more])) from error
    check_folder_name("name", settings.name)
    folder = settings.output_dir
    require(folder.strip() != "", "output_dir", folder, "must be a folder; . is where you are")
    rule = "must be the path of a folder, without control characters or bytes that are no UTF-8"
    require(_is_text(folder) and printable(folder) == folder, "output_dir", folder, rule)
    _check_notes(settings.notes or "", settings.tags or [])
    require_choice("scheme", settings.scheme, SCHEMES)
    require_choice("phase", settings.phase, PHASES)
    require_choice("lr_scaling", settings.lr_scaling, LR_SCALINGS)
    require_choice("device.type", settings.device.type, DEVICES)
    return settings


def check_folder_name(name: str, value: Any) -> None:
    """Raise a `ConfigError` unless a setting can be the name of a folder that is seen and typed as it is."""
    fits = is_file_name(value) and not value.startswith(".") and value == value.strip()
    rule = "must be the name of a folder, without / or \\, control characters, a dot before or blanks around it"
    require(fits, name, value, f"{rule}, and of at most {FILE_NAME_BYTES} bytes")


def _check_notes(notes: str, tags: list[str]) -> None:
    rule = f"must have at most {NOTES_LENGTH} characters, no control characters but new lines"
    require(len(notes) <= NOTES_LENGTH and _is_text(notes.replace("\n", "")), "notes", repr(notes[:40]), rule)
    require(len(tags) <= TAGS, "tags", f"{len(tags)} tags", f"must be at most {TAGS}")
    rule = f"must each have 1 to {TAG_LENGTH} characters, no comma, no control characters"
    for tag in tags:
        fits = 1 <= len(tag) <= TAG_LENGTH and "," not in tag and _is_text(tag)
        require(fits, "tags", repr(tag[: TAG_LENGTH + 1]), rule)


def _is_text(value: str) -> bool:
    """Whether there are no control characters, nor bytes that are no UTF-8."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in value)


def build_policy(settings: Settings) -> Policy:
    """The policy of a run, checked against its protocol (ConfigError)."""
    seed_global("policy", settings.seed)
    given = settings.component("truncation").build()
    with errors_of("truncation", f"is no policy that can be used, {type(given).__name__}"):
        return completed(given)


def check_probing(settings: Settings, policy: Policy) -> None:
    """Raise a `ConfigError` for a policy that needs probes in a run without any."""
    name = settings.component("truncation").name
    rule = f"must be default with truncation={name}, which needs probes; fixed, for one, needs none"
    require(settings.probe is not None or not policy.probes, "probe", NO_PROBES, rule)


def flattened(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a tree by their dotted names; lists as JSON."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{key}", json.dumps(value)
        else:
            yield f"{prefix}{key}", value


def _explained(problem: Any) -> tuple[str, str]:
    path = [show(str(part)) for part in problem["loc"]]
    name = ".".join(path)
    if isinstance(error := problem.get("ctx", {}).get("error"), ConfigError):  # of ProbeSettings
        return f"{name}.{error.name}", error.rule
    if name in GLOBAL:
        return name, "is no section: the first line of its file must be `# @package _global_`"
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        section: Any = Settings
        for part in path[:-1]:
            section = section.model_fields[part].annotation
            section = next(iter(get_args(section)), section)  # of one that may be none
        options = list(section.__annotations__)
        return name, f"is no option{did_you_mean(path[-1], options)}; the options are {listed(options)}"
    if problem["type"] == "missing":
        return name, "is missing"
    return name, f"(={show(problem['input'])}) {rule_of(problem)}"
