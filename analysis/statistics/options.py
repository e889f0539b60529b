"""What tells runs apart: policy and options; and what replicates them: `init`."""

import re
from collections.abc import Iterator
from typing import Any

import pandas as pd

from atbptt.errors import AnalysisError
from atbptt.runs.schema import ENDED_BY, ID as ID, METRICS_SCHEMA

# The parameter that a policy's label always shows.
KEY_OF_POLICY = {
    "fixed": "K",
    "adaptive": "delta",
    "full": "window",
    "randomized": "length",
    "variable": "base",
    "warmup": "K_final",
}
GROUPED: dict[str, Any] = {"dropna": False, "sort": False, "observed": True}
NOT_SETTINGS = {
    ID,
    "init",
    "device",
    "monitor",
    "output_dir",
    "notes",
    "tags",
    ENDED_BY,
}  # replicates, and what changes no result
# What is asked, not what is chosen to answer it best: runs are compared where these are equal.
CONDITIONS = {"name", "dataset", "model", "scheme", "phase", "seed", "epochs", "seconds", "patience", "evaluate_every"}
PROBE, NO_PROBES = "probe", "none"  # the option of runs without probes, and its value
HASHES = "code_hash", "data_hash"  # of the source of a user's class, of the data at `path`


def options_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The options in a frame from `load`: a row per run, without the columns of the metrics."""
    metrics = {*METRICS_SCHEMA.names} - {ID}
    options = frame.loc[~frame[ID].duplicated(), [name for name in frame.columns if name not in metrics]]
    categories = options.select_dtypes("category")
    return options.astype({name: categories[name].cat.categories.dtype for name in categories}).reset_index(drop=True)


def settings(options: pd.DataFrame) -> list[str]:
    """The options, besides the truncation policy, that differ between runs; `options` is as from `load_options`.

    `init` (a replicate), notes, tags, the output folder and the device never count, nor a seed that changes exactly as
    `init` does (see `replicates`) or as `seed` does. An option of a group (`model.hidden`) counts if it differs between
    runs with the same choice (`model`). An option that only some policies have counts if it differs between the runs
    that have it, or within a policy. Data are told apart by their hash, by their path where each path has one hash and
    the reverse. Whether a run has probes counts only where it is all that tells two runs apart: it changes no result.
    """
    found = [name for name in options.columns if _differs(options, name)]
    redundant = {*_of_init(options), *_as_seed(options, found), *_as_path(options, found), *_as_init(options, found)}
    return [name for name in found if name not in redundant]


def conditions(options: pd.DataFrame) -> list[str]:
    """Those of `settings` under which policies are compared; the others, as lr, are chosen for each policy."""
    return [
        name
        for name in settings(options)
        if name in CONDITIONS or name.startswith("dataset.") or name.rpartition(".")[2] in ("seed", *HASHES)
    ]


def replicates(options: pd.DataFrame) -> str:
    """What differs between the runs of a setting: `init`, or `init and seed`; `runs` if that is unknown."""
    return "runs" if "init" not in options else "init and seed" if _of_init(options) else "init"


def policies(options: pd.DataFrame) -> pd.Series:
    """The truncation policy of each run: `fixed K=5`, `adaptive delta=0.9`. Indexed like `options`.

    The policy's key parameter, which only built-in policies have, comes first; then its options that differ between its
    runs.
    """
    names = choice(options, "truncation")
    labels = names.copy()
    own = [column for column in options.columns if column.startswith("truncation.")]
    redundant = {*_of_init(options), *_as_seed(options, own)}
    for name, runs in options.groupby(names, sort=False):
        key = f"truncation.{KEY_OF_POLICY.get(str(name), '')}"
        columns = [column for column in own if len(runs[column].unique()) > 1 and column not in redundant]
        if key in own:
            columns = [key, *(column for column in columns if column != key)]
        for column in columns:
            part = runs[column].map(lambda v, c=column: f" {c.removeprefix('truncation.')}={format_value(v)}")
            labels.loc[runs.index] += part.where(runs[column].notna(), "").astype(labels.dtype)
    return labels.rename("policy")


def labels(options: pd.DataFrame) -> pd.Series:
    """The policy of each run with the other options that vary: `fixed K=5, lr=10`. Indexed like `options`."""
    result = policies(options)
    for column in settings(options):
        part = options[column].map(lambda value, c=column: f", {c}={format_value(value)}")
        result += part.astype(result.dtype)
    return result.rename("setting")


def described(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per run: `experiment_id`, `policy`, and each option in `settings`."""
    options = options_of(frame)
    return options[[ID]].assign(policy=policies(options)).join(options[settings(options)])


def check_replicates(options: pd.DataFrame) -> None:
    """Raise an `AnalysisError` if two runs of a setting have the same `init`: they are no replicates of each other.

    Runs whose options tell all that decides their results cannot be such: these come from versions that did not store
    the hashes of data and code, or from elsewhere.
    """
    if "init" not in options:
        return
    keys = pd.DataFrame({"setting": labels(options), "init": options["init"]})
    twice = keys.duplicated(keep=False) & options["init"].notna()
    for (setting, init), same in options[twice].groupby([keys["setting"], keys["init"]]):
        raise AnalysisError(
            f"{ID} {' and '.join(same[ID])} are two runs of {setting} with init={init}: their options do not say what "
            "differs (data or code, perhaps), so they are no replicates; move one of them away"
        )


def format_value(value: object) -> str:
    """A value as it is typed: 5, 0.9, 1e-05, lstm; `-` for null. Different values look different."""
    if value is None or value is pd.NA or value != value:  # NaN
        return "-"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(float(value))
    return str(value)


def natural(label: str) -> list[tuple[float, str]]:
    """A sort key for labels that puts K=5 before K=10."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", label)
    return [(float(part), "") if index % 2 else (0.0, part) for index, part in enumerate(parts)]


def choice(options: pd.DataFrame, group: str) -> pd.Series:
    """The choice of a group (`truncation`) in each run, or `unknown`."""
    if group not in options:
        return pd.Series("unknown", index=options.index, name=group)
    return options[group].astype(str).where(options[group].notna(), "unknown")


def _differs(options: pd.DataFrame, name: str) -> bool:
    values, group = options[name], name.split(".")[0]
    if name in NOT_SETTINGS or group in {"truncation", "device"}:
        return False
    if len(values.unique()) < 2:
        return False
    within = group if name != group and group in options else "truncation"
    if within == "truncation" and len(values.dropna().unique()) > 1:
        return True
    return any(len(own.unique()) > 1 for _, own in values.groupby(choice(options, within)))


def _seeds(names: object) -> list[str]:
    return [str(name) for name in names if str(name).rpartition(".")[2] == "seed"]  # type: ignore[attr-defined]


def _of_init(options: pd.DataFrame) -> list[str]:
    """The seeds that change exactly as `init` does."""
    return [name for name in _seeds(options.columns) if "init" in options and _as_one(options, "init", name)]


def _as_seed(options: pd.DataFrame, names: list[str]) -> list[str]:
    """The seeds of groups that are the run's `seed` wherever there are."""
    if "seed" not in options:
        return []
    seed = options["seed"]
    return [n for n in _seeds(names) if n != "seed" and (options[n].isna() | (options[n] == seed).fillna(False)).all()]


def _as_path(options: pd.DataFrame, names: list[str]) -> Iterator[str]:
    """Of path and hash of the same data, the one that tells nothing more."""
    for path in (name for name in names if name.endswith(".path")):
        hashed = path.removesuffix("path") + "data_hash"
        pairs = options.reindex(columns=[path, hashed]).dropna(subset=path).drop_duplicates()
        if pairs[hashed].isna().any():  # of versions that did not store it
            continue
        if pairs[hashed].duplicated().any():  # the same data in several places
            yield path
        elif not pairs[path].duplicated().any():
            yield hashed


def _as_init(options: pd.DataFrame, names: list[str]) -> Iterator[str]:
    """Whether there are probes, where the others tell every two runs apart, with the policy and `init`."""
    of_policy = [name for name in options.columns if name.split(".")[0] == "truncation"]
    others = [name for name in [*of_policy, *names, "init"] if name != PROBE]
    if PROBE in names and "init" in options and not options.duplicated(others).any():
        yield PROBE


def _as_one(options: pd.DataFrame, name: str, other: str) -> bool:
    """Whether two options have several values, and each of one goes with one of the other."""
    pairs = options[[name, other]].dropna().drop_duplicates()
    return len(pairs) > 1 and not pairs[name].duplicated().any() and not pairs[other].duplicated().any()
