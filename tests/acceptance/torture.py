"""Kills processes of a sweep at random moments and checks that nothing is lost: python -m tests.acceptance.torture

A sweep of small runs is launched, again and again when it has ended, while its processes are killed with SIGKILL:
runs, the process they are forked from, and the launching process, also while it starts. After the last kill the
command is repeated until it succeeds. The results must be those of an undisturbed sweep, bit for bit except for times.
"""

import argparse
import itertools
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from atbptt.runs import schema
from atbptt.system import locks
from tests.conftest import TINY
from tests.helpers.comparing import differences
from tests.helpers.launched import LAUNCHER, RUN, SERVER, HangingError, Sweep

START_SECONDS = 4.0  # importing, composing, checking
DELAY_SECONDS = 0.3  # several evaluations
ATTEMPTS = 5  # of the command after the last kill
LAST_KILL = 0.8  # share of the sweep's steps: there must be something left to do

START = "launching process at its start"
# Kills that follow one another: a start needs a launching process that has ended.
ROUND = ((RUN,), (RUN,), (SERVER,), (LAUNCHER, START))

# Fixed and adaptive, with and without dropout, optimizers with and without a state.
ARMS = {
    "K3": "defaults: [override /truncation: fixed, override /optimizer: momentum]\ntruncation: {K: 3}\nlr: 0.1",
    "K10_dropout": "defaults: [override /truncation: fixed, override /optimizer: adam]\n"
    "model: {dropout: 0.2}\nlr: 0.01",
    "delta0.9": "defaults: [override /truncation: adaptive, override /optimizer: momentum]\nlr: 0.1",
    "delta0.5_dropout": "defaults: [override /truncation: adaptive, override /optimizer: adam]\n"
    "truncation: {delta: 0.5, update_every: 0.5}\nmodel: {dropout: 0.2}\nlr: 0.01",
    "measured": "defaults: [override /truncation: adaptive]\ntruncation: {estimator: measured}\nevaluate_every: 0.7",
}

Tell = Callable[[str], None]  # shows a line of progress


class TortureError(Exception):
    """The sweep ended in an unexpected way."""


class Kill(NamedTuple):
    """What to kill, `seconds` after a share `progress` of all steps, or after the start of the launching process."""

    kind: str
    progress: float
    seconds: float


def planned(kills: int, rng: random.Random) -> list[Kill]:
    """Kills in shuffled rounds, spread over the sweep."""
    rounds = list(ROUND) * -(-kills // sum(map(len, ROUND)))
    rng.shuffle(rounds)
    kinds = list(itertools.chain(*rounds))[:kills]
    moments = sorted(rng.uniform(0, LAST_KILL) for _ in kinds)
    seconds = (rng.uniform(0, START_SECONDS if kind == START else DELAY_SECONDS) for kind in kinds)
    return [Kill(*kill) for kill in zip(kinds, moments, seconds, strict=True)]


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
    return ["--config-dir", str(arms.parent), *TINY, f"epochs={epochs}", *swept]


def disturb(sweep: Sweep, kills: Sequence[Kill], epochs: int, tell: Tell) -> Counter[str]:
    """Launch a sweep of `epochs` in all and kill processes as planned; the number of kills by kind."""
    done: Counter[str] = Counter()
    sweep.launch()
    for number, kill in enumerate(kills, 1):
        while True:  # until the process is killed before it ends
            if kill.kind == START:
                sweep.wait()
                pid = sweep.launch().pid
                time.sleep(kill.seconds)
            else:
                wait_for(sweep, kill, epochs)
                time.sleep(kill.seconds)
                pid = random.Random(number).choice(sweep.processes().get(kill.kind, [0]))
            if pid and sweep.kill(pid):
                break
        done[kill.kind] += 1
        tell(f"kill {number} of {len(kills)} at {sweep.epochs() / epochs:.0%}: {kill.kind}, process {pid}")
    return done


def wait_for(sweep: Sweep, kill: Kill, epochs: int) -> None:
    """Wait for the moment and the process of a kill; the command is launched again if it has ended."""

    def there() -> bool:
        code = sweep.ended()
        if code not in (None, 0, 1, -signal.SIGKILL):
            raise TortureError(f"the command ended with exit code {code}")
        if code == 0 and sweep.epochs() >= epochs:
            raise TortureError("the sweep was finished before all kills: it needs more epochs")
        if code is not None:
            sweep.launch()
        return sweep.epochs() >= kill.progress * epochs and kill.kind in sweep.processes()

    sweep.until(there, f"a {kill.kind} at {kill.progress:.0%}")


def complete(sweep: Sweep, epochs: int, attempts: int) -> None:
    """Repeat the command until it succeeds."""
    for _ in range(attempts):
        code = sweep.wait() if sweep.process else sweep.run()
        sweep.until(lambda: not sweep.processes(), "the end of all processes")
        if code == 0 and sweep.epochs() >= epochs:
            return
        sweep.launch()
    raise TortureError(f"the command did not succeed in {attempts} attempts")


def remains(sweep: Sweep, count: int) -> list[str]:
    """What must not be there after a sweep: processes, locks, temporary files, tracebacks, unfinished runs."""
    found = [f"still alive: {kind} {pid}" for kind, pids in sweep.processes().items() for pid in pids]
    # The folder of a sweep belongs to one launch, and what a kill left there stays.
    found += [f"left behind: {path}" for path in sweep.output.glob("[!.]*/**/.*.tmp")]
    found += [f"still locked: {path}" for path in sweep.output.rglob(schema.LOCK) if locks.is_held(path)]
    states = Counter(status["state"] for status in sweep.statuses().values())
    if states != {schema.FINISHED: count}:
        found.append(f"{dict(states)} instead of {count} finished runs")
    if "Traceback (most recent call last)" in sweep.terminal:
        found.append("a Python traceback was shown")
    return found


def torture(folder: Path, kills: int, count: int, seed: int, tell: Tell) -> tuple[Counter[str], list[str]]:
    """Run a sweep of `count` runs undisturbed and disturbed; the number of kills by kind, and what is wrong."""
    epochs = max(8, kills)
    command = arguments(folder, count, epochs)
    undisturbed, disturbed = (Sweep(folder / name, *command) for name in ("undisturbed", "disturbed"))
    done: Counter[str] = Counter()
    try:
        tell(f"undisturbed: {count} runs of {epochs} epochs")
        complete(undisturbed, count * epochs, attempts=1)
        tell("disturbed")
        done = disturb(disturbed, planned(kills, random.Random(seed)), count * epochs, tell)
        complete(disturbed, count * epochs, ATTEMPTS)
        tell(f"{disturbed.launches} launches")
        wrong = [*remains(undisturbed, count), *remains(disturbed, count)]
        wrong += differences(disturbed.output, undisturbed.output)
    except (TortureError, HangingError) as error:
        wrong = [str(error)]
    finally:
        undisturbed.clear()
        disturbed.clear()
    wrong += [f"no {kind} was killed" for kind in (RUN, SERVER, LAUNCHER, START) if kind not in done]
    return done, wrong


def main() -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.torture", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="number of kills (default: 50)")
    parser.add_argument("--runs", type=int, default=20, help="runs of the sweep, a multiple of 10 (default: 20)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the kills (default: random)")
    parser.add_argument("--keep", type=Path, help="a new folder for all files (default: kept only if it fails)")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="atbptt-torture-"))
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    tell(f"seed {options.seed}, in {folder}")
    done, wrong = torture(folder.absolute(), options.kills, options.runs, options.seed, tell)
    for what in wrong:
        print(f"wrong: {what}")
    killed = ", ".join(f"{count} {kind}" for kind, count in done.items())
    print(f"{done.total()} kills ({killed}), {len(wrong)} things wrong, {time.monotonic() - began:.0f} s")
    if not wrong and options.keep is None:
        shutil.rmtree(folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
