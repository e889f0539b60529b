"""`python -m atbptt.datasets fetch NAME`: the command line of published data sets."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from atbptt.errors import ConfigError, described, listed
from atbptt.system import needed_by

with needed_by("python -m atbptt.datasets"):
    from atbptt.datasets.fetching import ALL, FetchError, fetch
    from atbptt.datasets.sources import SOURCES


class UsageError(ValueError):
    """The command line cannot be read."""


class Parser(argparse.ArgumentParser):
    """Raises a `UsageError` where argparse would exit with code 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}\n{self.format_usage().rstrip()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, 1 after a message on stderr, 130 after Ctrl-C."""
    try:
        options = _parser().parse_args(arguments)
        fetch(options.name, options.to, options.local)
    except (UsageError, ConfigError, FetchError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {described(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the same command fetches the files that are missing", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m atbptt.datasets", description="The published data sets.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "fetch",
        help="download a published data set, or take it from copies: fetch ptb",
        description="Download a published data set and verify its checksums. Files that are there are not overwritten.",
        epilog=f"Their licences are their own. They come from {_addresses()}.",
    )
    command.add_argument("name", metavar="NAME", help=f"{listed(SOURCES)} or {ALL}")
    command.add_argument(
        "--to", type=Path, metavar="DIR", default=Path("data"), help=f"folder for {_folders()} (default: data)"
    )
    command.add_argument(
        "--from",
        dest="local",
        type=Path,
        metavar="DIR",
        help="take copies from DIR, or from the data set's folder in it, instead of downloading; "
        "they are verified in the same way",
    )
    return parser


def _folders() -> str:
    return listed(f"{source.folder}/" for source in SOURCES.values())


def _addresses() -> str:
    return listed("github.com/" + "/".join(source.address.split("/")[3:5]) for source in SOURCES.values())


if __name__ == "__main__":
    # A scheduler's or a shell's end of the session is a Ctrl-C: temporary files are removed.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
