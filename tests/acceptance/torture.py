"""Ends processes of a sweep at random moments and checks that nothing is lost: python -m tests.acceptance.torture

A sweep of small runs is launched, again and again when it has ended, while its processes get signals: runs, the process
they are forked from, and the launching process, also while it starts. Before some, the runs are asked for a checkpoint,
so that they continue from between two evaluations, too. After the last signal the command is repeated until it
succeeds. The results must be those of an undisturbed sweep, bit for bit except for times. On the way no run may train
without its lock, or live on when the command has ended.
"""

import argparse
import itertools
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from atbptt.runs import schema
from atbptt.system import locks
from tests.conftest import TINY
from tests.helpers.comparing import differences
from tests.helpers.launched import LAUNCHER, LOOK_SECONDS, RUN, SERVER, HangingError, Sweep

START_SECONDS = 4.0  # importing, composing, checking
DELAY_SECONDS = 0.2  # several epochs
GRACE_SECONDS = 20.0  # for all processes to end after the launching process
ATTEMPTS = 5  # of the command after the last kill
LAST_KILL = 0.8  # share of the sweep's steps: there must be something left to do
EVALUATE_EVERY = 5  # epochs, in which most kills fall
# Epochs before its end a run may end by itself: what is known of it may be so old. Where the launching process is to be
# killed, a run must have more than that ahead, after the delay, too.
NEAR, FAR = EVALUATE_EVERY + 3, 3 * (EVALUATE_EVERY + 3)

START = "launching process at its start"
# Kills that follow one another: a start needs a launching process that has ended.
ROUNDS = {"joblib": ((RUN,), (RUN,), (SERVER,), (LAUNCHER, START)), "basic": ((LAUNCHER,), (LAUNCHER, START))}
# One after the other: from a user or a scheduler, and when memory runs out.
SIGNALS = {
    RUN: (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT),
    SERVER: (signal.SIGKILL,),  # it ignores the others
    LAUNCHER: (signal.SIGKILL, signal.SIGTERM, signal.SIGINT),
    START: (signal.SIGINT, signal.SIGKILL, signal.SIGTERM),
}

# Fixed and adaptive, with and without dropout, optimizers with and without a state. An adaptive K depends on the one
# before. With a high learning rate, the best evaluation is not the last.
ARMS = {
    "K3": "defaults: [override /truncation: fixed, override /optimizer: momentum]\ntruncation: {K: 3}\nlr: 3",
    "delta0.5_dropout": "defaults: [override /truncation: adaptive, override /optimizer: adam]\n"
    "truncation: {delta: 0.5, max_factor: 1.1, update_every: 0.7}\nmodel: {dropout: 0.2}\nlr: 0.01",
    "measured": "defaults: [override /truncation: adaptive]\n"
    "truncation: {estimator: measured, max_factor: 1.1, update_every: 1.5}",
    "delta0.9": "defaults: [override /truncation: adaptive, override /optimizer: momentum]\n"
    "truncation: {max_factor: 1.1}\nlr: 3",
    "K10_dropout": "defaults: [override /truncation: fixed, override /optimizer: adam]\n"
    "model: {dropout: 0.2}\nlr: 0.01",
}

Tell = Callable[[str], None]  # shows a line of progress


class TortureError(Exception):
    """The sweep ended in an unexpected way."""


class Kill(NamedTuple):
    """A signal to a process, `seconds` after a share `progress` of all steps, or after the launching process began."""

    kind: str
    number: signal.Signals
    progress: float
    seconds: float
    store: bool  # whether the runs are asked for a checkpoint `seconds` before


def planned(kills: int, rng: random.Random, launcher: str) -> list[Kill]:
    """Kills in shuffled rounds, spread over the sweep."""
    chosen = ROUNDS[launcher]
    rounds = list(chosen) * -(-kills // sum(map(len, chosen)))
    rng.shuffle(rounds)
    kinds = list(itertools.chain(*rounds))[:kills]
    moments = sorted(rng.uniform(0, LAST_KILL) for _ in kinds)
    numbers = {kind: itertools.cycle(each) for kind, each in SIGNALS.items()}
    return [
        Kill(
            kind,
            next(numbers[kind]),
            moment,
            rng.uniform(0, START_SECONDS if kind == START else DELAY_SECONDS),
            kind != START and rng.random() < 0.5,
        )
        for kind, moment in zip(kinds, moments, strict=True)
    ]


def arguments(folder: Path, count: int, epochs: int) -> list[str]:
    """The arguments of a sweep of `count` runs, whose arms are stored in `folder`."""
    arms = folder / "conf" / "arm"
    arms.mkdir(parents=True)
    for name, text in ARMS.items():
        (arms / f"{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    inits, rest = divmod(count, 2 * len(ARMS))
    if rest or not inits:
        raise SystemExit(f"--runs (={count}) must be a multiple of {2 * len(ARMS)}")
    swept = [f"arm={','.join(ARMS)}", "lr_scaling=none,sqrt", f"init=range({inits})"]
    return ["--config-dir", str(arms.parent), *TINY, f"epochs={epochs}", f"evaluate_every={EVALUATE_EVERY}", *swept]


class Disturbance:
    """Launches a sweep of runs of `epochs` each, `total` in all, and ends its processes as planned."""

    def __init__(self, sweep: Sweep, epochs: int, total: int, tell: Tell) -> None:
        self.sweep, self.epochs, self.total, self.tell = sweep, epochs, total, tell
        self.done: Counter[str] = Counter()  # kills by kind
        self.left = 0  # runs that ended by themselves, since their launching process was killed
        self.before: dict[Path, dict[str, Any]] = {}  # the runs in training before the last kill
        self.wrong: list[str] = []

    def disturb(self, kills: Sequence[Kill]) -> None:
        """Do all kills."""
        for count, kill in enumerate(kills, 1):
            while not (pid := self._hit(kill, random.Random(count))):
                pass  # the process ended before
            self.done[kill.kind] += 1
            if kill.kind in (LAUNCHER, START):
                self._end(kill)
            at, asked = self.sweep.epochs() / self.total, " after SIGUSR1" if kill.store else ""
            self.tell(
                f"kill {count} of {len(kills)} at {at:.0%}: {kill.number.name}{asked} to {kill.kind}, process {pid}"
            )

    def complete(self, attempts: int) -> None:
        """Repeat the command until it succeeds."""
        for _ in range(attempts):
            code = self.sweep.wait() if self.sweep.process else self.sweep.run()
            self.wrong += still_alive(self.sweep)
            if code == 0 and self.sweep.epochs() >= self.total:
                return
            self.sweep.process = None
        raise TortureError(f"the command did not succeed in {attempts} attempts")

    def _hit(self, kill: Kill, rng: random.Random) -> int:
        """Send a signal to a process when the time has come: its number, or 0 if there is none any more."""
        sweep = self.sweep
        if kill.kind == START:
            if sweep.process is not None:
                sweep.wait()
            pid, self.before = sweep.launch().pid, {}
            sweep.until(lambda: started(pid), "Python to start")
            time.sleep(kill.seconds)
        else:
            sweep.until(lambda: self._there(kill), f"a {kill.kind} at {kill.progress:.0%}")
            if kill.store and sweep.process is not None:
                sweep.kill(sweep.process.pid, signal.SIGUSR1)
            time.sleep(kill.seconds)
            self.wrong += unlocked(sweep)
            self.before = sweep.training()
            pid = rng.choice(sweep.processes().get(kill.kind, [0]))
        if kill.number == signal.SIGINT and kill.kind in (LAUNCHER, START) and sweep.ended() is None:
            os.killpg(pid, kill.number)  # as Ctrl-C in a terminal
            return pid
        return pid if pid and sweep.kill(pid, kill.number) else 0

    def _there(self, kill: Kill) -> bool:
        """Whether it is time for a kill; the command is launched again if it has ended."""
        sweep = self.sweep
        code = None if sweep.process is None else sweep.ended()
        if code not in (None, 0, 1):
            raise TortureError(f"the command ended with exit code {code}")
        if code == 0 and sweep.epochs() >= self.total:
            raise TortureError("the sweep was finished before all kills: it needs more epochs")
        if sweep.process is None or code is not None:
            sweep.launch()
        if sweep.epochs() < kill.progress * self.total or kill.kind not in sweep.processes():
            return False
        return kill.kind != LAUNCHER or bool(self._far_from_its_end(FAR))

    def _far_from_its_end(self, epochs: int) -> list[Path]:
        found = self.sweep.training().items()
        return [path for path, status in found if status.get("epoch", 0.0) < self.epochs - epochs]

    def _end(self, kill: Kill) -> None:
        """Wait for the end of a launching process that has got a signal, and of all others with it."""
        code = self.sweep.wait()
        left = self._far_from_its_end(NEAR)
        self.wrong += still_alive(self.sweep)
        for path in left:
            state = self.sweep.statuses()[path]["state"]
            if state != schema.INTERRUPTED:
                self.wrong.append(f"{path} went on without its launching process until it was {state}")
        ended = self.sweep.statuses()
        self.left += sum(ended[path]["state"] == schema.INTERRUPTED for path in self.before)
        told = {130} if kill.kind == LAUNCHER else {130, -kill.number}  # it does not listen from its first moment
        if code not in ({-kill.number} if kill.number == signal.SIGKILL else told):
            self.wrong.append(f"the command ended with exit code {code} after {kill.number.name}")
        self.sweep.process = None


def started(pid: int) -> bool:
    """Whether launch.py runs. Before, Python is starting, and would show a traceback on Ctrl-C."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended
        return True
    masks = dict(line.split(":") for line in lines if line.startswith(("SigIgn", "SigCgt")))
    ignored, caught = (
        {number for number in signal.Signals if int(masks[name], 16) >> (number - 1) & 1} for name in masks
    )
    return signal.SIGPIPE in ignored and (signal.SIGINT not in caught or signal.SIGTERM in caught)


def still_alive(sweep: Sweep) -> list[str]:
    """The processes that do not end after the launching process."""
    deadline = time.monotonic() + GRACE_SECONDS
    while (found := sweep.processes()) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return [f"still alive: {kind} {pid}" for kind, pids in found.items() for pid in pids]


def unlocked(sweep: Sweep) -> list[str]:
    """The runs that train without their lock."""
    found = {path: each for path, each in sweep.training().items() if not locks.is_held(path / schema.LOCK)}
    again = sweep.training() if found else {}  # a run may have ended between the two looks
    return [
        f"{path} trains without its lock"
        for path in found
        if path in again and again[path]["pid"] == found[path]["pid"]
    ]


def continued(output: Path) -> Iterator[tuple[float, bool]]:
    """The epochs of the checkpoints from which runs have continued, and whether their policy had moved K before."""
    for log in output.glob(f"[!.]*/*/{schema.LOG}"):
        rows = pq.read_table(log.with_name(schema.METRICS)).to_pylist()
        lengths = [(row["epoch"], row["value"]) for row in rows if row["metric"] == "K"]
        for epoch in map(float, re.findall(r"continues from its checkpoint at epoch (\S+)", log.read_text())):
            yield epoch, len({K for evaluated, K in lengths if evaluated <= epoch}) > 1


def remains(sweep: Sweep, count: int) -> list[str]:
    """What must not be there after a sweep: locks, temporary files, tracebacks, unfinished runs."""
    # The folder of a sweep belongs to one launch, and what a kill left there stays.
    found = [f"left behind: {path}" for path in sweep.output.glob("[!.]*/**/.*.tmp")]
    found += [f"still locked: {path}" for path in sweep.output.rglob(schema.LOCK) if locks.is_held(path)]
    states = Counter(status["state"] for status in sweep.statuses().values())
    if states != {schema.FINISHED: count}:
        found.append(f"{dict(states)} instead of {count} finished runs")
    if "Traceback (most recent call last)" in sweep.terminal:
        found.append("a Python traceback was shown")
    return found


def torture(
    folder: Path, kills: int, count: int, seed: int, tell: Tell, launcher: str = "joblib"
) -> tuple[Counter[str], list[str]]:
    """Run a sweep of `count` runs undisturbed, and disturbed with a launcher; kills by kind, and what is wrong."""
    epochs = max(30, 2 * kills)
    command = arguments(folder, count, epochs)
    kinds = set(itertools.chain(*ROUNDS[launcher]))
    undisturbed, disturbed = (
        Disturbance(Sweep(folder / name, *command, f"hydra/launcher={each}"), epochs, count * epochs, tell)
        for name, each in (("undisturbed", "joblib"), ("disturbed", launcher))
    )
    try:
        tell(f"undisturbed: {count} runs of {epochs} epochs")
        undisturbed.complete(attempts=1)
        tell("disturbed")
        disturbed.disturb(planned(kills, random.Random(seed), launcher))
        disturbed.complete(ATTEMPTS)
        tell(f"{disturbed.sweep.launches} launches")
        wrong = [
            *undisturbed.wrong,
            *disturbed.wrong,
            *remains(undisturbed.sweep, count),
            *remains(disturbed.sweep, count),
        ]
        wrong += differences(disturbed.sweep.output, undisturbed.sweep.output)
        wrong += [f"no {kind} was killed" for kind in sorted(kinds - disturbed.done.keys())]
        if launcher == "joblib" and not disturbed.left:  # with basic, a run is its launching process
            wrong.append("no run was training when its launching process was killed")
        resumed = list(continued(disturbed.sweep.output))
        if not any(epoch % EVALUATE_EVERY for epoch, _ in resumed):
            wrong.append("no run continued from between two evaluations")
        if launcher == "joblib" and not any(moved for _, moved in resumed):  # with basic, few runs continue
            wrong.append("no run continued whose policy had moved K")
    except (TortureError, HangingError) as error:
        wrong = [*undisturbed.wrong, *disturbed.wrong, str(error)]
    finally:
        undisturbed.sweep.clear()
        disturbed.sweep.clear()
    return disturbed.done, wrong


def main() -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.torture", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="number of kills (default: 50)")
    parser.add_argument("--runs", type=int, default=20, help="runs of the sweep, a multiple of 10 (default: 20)")
    parser.add_argument("--launcher", choices=ROUNDS, default="joblib", help="as hydra/launcher= (default: joblib)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the kills (default: random)")
    parser.add_argument("--keep", type=Path, help="a new folder for all files (default: kept only if it fails)")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="atbptt-torture-"))
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    tell(f"seed {options.seed}, in {folder}")
    done, wrong = torture(folder.absolute(), options.kills, options.runs, options.seed, tell, options.launcher)
    for what in wrong:
        print(f"wrong: {what}")
    killed = ", ".join(f"{count} {kind}" for kind, count in done.items())
    print(f"{done.total()} kills ({killed}), {len(wrong)} things wrong, {time.monotonic() - began:.0f} s")
    if not wrong and options.keep is None:
        shutil.rmtree(folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
