"""`otel-pipeline alerts`: rules, their tests and Alertmanager's configuration, as files."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from otel_pipeline.alerts.files import files
from otel_pipeline.alerts.reading import read_settings
from otel_pipeline.alerts.settings import Settings
from otel_pipeline.cli._files import write
from otel_pipeline.errors import CommandError

__all__ = ["add_arguments", "run"]

#: Each sub-command, with its summary. Its module in this package is `alerts_NAME`, and defines
#: `add_arguments(parser)` and `run(args) -> int`, as those of commands do.
_ACTIONS: Final = {
    "backtest": "show what alerts would have done over the past",
    "lint": "find mistakes in alert rules that Prometheus accepts",
}


class _ActionParser(argparse.ArgumentParser):
    """The parser of a sub-command, whose module is imported when it is chosen."""

    action = ""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Declare the arguments of the sub-command first."""
        module = import_module(f"otel_pipeline.cli.alerts_{self.action}")
        module.add_arguments(self)
        self.set_defaults(act=module.run)
        return super().parse_known_args(args, namespace)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `otel-pipeline alerts`."""
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the folder to write to; it is made if need be"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings in YAML; by default none are needed"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(act=None)
    actions = parser.add_subparsers(metavar="[ACTION]", parser_class=_ActionParser)
    for name, summary in _ACTIONS.items():
        action = actions.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
        )
        action.action = name


def run(args: argparse.Namespace) -> int:
    """Write the files, or run a sub-command; files of other names are left alone.

    Args:
        args: `out`, `config` and `json`; or what the sub-command has.

    Returns:
        0, or what the sub-command returns.

    Raises:
        CommandError: There is no folder to write to, or it cannot be written.
        ConfigurationError: The settings cannot be used.
    """
    if args.act is not None:
        status: int = args.act(args)
        return status
    if args.out is None:
        raise CommandError("alerts needs --out DIR, the folder for the files that it writes")
    settings = Settings() if args.config is None else read_settings(args.config)
    written = write(args.out, files(settings))
    if args.json:
        print(json.dumps({"files": written}, indent=2))
    else:
        for name in written:
            print(name)
        print(f"Try them: promtool test rules {args.out}/tests/*.yml")
    return 0
