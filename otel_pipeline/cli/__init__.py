"""The command `otel-pipeline`: one module for each command, imported when it is chosen."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_pipeline.errors import CommandError, ConfigurationError
from otel_pipeline.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "main"]

#: Each command, with its summary. Its module in this package has the same name, and defines
#: `add_arguments(parser)` and `run(args) -> int`, which returns the exit status.
COMMANDS: Final = {
    "alerts": "write alert rules, their tests and Alertmanager's configuration",
    "dashboards": "write Grafana's dashboards, made from the vocabulary",
    "demo": "run a real pipeline over real data and show what its telemetry says",
    "doctor": "check that telemetry arrives, and say what to do where it does not",
    "env": "show every setting, its value, where it comes from and what it means",
    "quality": "look at data: what it looks like, and whether it is as it should be",
    "query": "ask the local backend for runs, traces, log lines and metrics",
    "spool": "show, send or drop what waits on disk for a collector that was away",
    "ui": "receive telemetry on this machine, keep it and show it",
}

_USAGE_ERROR = 2
# What a shell reports for a program that SIGINT (2) or SIGPIPE (13) ended.
_INTERRUPTED = 130
_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments behind the program's name; by default those of the process.

    Returns:
        The exit status: the command's own, or 2 with a message on stderr if it could not go on.

    Raises:
        SystemExit: The arguments are wrong, or ask for help or the version.

    Example:
        >>> from otel_pipeline.cli import main
        >>> main(["env", "--json", "--set"])
        []
        0
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parser(arguments).parse_args(arguments)
        status: int = args.run(args)
        sys.stdout.flush()  # else a closed pipe is only noticed where nobody can catch it
    except (CommandError, ConfigurationError) as error:
        print(f"otel-pipeline: {error}", file=sys.stderr)
        return _USAGE_ERROR
    except BrokenPipeError:
        _discard_stdout()
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="otel-pipeline", description="Look at and try out the telemetry of data pipelines."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        # Not `capitalize`, which makes the names in it small.
        sentence = f"{summary[0].upper()}{summary[1:]}."
        command = commands.add_parser(name, help=summary, description=sentence)
        if name == chosen:
            module = import_module(f"{__name__}.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def _discard_stdout() -> None:
    """Let what is still to be written go nowhere: the reader has gone, and that is its right."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
