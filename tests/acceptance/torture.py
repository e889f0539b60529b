"""Kills a sweep's processes at random moments and looks whether anything is lost.

Run it by python -m tests.acceptance.torture --kills 50

A sweep of small runs is launched, and again whenever it ended, while processes of it are killed with SIGKILL: runs, the
process that they are forked from, the one that launched them, the latter also while it starts. When all kills are done
the command is repeated until it succeeds. What it then has stored must be what an undisturbed sweep stores, bit for bit
but for times, with nothing lost, nothing twice, nothing left behind.
"""

from __future__ import annotations

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
DELAY_SECONDS = 0.3  # from what is seen of a run to the kill: several evaluations
ATTEMPTS = 5  # of the command after the last kill
# Of all steps of the sweep; after the last kill there must be something left to do.
LAST_KILL = 0.8

START = "launching process at its start"
# Kills in a row. One at the start follows upon one that makes a start necessary.
ROUND = ((RUN,), (RUN,), (SERVER,), (LAUNCHER, START))

# Fixed and adaptive, with and without dropout, optimizers with and without a state: what must come back differs.
ARMS = {
    "K3": "defaults: [override /truncation: fixed, override /optimizer: momentum]\ntruncation: {K: 3}\nlr: 0.1",
    "K10_dropout": "defaults: [override /truncation: fixed, override /optimizer: adam]\n"
    "model: {dropout: 0.2}\nlr: 0.01",
    "delta0.9": "defaults: [override /truncation: adaptive, override /optimizer: momentum]\nlr: 0.1",
    "delta0.5_dropout": "defaults: [override /truncation: adaptive, override /optimizer: adam]\n"
    "truncation: {delta: 0.5, update_every: 0.5}\nmodel: {dropout: 0.2}\nlr: 0.01",
    "measured": "defaults: [override /truncation: adaptive]\ntruncation: {estimator: measured}\nevaluate_every: 0.7",
}


class TortureError(Exception):
    """It cannot go on: something hangs, or ended as nothing should."""


class Kill(NamedTuple):
    """What is killed, and when: so many seconds after so much of all steps is done; at the start, after the start."""

    kind: str
    progress: float
    seconds: float


def planned(kills: int, rng: random.Random) -> list[Kill]:
    """As many kills, in rounds that are shuffled, spread over the sweep's work."""
    rounds = list(ROUND) * -(-kills // sum(map(len, ROUND)))
    rng.shuffle(rounds)
    kinds = list(itertools.chain(*rounds))[:kills]
    moments = sorted(rng.uniform(0, LAST_KILL) for _ in kinds)
    seconds = (rng.uniform(0, START_SECONDS if kind == START else DELAY_SECONDS) for kind in kinds)
    return [Kill(*kill) for kill in zip(kinds, moments, seconds, strict=True)]


def arguments(folder: Path, count: int, epochs: int) -> list[str]:
    """Of a sweep of `count` runs, whose arms are stored below `folder`."""
    arms = folder / "conf" / "arm"
    arms.mkdir(parents=True)
    for name, text in ARMS.items():
        (arms / f"{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    inits, rest = divmod(count, 2 * len(ARMS))
    if rest or not inits:
        raise SystemExit(f"--runs (={count}) must be a multiple of {2 * len(ARMS)}")
    swept = [f"arm={','.join(ARMS)}", "lr_scaling=none,sqrt", f"init=range({inits})"]
    return ["--config-dir", str(arms.parent), *TINY, f"epochs={epochs}", *swept]


def disturb(sweep: Sweep, kills: Sequence[Kill], epochs: int, tell: Callable[[str], None]) -> Counter[str]:
    """Launch a sweep and kill processes of it as planned; how many of each kind were killed.

    Arguments:
        sweep: to launch, and again whenever it has ended.
        kills: in their order.
        epochs: of all its runs together.
        tell: shows a line of progress.
    """
    done: Counter[str] = Counter()
    sweep.launch()
    for number, kill in enumerate(kills, 1):
        while True:
            if kill.kind == START:
                sweep.wait()
                pid = sweep.launch().pid
            else:
                wait_for(sweep, kill, epochs)
            time.sleep(kill.seconds)
            if kill.kind != START:
                pid = random.Random(number).choice(sweep.processes().get(kill.kind, [0]))
            if pid and sweep.kill(pid):
                break  # else it was faster
        done[kill.kind] += 1
        tell(f"kill {number} of {len(kills)} at {sweep.epochs() / epochs:.0%}: {kill.kind}, process {pid}")
    return done


def wait_for(sweep: Sweep, kill: Kill, epochs: int) -> None:
    """Wait for the moment of a kill, and for a process to kill; the command is launched again when it has ended."""

    def there() -> bool:
        code = sweep.ended()
        check(code in (None, 0, 1, -signal.SIGKILL), f"the command ended with exit code {code}")
        check(code != 0 or sweep.epochs() < epochs, "the sweep was done before all kills were: it needs more epochs")
        if code is not None:
            sweep.launch()
        return sweep.epochs() >= kill.progress * epochs and kill.kind in sweep.processes()

    sweep.until(there, f"a {kill.kind} at {kill.progress:.0%}")


def complete(sweep: Sweep, epochs: int) -> int:
    """Repeat the command until it succeeds; how often it had to be."""
    for repeated in range(ATTEMPTS):
        code = sweep.wait() if sweep.process else sweep.run()
        sweep.until(lambda: not sweep.processes(), "the processes of a command that has ended to end")
        if code == 0 and sweep.epochs() >= epochs:
            return repeated
        sweep.launch()
    raise TortureError(f"the command, undisturbed, did not succeed in {ATTEMPTS} attempts")


def check(right: bool, wrong: str) -> None:
    """Raise a `TortureError` that says what is wrong, unless all is right."""
    if not right:
        raise TortureError(wrong)


def remains(sweep: Sweep, count: int) -> list[str]:
    """What should not be there after a sweep has ended: processes, locks, temporary files, tracebacks, other states."""
    found = [f"still alive: {kind} {pid}" for kind, pids in sweep.processes().items() for pid in pids]
    # Of runs: a sweep's own folder is of one launch alone, and what is left there by a kill stays there.
    found += [f"left behind: {path}" for path in sweep.output.glob("[!.]*/**/.*.tmp")]
    found += [f"still locked: {path}" for path in sweep.output.rglob(schema.LOCK) if locks.is_held(path)]
    statuses = sweep.statuses()
    if len(statuses) != count:
        found.append(f"{len(statuses)} runs instead of {count}")
    found += [f"{path}: {status['state']}" for path, status in statuses.items() if status["state"] != schema.FINISHED]
    if "Traceback (most recent call last)" in sweep.terminal:
        found.append("a Python traceback was shown")
    return found


def torture(
    folder: Path, kills: int, count: int, seed: int, tell: Callable[[str], None] = print
) -> tuple[Counter[str], list[str]]:
    """All of it: what was killed, and what is wrong afterwards.

    Arguments:
        folder: where everything is stored.
        kills: how many.
        count: runs of the sweep.
        seed: decides what is killed when.
        tell: shows a line of progress.
    """
    epochs = max(8, kills)
    command = arguments(folder, count, epochs)
    undisturbed, disturbed = (Sweep(folder / name, *command) for name in ("undisturbed", "disturbed"))
    done: Counter[str] = Counter()
    try:
        tell(f"undisturbed: {count} runs of {epochs} epochs")
        check(complete(undisturbed, count * epochs) == 0, "the undisturbed sweep failed")
        tell("disturbed")
        done = disturb(disturbed, planned(kills, random.Random(seed)), count * epochs, tell)
        repeated = complete(disturbed, count * epochs)
        tell(f"{disturbed.launches} launches, {repeated} of them after all was over")
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
    """Parse the command line, torture, report; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.torture", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="kills in all (default: 50)")
    parser.add_argument("--runs", type=int, default=20, help="runs of the sweep, a multiple of 10 (default: 20)")
    parser.add_argument("--seed", type=int, help="decides what is killed when (default: another each time)")
    parser.add_argument("--keep", type=Path, help="a new folder for all that is stored (default: kept if it fails)")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    folder = options.keep or Path(tempfile.mkdtemp(prefix="atbptt-torture-"))
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    tell(f"seed {seed}, in {folder}")
    done, wrong = torture(folder.absolute(), options.kills, options.runs, seed, tell)
    for what in wrong:
        print(f"wrong: {what}")
    killed = ", ".join(f"{count} {kind}" for kind, count in done.items())
    print(f"{sum(done.values())} kills ({killed}), {len(wrong)} things wrong, {time.monotonic() - began:.0f} s")
    if not wrong and options.keep is None:
        shutil.rmtree(folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
