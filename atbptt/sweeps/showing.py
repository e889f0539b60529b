"""What a command line shows instead of running: --version, --cfg, and what Hydra answers itself (--help, --info)."""

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from atbptt import __version__, config
from atbptt.config import Command
from atbptt.sweeps.planning import differences
from atbptt.sweeps.space import read_space
from atbptt.system import print_text


def shown(arguments: Sequence[str], config_dir: Path, show: Callable[[], object]) -> int:
    """Answer a command line that runs nothing (ConfigError); the exit code. `show` has Hydra answer `sys.argv`."""
    flags = config.read_flags(arguments)
    command = config.command_of(flags, config_dir)
    try:
        if flags.version:
            print_text(f"atbptt {__version__}")
        elif flags.cfg:
            show_configs(command, flags)
        else:
            if flags.info:
                with config.composer(command.config_dir, command.extra) as hydra:
                    config.composed(hydra, command.name, command.overrides)  # says in one line what is wrong
            sys.argv[1:], _ = config.split_flags(arguments)
            show()
        sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BrokenPipeError:  # as behind `| head`
        return 1
    return 0


def show_configs(command: Command, flags: Namespace) -> None:
    """Print the config of each job, or the part of it that is asked for, as YAML; of a sweep, one document a job."""
    with config.composer(command.config_dir, command.extra) as hydra:
        batch, shared, _ = config.expanded(hydra, command)
        batch = batch or read_space(hydra, command, shared).corners()  # of a search
        batch, _ = config.narrowed(config.Shared(hydra, command), batch)
        batch = [list(each) for each in dict.fromkeys(map(tuple, batch))]
        for number, (overrides, label) in enumerate(zip(batch, differences(batch), strict=True)):
            if len(batch) > 1:
                print_text("---\n" * (number > 0) + f"# {label}")
            config.composed(hydra, command.name, overrides)  # says in one line what is wrong
            hydra.show_cfg(command.name, overrides, flags.cfg, flags.package, flags.resolve)
