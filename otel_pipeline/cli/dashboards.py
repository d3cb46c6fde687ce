"""`otel-pipeline dashboards`: Grafana's dashboards as files."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_pipeline.cli._files import write
from otel_pipeline.dashboards import DASHBOARDS, FOLDER, files, instruments_of, own_dashboard
from otel_pipeline.errors import CommandError

if TYPE_CHECKING:
    import argparse

    from otel_pipeline.dashboards import Instrument

__all__ = ["add_arguments", "run"]

_OPENMETRICS: Final = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
_SECONDS: Final = 10.0
_MOST_BYTES: Final = 64 * 1024 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `otel-pipeline dashboards`."""
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="DIR",
        help="the folder for `dashboards/` and `provisioning/`; it is made if it is not there",
    )
    parser.add_argument(
        "--from-metrics",
        metavar="URL|FILE",
        help="also write a dashboard of the metrics of your own on this /metrics page",
    )
    parser.add_argument(
        "--folder",
        default=FOLDER,
        metavar="PATH",
        help="where Grafana will find the dashboards, for provisioning (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Write the dashboards and their provisioning; files of other names are left alone.

    Args:
        args: `out`, `from_metrics`, `folder` and `json`.

    Returns:
        0.

    Raises:
        CommandError: The folder cannot be written, or the page cannot be read.
    """
    dashboards = list(DASHBOARDS)
    if args.from_metrics:
        dashboards.append(own_dashboard(_instruments(args.from_metrics)))
    written = write(args.out, files(dashboards, folder=args.folder))
    if args.json:
        found = [
            {"uid": one.uid, "title": one.title, "panels": len(one.panels())} for one in dashboards
        ]
        print(json.dumps({"dashboards": found, "files": written}, indent=2))
    else:
        for path in written:
            print(path)
        print(
            f"\nWrote {len(dashboards)} dashboards. Mount {args.out / 'dashboards'} at "
            f"{args.folder} and\n{args.out / 'provisioning'} at /etc/grafana/provisioning, "
            "or import\na file by hand in Grafana."
        )
    return 0


def _instruments(source: str) -> tuple[Instrument, ...]:
    """Return the metrics of a page, of which there is one at least."""
    try:
        found = instruments_of(_page(source))
    except ValueError as error:  # UnicodeDecodeError is one
        raise CommandError(
            f"{source} is no /metrics page: {error}; --from-metrics takes what Prometheus scrapes"
        ) from error
    if not found:
        raise CommandError(
            f"{source} has no metrics but the library's own: use a metric once before, or name the "
            "page of another program"
        )
    return found


def _page(source: str) -> str:
    if not source.startswith(("http://", "https://")):
        try:
            return Path(source).read_text(encoding="utf-8")
        except OSError as error:
            raise CommandError(
                f"cannot read {source}: {error}; --from-metrics takes a file or a URL that begins "
                "with http:// or https://"
            ) from error
    request = urllib.request.Request(source, headers={"Accept": _OPENMETRICS})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:  # noqa: S310
            body: bytes = response.read(_MOST_BYTES + 1)
    except (OSError, HTTPException) as error:  # URLError and HTTPError are OSErrors
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise CommandError(
            f"cannot read {source}: {error}; is the program running, and is that its /metrics?"
        ) from error
    if len(body) > _MOST_BYTES:
        raise CommandError(f"{source} is larger than 64 MiB, which no /metrics page should be")
    return body.decode()
