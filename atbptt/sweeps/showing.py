"""What a command line shows instead of running: --version, --cfg, and what Hydra answers itself (--help, --info)."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from atbptt import __version__, config
from atbptt.config import Command
from atbptt.errors import ConfigError, require
from atbptt.sweeps.planning import differences
from atbptt.sweeps.space import read_space
from atbptt.system import print_text

COMPLETED = "COMP_LINE"  # the variable in which a shell hands over the line that is to be completed


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
            sys.argv[1:], _ = config.split_flags(arguments)
            if flags.shell_completion:
                return complete(flags, show)
            with config.composer(command.config_dir, command.extra) as hydra:  # says in one line what is wrong
                config.parse(hydra, command.overrides)
                config.composed(hydra, None if flags.hydra_help else command.name, command.overrides)
            with printed():
                show()
        sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except OmegaConfBaseException as error:  # with --resolve
        raise config.unresolved(error) from error
    except BrokenPipeError:  # as behind `| head`
        return 1
    return 0


@contextmanager
def printed() -> Iterator[None]:
    """Print what Hydra prints, with control characters as escapes."""
    out, err = StringIO(), StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            yield
    finally:
        print_text(err.getvalue(), file=sys.stderr, end="")
        print_text(out.getvalue(), end="")


def complete(flags: Namespace, show: Callable[[], object]) -> int:
    """Have Hydra print the script of a shell's completion, or what completes a line; the exit code."""
    asked = flags.overrides[0].startswith("query=")
    if asked and not os.environ.get(COMPLETED, "").strip():
        rule = "is missing from the environment: shells ask this, see the script of --shell-completion install=bash"
        raise ConfigError(COMPLETED, rule)
    out = StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(StringIO()):
            show()
    except (Exception, SystemExit) as error:  # of a line that is not finished: nothing completes it
        if not (isinstance(error, SystemExit) and error.code in (None, 0)):
            return 1
    print_text(out.getvalue(), end="")
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
            composed = config.composed(hydra, command.name, overrides)  # says in one line what is wrong
            if flags.package not in (None, "_global_"):
                found = OmegaConf.select(composed, flags.package) is not None
                require(found, "--package", flags.package, "is no part of the config")
            with printed():
                hydra.show_cfg(command.name, overrides, flags.cfg, flags.package, flags.resolve)
