"""`otel-pipeline doctor`: does telemetry arrive, and what to do where it does not."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from otel_pipeline import clock
from otel_pipeline.config import examine
from otel_pipeline.semconv import SIGNALS, Signal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from otel_pipeline.config import Config, PushgatewayConfig, SignalConfig

__all__ = ["Finding", "add_arguments", "examine_all", "run"]

_USER_AGENT = "otel-pipeline-doctor"
_PROBE_SECONDS = 5.0
_PAGE_SECONDS = 10.0
_LONGEST_SANE_TIMEOUT = 300.0
_MOST_SKEW = 5.0
_NEVER_BEFORE = 1_700_000_000  # seconds since 1970, in 2023: no clock that works is before this
_MARKS = {"ok": "ok  ", "note": "note", "warning": "WARN", "problem": "FAIL"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: What was checked.
        status: `ok`; `note`, worth knowing; `warning`, may cost data; `problem`, costs data now.
        message: What was found.
        remedy: What to do, or empty.
    """

    check: str
    status: Literal["ok", "note", "warning", "problem"]
    message: str
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `otel-pipeline doctor`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Check everything and print what was found.

    Args:
        args: `json`.

    Returns:
        0, or 1 if there is a problem.
    """
    findings = list(examine_all())
    healthy = all(finding.status != "problem" for finding in findings)
    if args.json:
        document = {"healthy": healthy, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(document, indent=2))
    else:
        print("\n".join(_lines(findings)))
    return 0 if healthy else 1


def _lines(findings: list[Finding]) -> Iterator[str]:
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        yield f"{_MARKS[finding.status]}  {finding.check.ljust(width)}  {finding.message}"
        if finding.remedy:
            yield f"{' ' * (width + 8)}-> {finding.remedy}"
    problems = sum(finding.status == "problem" for finding in findings)
    yield ""
    yield f"{problems} problem{'s' * (problems != 1)} found." if problems else "No problem found."


def examine_all() -> Iterator[Finding]:
    """Yield what each check finds, from the configuration to the last scrape."""
    examined = examine()
    config = examined.config
    for message in examined.problems.values():
        yield Finding("configuration", "problem", message, "correct it: `otel-pipeline env`")
    for message in config.warnings:
        yield Finding("configuration", "warning", message)
    if not examined.problems:
        yield Finding(
            "configuration",
            "ok",
            f"service {config.service_name!r}: traces to {_names(config.traces)}, metrics to "
            f"{_names(config.metrics)}, logs to {_names(config.logs)}",
        )
    yield from _service(config)
    yield from _in_the_way(config)
    yield from _versions()
    yield from _local_clock()
    if config.disabled:
        return
    for signal in SIGNALS:
        yield from _collector(config, signal)
    yield from _skew(config)
    yield from _last_values(config)
    if "prometheus" in config.metrics.exporters:
        yield from _endpoint(config)


def _names(signal: SignalConfig) -> str:
    return ", ".join(signal.exporters) or "nowhere"


def _service(config: Config) -> Iterator[Finding]:
    if config.service_name.startswith("unknown_service"):
        yield Finding(
            "service name",
            "warning",
            "no service name is set: a backend cannot tell your programs apart",
            "set OTEL_SERVICE_NAME, or pass it to configure()",
        )


def _in_the_way(config: Config) -> Iterator[Finding]:
    if config.disabled:
        yield Finding(
            "disabled",
            "problem",
            "OTEL_SDK_DISABLED is true: nothing is traced, counted for export or sent",
            "unset OTEL_SDK_DISABLED",
        )
    from otel_pipeline.sdk.providers import is_foreign  # noqa: PLC0415  loads the SDK

    for signal in SIGNALS:
        if is_foreign(signal):
            yield Finding(
                "provider",
                "note",
                f"someone else has installed an OpenTelemetry provider for {signal}: it is "
                f"adopted, and exporting is its business",
                "without it (opentelemetry-instrument?) this library's exporters work",
            )
    for signal in SIGNALS:
        timeout = getattr(config, signal).otlp.timeout
        if timeout > _LONGEST_SANE_TIMEOUT:
            yield Finding(
                "timeout",
                "warning",
                f"the OTLP timeout for {signal} is {timeout:g} seconds: it is read in seconds, as "
                f"in OpenTelemetry's SDK for Python, not in milliseconds",
                f"set OTEL_EXPORTER_OTLP_TIMEOUT={timeout / 1000:g}",
            )


def _versions() -> Iterator[Finding]:
    from google.protobuf.internal import api_implementation  # noqa: PLC0415

    kind = api_implementation.Type()
    if kind == "python":
        yield Finding(
            "protobuf",
            "warning",
            "protobuf runs in pure Python, about 50 times slower: exports cost a lot of CPU",
            "install a wheel of protobuf for this platform, and unset "
            "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION",
        )


def _local_clock() -> Iterator[Finding]:
    now = clock.now()
    if now < _NEVER_BEFORE:
        yield Finding(
            "clock",
            "problem",
            f"this machine believes that it is {time.strftime('%Y-%m-%d', time.gmtime(now))}",
            "set its clock: backends refuse data from the past",
        )


def _collector(config: Config, signal: str) -> Iterator[Finding]:
    settings: SignalConfig = getattr(config, signal)
    from otel_pipeline.sdk.providers import is_foreign  # noqa: PLC0415

    if "otlp" not in settings.exporters or is_foreign(signal):
        return
    from otel_pipeline.errors import ConfigurationError  # noqa: PLC0415
    from otel_pipeline.sdk.transport import transport_for  # noqa: PLC0415

    check = f"collector ({signal})"
    try:
        transport = transport_for(signal, settings.otlp)
    except ConfigurationError as error:
        yield Finding(check, "problem", str(error), "correct it: `otel-pipeline env --set`")
        return
    # An export request without items is a whole one: it passes authentication and parsing.
    outcome = transport.send(b"", timeout=min(settings.otlp.timeout, _PROBE_SECONDS))
    transport.close()
    where = f"{transport.endpoint} ({settings.otlp.protocol})"
    if outcome.kind == "delivered":
        yield Finding(check, "ok", f"{where} answers")
    elif outcome.kind == "away":
        yield Finding(
            check,
            "problem",
            f"nothing answers at {where}: {outcome.reason}",
            _remedy_away(signal, explicit=settings.otlp.explicit),
        )
    elif outcome.kind == "retry":
        yield Finding(
            check,
            "problem",
            f"{where} is there but takes nothing now: {outcome.reason}",
            "look at the collector's own log; it may be out of memory or behind",
        )
    else:
        yield Finding(
            check,
            "problem",
            f"{where} refuses: {outcome.reason}",
            "check the path and port of the endpoint, OTEL_EXPORTER_OTLP_HEADERS (credentials), "
            "OTEL_EXPORTER_OTLP_PROTOCOL, and that the collector has a pipeline for it",
        )


def _remedy_away(signal: str, *, explicit: bool) -> str:
    variable = f"OTEL_{signal.upper()}_EXPORTER=none"
    if explicit:
        return f"start the collector, correct OTEL_EXPORTER_OTLP_ENDPOINT, or set {variable}"
    return f"start a collector, set OTEL_EXPORTER_OTLP_ENDPOINT, or set {variable}"


def _skew(config: Config) -> Iterator[Finding]:
    """Compare clocks with the first collector that speaks HTTP and tells the time."""
    for signal in (Signal.TRACES, Signal.LOGS, Signal.METRICS):
        settings: SignalConfig = getattr(config, signal)
        if "otlp" not in settings.exporters or settings.otlp.protocol == "grpc":
            continue
        there = _date_of(settings.otlp.endpoint)
        if there is None:
            continue
        skew = clock.now() - there
        if abs(skew) > _MOST_SKEW:
            yield Finding(
                "clock",
                "warning",
                f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} "
                f"that of the collector: spans of several machines will not line up",
                "run a time service (NTP) on both",
            )
        else:
            yield Finding("clock", "ok", "agrees with that of the collector")
        return


def _date_of(endpoint: str) -> float | None:
    """Return the time that a server's Date header tells, or None."""
    parts = urlsplit(endpoint)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_PROBE_SECONDS)
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError, TypeError):
        connection.request("GET", "/", headers={"User-Agent": _USER_AGENT})
        date = connection.getresponse().getheader("Date")
        return email.utils.parsedate_to_datetime(date).timestamp() if date else None
    connection.close()
    return None


def _last_values(config: Config) -> Iterator[Finding]:
    from otel_pipeline.sdk.last_values import Textfile  # noqa: PLC0415

    if config.textfile is not None:
        textfile = Textfile(config.textfile)
        problem = textfile.problem()
        if problem:
            yield Finding(
                "textfile",
                "problem",
                f"{config.textfile} cannot be written: {problem}",
                "create the folder, make it writable, or correct OTEL_PIPELINE_TEXTFILE",
            )
        else:
            yield Finding("textfile", "ok", f"{config.textfile} can be written")
    if config.pushgateway is not None:
        yield _gateway(config.pushgateway)


def _gateway(settings: PushgatewayConfig) -> Finding:
    check = "pushgateway"
    try:
        _get(f"{settings.url}/-/ready", "text/plain", settings.headers)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Finding(
            check,
            "problem",
            f"{settings.url} is not ready for a push: {error}",
            "start a Pushgateway there, or correct OTEL_PIPELINE_PUSHGATEWAY and its credentials",
        )
    return Finding(check, "ok", f"{settings.url} is ready")


def _endpoint(config: Config) -> Iterator[Finding]:
    from otel_pipeline.sdk.metrics_server import MetricsServer, default_exposition  # noqa: PLC0415

    host, port = config.prometheus_host, config.prometheus_port
    check = "metrics endpoint"
    try:
        server = MetricsServer(host, port, default_exposition().render)
    except OSError as error:
        yield from _occupied(config, error)
        return
    with server:
        yield Finding(
            check,
            "ok",
            f"port {server.port} on {host} is free: no pipeline of yours serves /metrics now",
        )
        yield _parses(server.url)


def _occupied(config: Config, error: OSError) -> Iterator[Finding]:
    anywhere = {"", "0.0.0.0", "::"}  # noqa: S104  only compared
    host = "localhost" if config.prometheus_host in anywhere else config.prometheus_host
    base = f"http://{f'[{host}]' if ':' in host else host}:{config.prometheus_port}"
    status = _status_at(base)
    check = "metrics endpoint"
    if status is None:
        yield Finding(
            check,
            "problem" if config.prometheus_port_explicit else "warning",
            f"port {config.prometheus_port} on {config.prometheus_host} cannot be used: "
            f"{error.strerror or error}; it is another program's",
            "free the port, or set OTEL_EXPORTER_PROMETHEUS_PORT to another one",
        )
        return
    yield Finding(
        check,
        "ok",
        f"{base}/metrics is served by process {status.get('pid')} of service "
        f"{status.get('service')!r}",
    )
    yield _parses(f"{base}/metrics")
    yield _scraped(status.get("last_scrape"))


def _status_at(base: str) -> dict[str, Any] | None:
    """Return what `/status` of a process of this library says, or None if it is no such thing."""
    try:
        status = json.loads(_get(f"{base}/status", "application/json"))
    except (OSError, ValueError, http.client.HTTPException):
        return None
    return status if isinstance(status, dict) and "last_scrape" in status else None


def _scraped(scrape: dict[str, Any] | None) -> Finding:
    if scrape is None:
        return Finding(
            "scraped",
            "warning",
            "/metrics has not been scraped since the program started",
            "add the address to Prometheus's scrape_configs, and look at its page Status > Targets",
        )
    ago = max(clock.now() - float(scrape["time"]), 0)
    by = scrape.get("user_agent") or "an unnamed client"
    return Finding("scraped", "ok", f"{ago:.0f} s ago by {by} from {scrape.get('address')}")


def _parses(url: str) -> Finding:
    from prometheus_client.openmetrics import parser as openmetrics  # noqa: PLC0415
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

    try:
        text = _get(url, "text/plain")
        families = len(list(text_string_to_metric_families(text)))
        text = _get(url, "application/openmetrics-text; version=1.0.0")
        list(openmetrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Finding(
            "metrics page",
            "problem",
            f"{url} is no page that Prometheus can read: {error}",
            "please report this with the page",
        )
    return Finding("metrics page", "ok", f"{families} metrics, readable in both formats")


def _get(url: str, accept: str, headers: Mapping[str, str] | None = None) -> str:
    request = urllib.request.Request(  # noqa: S310  always http to a configured host
        url,
        headers={
            "Accept": accept,
            "User-Agent": f"{_USER_AGENT}/{os.getpid()}",
            **(headers or {}),
        },
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_PAGE_SECONDS) as response:
        text: str = response.read().decode()
    return text
