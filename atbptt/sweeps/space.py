"""What a search chooses from: the options that a command line gives a range or choices, and the rules of a search."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Sweep
from hydra.errors import HydraException
from omegaconf import DictConfig

from atbptt import config
from atbptt.config import Command
from atbptt.errors import ConfigError, require, require_choice, require_whole
from atbptt.runs import Dimension, Value

# The options of each sampler, and the least value of each. Optuna's others are functions, experimental, or not used.
SAMPLERS = {
    "optuna.samplers.TPESampler": {"seed": 0, "n_startup_trials": 0, "n_ei_candidates": 1},
    "optuna.samplers.RandomSampler": {"seed": 0},
}


@dataclass(frozen=True)
class SearchOptions:
    """The options of `hydra.sweeper`, named as in hydra-optuna-sweeper; see conf/hydra/sweeper/optuna.yaml.

    Raises:
        ConfigError: a value that breaks a rule.
    """

    sampler: dict[str, Any]
    n_trials: int
    n_jobs: int | None
    direction: str
    study_name: str | None
    max_failure_rate: float
    params: dict[str, Any] | None

    def __post_init__(self) -> None:
        require_whole("hydra.sweeper.n_trials", self.n_trials, 1)
        few = self.n_trials <= config.RUNS
        require(few, "hydra.sweeper.n_trials", self.n_trials, f"must be at most {config.RUNS:,}")
        if self.n_jobs is not None:
            require_whole("hydra.sweeper.n_jobs", self.n_jobs, 1)
        rule = "must be minimize: of every validation metric, lower is better"
        require(self.direction == "minimize", "hydra.sweeper.direction", self.direction, rule)
        rate = self.max_failure_rate
        fits = isinstance(rate, int | float) and not isinstance(rate, bool) and 0 <= rate <= 1
        require(fits, "hydra.sweeper.max_failure_rate", rate, "must be between 0 and 1")
        name = self.study_name
        if name is not None:
            config.check_folder_name("hydra.sweeper.study_name", name)
        fits = self.params is None or isinstance(self.params, dict)
        require(fits, "hydra.sweeper.params", self.params, "must be a range for each option: {lr: 'interval(0.1,30)'}")
        rule = "must be chosen by the group: hydra/sweeper/sampler=tpe or random"
        require(isinstance(self.sampler, dict), "hydra.sweeper.sampler", self.sampler, rule)
        # Others keep what they know in the study, which a search makes anew for each trial.
        require_choice("hydra.sweeper.sampler._target_", self.sampler.get("_target_"), SAMPLERS)
        least = SAMPLERS[self.sampler["_target_"]]
        for option, value in self.sampler.items():
            if option != "_target_":
                require_choice("hydra.sweeper.sampler", option, least)
                require_whole(f"hydra.sweeper.sampler.{option}", value, least[option])


@dataclass(frozen=True)
class Space:
    """A search: its options, and what its trials choose."""

    options: SearchOptions
    dimensions: dict[str, Dimension] = field(default_factory=dict)  # by the option, as typed
    fixed: list[str] = field(default_factory=list)  # overrides of all trials
    inits: list[str] = field(default_factory=list)  # `init=...` of the runs of each trial, if it is swept

    def jobs(self, params: Mapping[str, Value]) -> list[list[str]]:
        """The overrides of the runs of a trial."""
        chosen = [f"{key}={value}" for key, value in params.items()]
        return [[*self.fixed, *chosen, init] for init in self.inits] or [[*self.fixed, *chosen]]

    def corners(self) -> list[list[str]]:
        """Overrides of runs that have every choice, both ends of every range and a value in between."""
        count = max(3, *(len(each.choices) for each in self.dimensions.values()))
        found = [self.jobs({key: each.corner(n) for key, each in self.dimensions.items()}) for n in range(count)]
        return [jobs[0] for jobs in found]

    def definition(self) -> dict[str, Any]:
        """What distinguishes this search from others of the same runs."""
        return {
            "space": {key: asdict(each) for key, each in self.dimensions.items()},
            "sampler": self.options.sampler,
            "inits": self.inits,
        }


def read_space(hydra: Hydra, command: Command, shared: DictConfig) -> Space:
    """The search that a command line asks for (ConfigError); `shared` is composed without swept overrides."""
    given = config.plain(shared.hydra.sweeper)
    options = SearchOptions(**{name: given[name] for name in SearchOptions.__annotations__})
    parsed = config.parse(hydra, config.with_params(command, shared))
    last = {override.get_key_element(): override for override in parsed}  # one in `params` is replaced by one typed
    found = Space(options)
    for key, override in sorted(last.items()):
        if not override.is_sweep_override():
            continue
        if override.is_hydra_override():
            raise ConfigError(key, "cannot be searched: it changes no result")
        if key.lstrip("+") == "init":
            found.inits.extend(f"{key}={v}" for v in _dimension_of_choices(key, override, options.n_trials).choices)
        else:
            found.dimensions[key] = _dimension(key, override)
    found.fixed.extend(
        str(o.input_line) for o in parsed if o is last[o.get_key_element()] and not o.is_sweep_override()
    )
    if not found.dimensions:
        rule = "(=optuna) has nothing to choose: give an option a range, as in lr='tag(log,interval(0.1,30))'"
        raise ConfigError("hydra/sweeper", rule)
    return found


def _dimension(key: str, override: Override) -> Dimension:
    value = override.value()
    tags = set(value.tags) if isinstance(value, Sweep) else set()
    known = {"log"} if isinstance(value, IntervalSweep) else set()
    for tag in sorted(tags - known):
        raise ConfigError(key, f"has the tag {tag}: a search knows only log, of an interval")
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        found = Dimension(low=value.start, high=value.end, step=1 if whole and not tags else None, log=bool(tags))
        found.check(key)
        return found
    if isinstance(value, RangeSweep):
        config.value_count(override)  # says what is wrong with it
        numbers: Any = value.range()
        if not isinstance(numbers, range):
            config.check_runs([override])
            numbers = list(numbers)
        if numbers and numbers[0] != numbers[-1]:
            low, high = sorted((numbers[0], numbers[-1]))
            return Dimension(low=low, high=high, step=abs(value.step))
    return _dimension_of_choices(key, override)


def _dimension_of_choices(key: str, override: Override, each: int = 1) -> Dimension:
    """What the override names one by one, for `each` of so many trials."""
    if not override.is_interval_sweep():
        config.check_runs([override], each)
    try:
        choices = list(dict.fromkeys(map(str, override.sweep_string_iterator())))
    except HydraException as error:  # an interval
        raise ConfigError(key, "must be a list of values or a range to be averaged over") from error
    if not choices:
        raise ConfigError(str(override.input_line), "names no value: there is nothing to run")
    shuffled = getattr(override.value(), "shuffle", False)  # into another order in each command
    return Dimension(tuple(sorted(choices) if shuffled else choices))
