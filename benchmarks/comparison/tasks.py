"""What is compared: the tasks, and the settings of every policy."""

from collections.abc import Mapping
from dataclasses import dataclass

SCHEMES = ("tf", "original-buffer")
PHASES = ("random", "fixed")
# Steps of the lr grid; further ones are tried until the best is not at the edge.
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)

Options = Mapping[str, object]  # of launch.py


@dataclass(frozen=True)
class ComparedTask:
    """A task on which policies are compared.

    Attributes:
        title: its heading in the page.
        options: of every run.
        lengths: fixed K, the shortest first (steps).
        longest: the largest K that the other policies may choose, the probe window (steps).
        probes_every: of the adaptive policies (epochs).
        rates: lr tried at first.
        inits: runs of every setting at its best lr, the windows' phase random.
        fixed_inits: the same with `phase=fixed`.
        choosing: the first of them, run at every lr.
    """

    name: str
    title: str
    options: Options
    lengths: tuple[int, ...]
    longest: int
    probes_every: float
    rates: tuple[float, ...]
    inits: int
    fixed_inits: int
    choosing: int

    def settings(self, scheme: str) -> list["Setting"]:
        """Every policy, with each choice of its own options."""
        short, long = self.lengths[1:3]
        clamp: Options = {"truncation.K_max": self.longest}
        # Those of the experiments would bring the published ones.
        own = {"truncation.K_init": 10, "truncation.K_min": 2, "truncation.as_published": "false"}
        adaptive: Options = {"truncation": "adaptive", **own, **clamp, "truncation.update_every": self.probes_every}
        by_bound: Options = {**adaptive, "truncation.estimator": "bound"}
        by_measure: Options = {**adaptive, "truncation.estimator": "measured"}
        # The first losses of a window of tf see few steps: so small a bias as 0.1 takes K beyond the probe window.
        small = 0.25 if scheme == "tf" else 0.1
        growth = float(str(self.options["epochs"])) / 3
        found = [
            *(Setting({"truncation": "fixed", "truncation.K": K}) for K in self.lengths),
            *(Setting({**by_bound, "truncation.delta": delta}) for delta in (0.9, 0.5)),
            *(Setting({**by_measure, "truncation.delta": delta}) for delta in (0.5, small)),
            *(Setting({"truncation": "variable", "truncation.base": base}) for base in (short, long)),
            Setting({"truncation": "warmup", "truncation.K_final": self.lengths[-1], "truncation.epochs": growth}),
            Setting({"truncation": "progress", **clamp}),
        ]
        if scheme == "tf":  # these two accept no other scheme, nor phase=random
            found.append(Setting({"truncation": "randomized", "truncation.length": short}, phases=("fixed",)))
            found.append(Setting({"truncation": "full", "truncation.window": 100}, phases=("fixed",)))
        return found


@dataclass(frozen=True)
class Setting:
    """A policy with its own options, apart from lr."""

    options: Options
    phases: tuple[str, ...] = PHASES  # the first is that in which its lr is chosen


_GENERATED: Options = {"probe.resamples": 0, "evaluate_every": 2}
_REAL: Options = {
    **_GENERATED,
    "size": "small",
    "lr_scaling": "sqrt",
    "probe.window": 60,
    "probe.tau": 45,
    "probe.positions": 4,
    "probe.kept_norm": "of_mean",
    "probe.fit_from": "null",
}
TASKS = {
    task.name: task
    for task in (
        ComparedTask(
            name="copy_variable",
            title="Copy, m from 4 to 8",
            options={"dataset": "copy_variable", **_GENERATED, "epochs": 30},
            lengths=(5, 8, 12, 20),
            longest=40,
            probes_every=1.0,
            rates=(1, 3, 10, 30),
            inits=9,
            fixed_inits=5,
            choosing=2,
        ),
        ComparedTask(
            name="copy_growing",
            title="Copy, m growing to 16",
            options={"dataset": "copy_growing", **_GENERATED, "epochs": 40},
            lengths=(5, 10, 20, 30),
            longest=40,
            probes_every=1.0,
            rates=(0.3, 1, 3, 10),
            inits=9,
            fixed_inits=5,
            choosing=2,
        ),
        ComparedTask(
            name="linear",
            title="Linear dynamical system with noise",
            options={"dataset": "linear", **_GENERATED, "epochs": 20},
            lengths=(2, 4, 8, 16),
            longest=40,
            probes_every=1.0,
            rates=(0.1, 0.3, 1, 3),
            inits=9,
            fixed_inits=5,
            choosing=2,
        ),
        ComparedTask(
            name="book_order",
            title="Book Order, two epochs",
            options={"experiment": "book_order", **_REAL, "epochs": 2, "evaluate_every": 0.25},
            lengths=(3, 6, 10, 20),
            longest=60,
            probes_every=0.1,
            rates=(0.1, 0.3, 1, 3),
            inits=5,
            fixed_inits=5,
            choosing=1,
        ),
        ComparedTask(
            name="ptb",
            title="Penn Treebank, small",
            options={
                "experiment": "ptb",
                **_REAL,
                "dataset.path": "data/ptb_small",
                "model.hidden": 100,
                "model.embedding": 100,
                "probe.probes": 1,
                "epochs": 4,
                "evaluate_every": 0.5,
            },
            lengths=(3, 5, 10, 20),
            longest=60,
            probes_every=0.2,
            rates=(1, 3, 10, 30),
            inits=5,
            fixed_inits=5,
            choosing=1,
        ),
    )
}
