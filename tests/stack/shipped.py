"""The servers of `collector/compose.yaml`, run natively with its command lines and its files.

A file that compose mounts is copied, unchanged. What is changed is what a command line or a
variable says: folders of the container become folders of the test, and ports those that are free.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.stack.build import COLLECTOR
from tests.stack.debian import PACKAGES
from tests.stack.programs import _HOST, _host_and_port, _running, _Start, collector_environ

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.stack.programs import Server

__all__ = [
    "COMPOSE",
    "PROVISIONING",
    "address",
    "alertmanager",
    "collector",
    "compose",
    "data_sources",
    "loki",
    "mounts",
    "prometheus",
    "set_targets",
]

COMPOSE = COLLECTOR / "compose.yaml"
PROVISIONING = COLLECTOR / "grafana" / "provisioning"

# Loki is ready as soon as it can be, and gone as soon as it is asked.
_AT_ONCE = (
    "-ingester.min-ready-duration=0s",
    "-ingester.join-after=0s",
    "-ingester.final-sleep=0s",
    "-frontend.scheduler-dns-lookup-period=200ms",
    "-querier.dns-lookup-period=200ms",
)


def compose() -> dict[str, Any]:
    """Return what compose.yaml says, with its anchors resolved."""
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


def data_sources() -> dict[str, dict[str, Any]]:
    """Return the data sources of Grafana by their uids, which differ."""
    found = [
        source
        for file in sorted(PROVISIONING.glob("datasources/*"))
        for source in yaml.safe_load(file.read_text(encoding="utf-8"))["datasources"]
    ]
    uids = [source["uid"] for source in found]
    assert len(uids) == len(set(uids))
    return dict(zip(uids, found, strict=True))


def mounts(service: str) -> dict[str, str]:
    """Return the sources of a service's volumes by the paths where they are mounted."""
    volumes = compose()["services"][service].get("volumes", [])
    return {target: source for source, target in (volume.split(":")[:2] for volume in volumes)}


@contextlib.contextmanager
def prometheus(
    *,
    program: str = "prometheus",
    config: str = "prometheus.yml",
    without: Sequence[str] = (),
    targets: Mapping[str, Sequence[str]] | None = None,
    rules: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run Prometheus as compose does.

    Args:
        program: `prometheus`, or an older one.
        config: The name of its configuration file.
        without: Arguments that an older one does not know.
        targets: Addresses by the names of files in `targets/`, which stand for compose's.
        rules: Texts by the names of files that are put beside the rules.
    """

    def start(folder: Path, ports: Mapping[str, int]) -> _Start:
        arguments = [
            argument.replace("/prometheus.yml", f"/{config}")
            for argument in _arguments("prometheus", folder)
            if argument not in without
        ]
        etc = folder / "prometheus"
        for file in etc.glob("targets/**/*.yml"):
            file.write_text("[]", encoding="utf-8")
        for name, addresses in (targets or {}).items():
            _write(etc / "targets" / name, _group(addresses))
        for name, text in (rules or {}).items():
            _write(etc / "rules" / name, text)
        address = f"{_HOST}:{ports['http']}"
        return _Start([*arguments, f"--web.listen-address={address}"], f"http://{address}/-/ready")

    with _running(program, ["http"], start) as server:
        yield server


@contextlib.contextmanager
def alertmanager(program: str = "alertmanager") -> Iterator[Server]:
    """Run Alertmanager as compose does."""

    def start(folder: Path, ports: Mapping[str, int]) -> _Start:
        if program in PACKAGES:
            PACKAGES[program].bring(folder)
        address = f"{_HOST}:{ports['http']}"
        return _Start(
            [*_arguments("alertmanager", folder), f"--web.listen-address={address}"],
            f"http://{address}/-/ready",
        )

    with _running(program, ["http"], start) as server:
        yield server


@contextlib.contextmanager
def loki(*arguments: str, **environ: str) -> Iterator[Server]:
    """Run Loki as compose does.

    Args:
        arguments: Further arguments, such as `-ruler.evaluation-interval=1s`.
        environ: Variables of its configuration, such as `LOKI_ALERTMANAGER_URL`.
    """

    def start(folder: Path, ports: Mapping[str, int]) -> _Start:
        return _Start(
            [*_arguments("loki", folder), *_AT_ONCE, *arguments],
            f"http://{_HOST}:{ports['http']}/ready",
            environ={
                "LOKI_HTTP_ADDRESS": _HOST,
                "LOKI_HTTP_PORT": str(ports["http"]),
                "LOKI_GRPC_PORT": str(ports["grpc"]),
                "LOKI_DATA": str(folder / "data"),
                "LOKI_RULES": str(folder / "loki" / "rules"),
                **environ,
            },
        )

    with _running("loki", ["http", "grpc"], start) as server:
        yield server


@contextlib.contextmanager
def collector(**environ: str) -> Iterator[Server]:
    """Run the collector as compose does.

    Args:
        environ: The addresses of the backends, such as `PROMETHEUS_URL`.
    """

    def start(folder: Path, ports: Mapping[str, int]) -> _Start:
        named = compose()["services"]["collector"]["environment"]
        return _Start(
            _arguments("collector", folder),
            f"http://{_HOST}:{ports['health']}/",
            environ={
                **named,
                **collector_environ(ports),
                "OTELCOL_METRICS_HOST": _HOST,
                "OTELCOL_STORAGE_DIR": str(folder / "data"),
                **environ,
            },
        )

    with _running("otelcol", ["http", "grpc", "health", "metrics"], start) as server:
        yield server


def set_targets(prometheus: Server, name: str, addresses: Sequence[str]) -> None:
    """Let a Prometheus that runs scrape these addresses, from now on.

    Args:
        prometheus: The server.
        name: The file in `targets/`.
        addresses: Hosts with their ports.
    """
    _write(prometheus.folder / "prometheus" / "targets" / name, _group(addresses))


def _group(addresses: Sequence[str]) -> str:
    return json.dumps([{"targets": list(addresses)}])


def address(server: Server, port: str = "http") -> str:
    """Return host and port of a server, as targets are written."""
    return _host_and_port(server.url_of(port))


def _arguments(service: str, folder: Path) -> list[str]:
    """Return a service's arguments, with folders of the test in place of the container's."""
    places = {}
    for target, source in mounts(service).items():
        if source.startswith("./"):
            places[target] = folder / Path(source).name
            copy = shutil.copytree if (COLLECTOR / source).is_dir() else shutil.copyfile
            copy(COLLECTOR / source, places[target])
        else:
            places[target] = folder / "data"
    arguments = compose()["services"][service]["command"]
    for target, place in places.items():
        path = re.compile(rf"(?<==){re.escape(target)}(?=/|$)")
        arguments = [path.sub(str(place), argument) for argument in arguments]
    return arguments


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # As a whole, since Prometheus may be reading it.
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
