"""`atbptt fetch NAME`, or `python -m atbptt.datasets fetch NAME`: fetch the published data sets."""

from atbptt.interrupts import end_silently

if __name__ == "__main__":
    end_silently()

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from atbptt.errors import listed
from atbptt.system import Parser, end_process, handled, needed_by, program, run_command

with needed_by(program("fetch")):
    from atbptt.datasets.fetching import ALL, FetchError, fetch
    from atbptt.datasets.sources import SOURCES


def main(arguments: Sequence[str]) -> int:
    """Run the command; exit codes as in `run_command`."""

    def command() -> None:
        options = _parser().parse_args(arguments)
        fetch(options.name, options.to, options.local)

    # The end of a session or of a cluster's job is a Ctrl-C: temporary files are removed.
    with handled(dict.fromkeys((signal.SIGTERM, signal.SIGHUP), signal.default_int_handler)):
        return run_command(command, FetchError)


def _parser() -> Parser:
    folders = listed(f"{source.folder}/" for source in SOURCES.values())
    addresses = listed("github.com/" + "/".join(source.address.split("/")[3:5]) for source in SOURCES.values())
    parser = Parser(prog=program("fetch").removesuffix(" fetch"), description="Fetch the published data sets.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    fetching = commands.add_parser(
        "fetch",
        help="download a published data set, or take it from copies: fetch ptb",
        description="Download a published data set and verify its checksums. Files that are there are not overwritten.",
        epilog=f"Their licences are their own. They come from {addresses}.",
    )
    fetching.add_argument("name", metavar="NAME", help=f"{listed(SOURCES)} or {ALL}")
    fetching.add_argument(
        "--to", type=Path, metavar="DIR", default=Path("data"), help=f"folder for {folders} (default: data)"
    )
    fetching.add_argument(
        "--from",
        dest="local",
        type=Path,
        metavar="DIR",
        help="take copies from DIR, or from the data set's folder in it, instead of downloading; "
        "they are verified in the same way",
    )
    return parser


if __name__ == "__main__":
    end_process(main(sys.argv[1:]))
