"""The programs of the test stack as context managers: each starts, is ready, and goes at the end.

Each has ports of its own and a temporary folder, so any number of them run side by side.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.stack.build import BUILD_COMMAND, COLLECTOR, PROGRAMS, StackError, tied
from tests.stack.debian import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "LOCAL_COLLECTOR",
    "Server",
    "Stack",
    "alertmanager",
    "alertmanager_config",
    "at_least",
    "check",
    "collector",
    "collector_environ",
    "datadog_agent",
    "fetch",
    "jaeger",
    "loki",
    "loki_config",
    "missing",
    "program",
    "prometheus",
    "prometheus_config",
    "stack",
    "until",
]

LOCAL_COLLECTOR = COLLECTOR / "local.yaml"

T = TypeVar("T")

_HOST = "127.0.0.1"
_SECONDS_TO_START = 60.0
_SECONDS_TO_STOP = 10.0
_SECONDS_FOR_AN_ANSWER = 10.0
_SECONDS_BETWEEN_TRIES = 0.1
_STARTS = 3  # another program may take a port between its choice and its use
_PORT_IS_TAKEN = "address already in use"
_LINES_OF_A_LOG = 30
_LISTENS = "0A"  # in Linux's tables of connections

# A proxy that the environment names knows nothing of this machine's ports.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def missing(*names: str) -> list[str]:
    """Return the programs among `names`, or among all of Go's, that are yet to be built."""
    return [name for name in names or PROGRAMS if not _path(name).exists()]


def program(name: str) -> Path:
    """Return where a program is.

    Raises:
        StackError: It was not built.
    """
    if missing(name):
        raise StackError(f"{name} was not built: run `{BUILD_COMMAND} {name}`")
    return _path(name)


def _path(name: str) -> Path:
    return PROGRAMS[name].path if name in PROGRAMS else PACKAGES[name].path


def fetch(
    url: str, parameters: Mapping[str, str] | None = None, *, body: Any = None, method: str = ""
) -> Any:
    """Ask a server; return its JSON, or its text if it is none.

    Args:
        url: The address.
        parameters: The query.
        body: What to send, as JSON.
        method: By default GET, with a body POST.

    Raises:
        urllib.error.HTTPError: It answered with an error.
    """
    if parameters:
        url += "?" + urllib.parse.urlencode(parameters)
    request = urllib.request.Request(url, method=method or None)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    with _OPENER.open(request, timeout=_SECONDS_FOR_AN_ANSWER) as response:
        text = response.read().decode()
    try:
        return json.loads(text)
    except ValueError:
        return text


def until(look: Callable[[], T], *, seconds: float = 30.0) -> T:
    """Call `look` until it returns something true, and return that.

    An answer 404 of a server counts as nothing: it has not heard of it yet.

    Raises:
        TimeoutError: It never did.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            found = look()
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 404:
                    raise
            found = None
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"nothing came within {seconds:.0f} s; the last answer: {found!r}")
        time.sleep(_SECONDS_BETWEEN_TRIES)


def at_least(count: int, look: Callable[[], list[T]]) -> Callable[[], list[T]]:
    """Return `look`, which finds nothing until it finds that many."""
    return lambda: found if len(found := look()) >= count else []


def check(
    *command: str | Path, cwd: Path | None = None, environ: Mapping[str, str] | None = None
) -> str:
    """Run a command that must succeed; return all that it said."""
    result = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
        cwd=cwd,
        env={**os.environ, **(environ or {})},
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


class _PortIsTakenError(StackError):
    """A port that was free when it was chosen is so no more."""


@dataclass
class Server:
    """A program that runs."""

    name: str
    folder: Path  # its configuration, its data, its log
    ports: Mapping[str, int]
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Where its API answers."""
        return self.url_of("http")

    def url_of(self, port: str) -> str:
        """Return the address of one of its ports."""
        return f"http://{_HOST}:{self.ports[port]}"

    @property
    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def get(self, path: str, **parameters: str) -> Any:
        """Ask it for a path; return its JSON, or its text."""
        return fetch(self.url + path, parameters)

    def wait_until_ready(self, url: str) -> None:
        """Return when the program listens at all its ports, and `url` answers well.

        Raises:
            StackError: The program ended, or it takes too long.
        """
        end = time.monotonic() + _SECONDS_TO_START
        answer = "none"
        while True:
            # Somebody else at a port that was free before would answer, too.
            if set(self.ports.values()) <= _listening(self.process.pid):
                try:
                    fetch(url)
                except OSError as error:
                    answer = str(error)
                    if isinstance(error, urllib.error.HTTPError):
                        error.close()
                else:
                    return
            status = self.process.poll()
            if status is not None:
                if _PORT_IS_TAKEN in self.log:
                    raise _PortIsTakenError(self._error(f"ended with {status}"))
                raise StackError(self._error(f"ended with {status}"))
            if time.monotonic() > end:
                waited = f"is not ready after {_SECONDS_TO_START:.0f} s; {url} answers: {answer}"
                raise StackError(self._error(waited))
            time.sleep(_SECONDS_BETWEEN_TRIES)

    def stop(self) -> None:
        """End the program, by force if it does not end when asked."""
        self.process.terminate()
        try:
            self.process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _error(self, what: str) -> str:
        end = "\n".join(self.log.splitlines()[-_LINES_OF_A_LOG:])
        return f"{self.name} {what}; the end of its log:\n{end}"


@dataclass(frozen=True)
class _Start:
    """How to start a program, once its ports and its folder are known."""

    arguments: Sequence[str]
    ready: str  # a whole URL
    files: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def _running(
    name: str,
    ports: Sequence[str],
    start: Callable[[Path, Mapping[str, int]], _Start],
    *,
    given: Mapping[str, int] | None = None,
) -> Iterator[Server]:
    """Run a program; the first of its ports is that of its API."""
    path = program(name)
    with contextlib.ExitStack() as undo:
        for attempt in range(1, _STARTS + 1):
            undo.close()
            folder = Path(undo.enter_context(_temporary_folder(name)))
            chosen = given or dict(zip(ports, _free_ports(len(ports)), strict=True))
            how = start(folder, chosen)
            for file, text in how.files.items():
                (folder / file).write_text(text, encoding="utf-8")
            server = _launch(name, path, how, folder, chosen)
            undo.callback(server.stop)
            try:
                server.wait_until_ready(how.ready)
                break
            except _PortIsTakenError:
                if attempt == _STARTS:
                    raise
        yield server


def _launch(name: str, path: Path, how: _Start, folder: Path, ports: Mapping[str, int]) -> Server:
    # A session of its own: Ctrl-C is for whoever started this, and the programs end in their order.
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            tied([str(path), *how.arguments], "TERM"),
            cwd=folder,
            env={**_environ(), **how.environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return Server(name, folder, ports, process)


@contextlib.contextmanager
def _temporary_folder(name: str) -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix=f"stack-{name}-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _environ() -> dict[str, str]:
    """Return the environment without what the programs would take for their own settings."""
    own = (
        "OTEL_",
        "DD_",
        "JAEGER_",
        "LOKI_",
        "PROMETHEUS_",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    )
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(own)}


def _listening(pid: int) -> set[int]:
    """Return the TCP ports at which a process listens."""
    process = Path(f"/proc/{pid}")
    try:
        sockets = {
            link.readlink().name.removeprefix("socket:[").removesuffix("]")
            for link in (process / "fd").iterdir()
        }
        tables = [(process / "net" / name).read_text(encoding="ascii") for name in ("tcp", "tcp6")]
    except OSError:  # it has ended, or closed a file meanwhile
        return set()
    found = set()
    for line in "".join(tables).splitlines():
        _, address, _, state, *_, inode = line.split()[:10]
        if state == _LISTENS and inode in sockets:
            found.add(int(address.rpartition(":")[2], 16))
    return found


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as opened:
        ports = []
        for _ in range(count):
            listener = opened.enter_context(socket.socket())
            listener.bind((_HOST, 0))
            ports.append(listener.getsockname()[1])
        return ports


@contextlib.contextmanager
def prometheus(
    config: Mapping[str, Any] | None = None,
    *,
    files: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
    data: Path | None = None,
) -> Iterator[Server]:
    """Run Prometheus, which takes OTLP under `/api/v1/otlp` and keeps exemplars.

    Args:
        config: Sections of its configuration, such as `scrape_configs` and `rule_files`, that are
            added to those of `prometheus_config()`.
        files: Further files for its folder, such as rules, by name.
        arguments: Further arguments, such as `--rules.alert.resend-delay=1s`.
        data: Where its blocks are; by default a folder that goes away with it.
    """

    def start(folder: Path, ports: Mapping[str, int]) -> _Start:
        address = f"{_HOST}:{ports['http']}"
        return _Start(
            [
                "--config.file=prometheus.yaml",
                f"--storage.tsdb.path={data or 'data'}",
                f"--web.listen-address={address}",
                "--web.enable-lifecycle",
                "--web.enable-otlp-receiver",
                "--enable-feature=exemplar-storage",
                *arguments,
            ],
            f"http://{address}/-/ready",
            {"prometheus.yaml": prometheus_config(config), **(files or {})},
        )

    with _running("prometheus", ["http"], start) as server:
        yield server


def prometheus_config(config: Mapping[str, Any] | None = None) -> str:
    """Return Prometheus's configuration, with sections of your own added or put instead."""
    sections = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "otlp": {"translation_strategy": "UnderscoreEscapingWithSuffixes"},
        "storage": {"tsdb": {"out_of_order_time_window": "30m"}},
    }
    return _yaml({**sections, **(config or {})})


@contextlib.contextmanager
def alertmanager(config: Mapping[str, Any] | None = None) -> Iterator[Server]:
    """Run Alertmanager, alone.

    Args:
        config: Its configuration; by default it takes alerts and tells nobody.
    """

    def start(folder: Path, ports: Mapping[str, int]) -> _Start:
        address = f"{_HOST}:{ports['http']}"
        return _Start(
            [
                "--config.file=alertmanager.yaml",
                "--storage.path=data",
                f"--web.listen-address={address}",
                "--cluster.listen-address=",
            ],
            f"http://{address}/-/ready",
            {"alertmanager.yaml": alertmanager_config(config)},
        )

    with _running("alertmanager", ["http"], start) as server:
        yield server


def alertmanager_config(config: Mapping[str, Any] | None = None) -> str:
    """Return Alertmanager's configuration."""
    quiet = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}
    return _yaml(quiet if config is None else config)


@contextlib.contextmanager
def loki() -> Iterator[Server]:
    """Run Loki as one process, which takes OTLP under `/otlp`."""

    def start(folder: Path, ports: Mapping[str, int]) -> _Start:
        return _Start(
            ["-config.file=loki.yaml"],
            f"http://{_HOST}:{ports['http']}/ready",
            {"loki.yaml": loki_config(ports)},
        )

    with _running("loki", ["http", "grpc"], start) as server:
        yield server


def loki_config(ports: Mapping[str, int]) -> str:
    """Return Loki's configuration."""
    return _yaml(
        {
            "auth_enabled": False,
            "analytics": {"reporting_enabled": False},
            "server": {
                "http_listen_address": _HOST,
                "http_listen_port": ports["http"],
                "grpc_listen_address": _HOST,
                "grpc_listen_port": ports["grpc"],
                "log_level": "warn",
            },
            "common": {
                "instance_addr": _HOST,
                "path_prefix": "data",
                "replication_factor": 1,
                "ring": {"instance_addr": _HOST, "kvstore": {"store": "inmemory"}},
                "storage": {
                    "filesystem": {
                        "chunks_directory": "data/chunks",
                        "rules_directory": "data/rules",
                    }
                },
            },
            # Ready as soon as it is, not 15 s later, and gone as soon as it is asked.
            "ingester": {
                "lifecycler": {"min_ready_duration": "0s", "join_after": "0s", "final_sleep": "0s"}
            },
            # The parts of the one process find each other at once, not after 10 s.
            "frontend": {"scheduler_dns_lookup_period": "200ms"},
            "frontend_worker": {"dns_lookup_duration": "200ms"},
            "schema_config": {
                "configs": [
                    {
                        "from": "2024-01-01",
                        "store": "tsdb",
                        "object_store": "filesystem",
                        "schema": "v13",
                        "index": {"prefix": "index_", "period": "24h"},
                    }
                ]
            },
            "limits_config": {"allow_structured_metadata": True},
        }
    )


@contextlib.contextmanager
def jaeger() -> Iterator[Server]:
    """Run Jaeger, which keeps spans in memory; its port `otlp_http` takes OTLP."""

    def start(folder: Path, ports: Mapping[str, int]) -> _Start:
        flags = {
            "http": "query.http-server.host-port",
            "query_grpc": "query.grpc-server.host-port",
            "otlp_http": "collector.otlp.http.host-port",
            "otlp_grpc": "collector.otlp.grpc.host-port",
            "collector_http": "collector.http-server.host-port",
            "collector_grpc": "collector.grpc-server.host-port",
            "admin": "admin.http.host-port",
        }
        return _Start(
            [
                "--collector.otlp.enabled=true",
                *(f"--{flag}={_HOST}:{ports[port]}" for port, flag in flags.items()),
            ],
            f"http://{_HOST}:{ports['admin']}/",
            # Spans about itself are for whoever works on Jaeger, and hold up its end.
            environ={"OTEL_TRACES_SAMPLER": "always_off"},
        )

    ports = "http query_grpc otlp_http otlp_grpc collector_http collector_grpc admin"
    with _running("jaeger", ports.split(), start) as server:
        yield server


@contextlib.contextmanager
def datadog_agent() -> Iterator[Server]:
    """Run Datadog's test agent, which takes OTLP as the Agent does, and shows what it was sent."""

    def start(folder: Path, ports: Mapping[str, int]) -> _Start:
        return _Start(
            [
                f"--host={_HOST}",
                f"--otlp-http-port={ports['http']}",
                f"--otlp-grpc-port={ports['grpc']}",
                f"--port={ports['apm']}",
                "--disable-llmobs-data-forwarding",
            ],
            f"http://{_HOST}:{ports['apm']}/info",
        )

    with _running("ddapm", ["http", "grpc", "apm"], start) as server:
        yield server


@contextlib.contextmanager
def collector(
    *configs: Path, ports: Mapping[str, int] | None = None, **environ: str
) -> Iterator[Server]:
    """Run the collector; its port `http` takes OTLP, `metrics` has its own metrics.

    Args:
        configs: Its configuration, by default `local.yaml`, and what changes it. It takes its ports
            from the variables that `collector_environ()` sets.
        ports: Those of a collector that ran before; by default they are chosen.
        environ: Further variables that the configuration uses, such as `PROMETHEUS_URL`.
    """

    def start(folder: Path, ports: Mapping[str, int]) -> _Start:
        return _Start(
            [f"--config={config.absolute()}" for config in configs or (LOCAL_COLLECTOR,)],
            f"http://{_HOST}:{ports['health']}/",
            environ={**collector_environ(ports), **environ},
        )

    names = ["http", "grpc", "health", "metrics"]
    with _running("otelcol", names, start, given=ports) as server:
        yield server


def collector_environ(ports: Mapping[str, int]) -> dict[str, str]:
    """Return the variables from which a collector's configuration takes its own ports."""
    return {
        "OTELCOL_HTTP": f"{_HOST}:{ports['http']}",
        "OTELCOL_GRPC": f"{_HOST}:{ports['grpc']}",
        "OTELCOL_HEALTH": f"{_HOST}:{ports['health']}",
        "OTELCOL_METRICS_PORT": str(ports["metrics"]),
    }


@dataclass(frozen=True)
class Stack:
    """All programs, wired: what the collector takes arrives in Prometheus, Loki and Jaeger."""

    alertmanager: Server
    collector: Server
    jaeger: Server
    loki: Server
    prometheus: Server

    @property
    def addresses(self) -> dict[str, Any]:
        """Where everything is."""
        return {
            "alertmanager": self.alertmanager.url,
            "collector": {
                "otlp_http": self.collector.url,
                "otlp_grpc": self.collector.url_of("grpc"),
                "metrics": self.collector.url_of("metrics") + "/metrics",
                "health": self.collector.url_of("health"),
            },
            "jaeger": self.jaeger.url,
            "loki": self.loki.url,
            "prometheus": self.prometheus.url,
        }


@contextlib.contextmanager
def stack(config: Path = LOCAL_COLLECTOR) -> Iterator[Stack]:
    """Run all programs, each told where the others are.

    Args:
        config: The configuration of the collector.

    Raises:
        StackError: A program was not built, or does not start.
    """
    absent = missing("alertmanager", "jaeger", "loki", "otelcol", "prometheus")
    if absent:
        raise StackError(f"{', '.join(absent)} not built: run `{BUILD_COMMAND}`")
    with contextlib.ExitStack() as undo:
        alerts = undo.enter_context(alertmanager())
        traces = undo.enter_context(jaeger())
        lines = undo.enter_context(loki())
        metrics = undo.enter_context(
            prometheus(
                {
                    "alerting": {
                        "alertmanagers": [
                            {"static_configs": [{"targets": [_host_and_port(alerts.url)]}]}
                        ]
                    }
                }
            )
        )
        takes = undo.enter_context(
            collector(
                config,
                PROMETHEUS_URL=metrics.url,
                LOKI_URL=lines.url,
                JAEGER_OTLP_URL=traces.url_of("otlp_http"),
            )
        )
        yield Stack(
            alertmanager=alerts, collector=takes, jaeger=traces, loki=lines, prometheus=metrics
        )


def _host_and_port(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc


def _yaml(value: object) -> str:
    return json.dumps(value, indent=2)  # JSON is YAML
