"""`otel-pipeline quality`: look at data; each action has a module `quality_ACTION` beside this."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse

__all__ = ["ACTIONS", "add_arguments", "run"]

#: Each action, with its summary. Its module is `otel_pipeline.cli.quality_NAME`, and defines
#: `add_arguments(parser)` and `run(args) -> int`, which returns the exit status. It imports data
#: libraries only in `run`.
ACTIONS: Final = {
    "baseline": "say what of the past the monitors are to learn from",
    "check": "check a file of data against a YAML file of checks",
    "history": "draw what was measured of a dataset, with what was expected",
    "lineage": "show which jobs made which datasets of which",
    "profile": "show what a file of data looks like",
    "report": "write what is known of datasets as one HTML page",
    "suggest": "write a first set of checks for a file of data",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions of `otel-pipeline quality`, and their arguments."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, summary in ACTIONS.items():
        action = actions.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        module = import_module(f"otel_pipeline.cli.quality_{name}")
        module.add_arguments(action)
        action.set_defaults(run_action=module.run)


def run(args: argparse.Namespace) -> int:
    """Run the chosen action.

    Args:
        args: `run_action`, and what the action declared.

    Returns:
        The exit status of the action.
    """
    status: int = args.run_action(args)
    return status
