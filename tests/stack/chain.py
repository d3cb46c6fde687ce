"""An agent and a gateway as they are deployed: TLS, client certificates, a token, disk queues."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import os
import secrets
import ssl
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.stack.build import COLLECTOR
from tests.stack.programs import collector, fetch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.stack.programs import Server, Stack

__all__ = [
    "AGENT",
    "GATEWAY",
    "Credentials",
    "agent",
    "credentials",
    "gateway",
    "gauge_request",
    "log_request",
    "own_metrics",
    "post",
    "span_request",
]

AGENT = COLLECTOR / "agent.yaml"
GATEWAY = COLLECTOR / "gateway.yaml"

Request = ExportLogsServiceRequest | ExportMetricsServiceRequest | ExportTraceServiceRequest

_PATHS = {
    ExportLogsServiceRequest: "/v1/logs",
    ExportMetricsServiceRequest: "/v1/metrics",
    ExportTraceServiceRequest: "/v1/traces",
}


@dataclass(frozen=True)
class Credentials:
    """A token, and certificates of an authority that exists for this."""

    folder: Path
    token: str

    @property
    def authority(self) -> Path:
        """The certificate of who signed the others."""
        return self.folder / "ca.crt"

    @property
    def token_file(self) -> Path:
        """The file that holds the token."""
        return self.folder / "token"

    def path(self, name: str) -> str:
        """Return the path of a file: `server.crt`, `server.key`, `client.crt`, `client.key`."""
        return str(self.folder / name)

    def context(self, *, certificate: bool = True) -> ssl.SSLContext:
        """Return what a client trusts and, with `certificate`, who it is."""
        context = ssl.create_default_context(cafile=str(self.authority))
        if certificate:
            context.load_cert_chain(self.path("client.crt"), self.path("client.key"))
        return context


@contextlib.contextmanager
def credentials() -> Iterator[Credentials]:
    """Make certificates for a server at 127.0.0.1 and a client, and a token."""
    with tempfile.TemporaryDirectory(prefix="stack-credentials-") as name:
        folder = Path(name)
        made = Credentials(folder, secrets.token_urlsafe(24))
        made.token_file.write_text(made.token + "\n", encoding="utf-8")
        made.token_file.chmod(0o600)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        signer = ["-CA", "ca.crt", "-CAkey", "ca.key"]
        _openssl(folder, *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=tests")
        for who, usage in (("server", "serverAuth"), ("client", "clientAuth")):
            extensions = [f"extendedKeyUsage={usage}", "basicConstraints=critical,CA:FALSE"]
            if who == "server":
                extensions.append("subjectAltName=IP:127.0.0.1,DNS:localhost")
            _openssl(
                folder,
                *key,
                *signer,
                *("-keyout", f"{who}.key", "-out", f"{who}.crt", "-subj", f"/CN={who}"),
                *(word for extension in extensions for word in ("-addext", extension)),
            )
        yield made


def _openssl(folder: Path, *arguments: str) -> None:
    command = ["openssl", "req", "-x509", "-days", "2", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=30)


@contextlib.contextmanager
def gateway(
    known: Credentials,
    storage: Path,
    *overlays: Path,
    stack: Stack | None = None,
    ports: Mapping[str, int] | None = None,
    **environ: str,
) -> Iterator[Server]:
    """Run a gateway that asks for a token and a client certificate.

    Args:
        known: Whom it knows, and who it is.
        storage: The folder for its queues.
        overlays: Files that change its configuration.
        stack: Where it sends to.
        ports: Those of a gateway that ran before; by default they are chosen.
        environ: Further variables.
    """
    backends = {}
    if stack is not None:
        backends = {
            "PROMETHEUS_URL": stack.prometheus.url,
            "LOKI_URL": stack.loki.url,
            "TRACES_OTLP_URL": stack.jaeger.url_of("otlp_http"),
        }
    settings = {
        **backends,
        "OTELCOL_TOKEN_FILE": str(known.token_file),
        "OTELCOL_TLS_CERT": known.path("server.crt"),
        "OTELCOL_TLS_KEY": known.path("server.key"),
        "OTELCOL_CLIENT_CA": str(known.authority),
        "OTELCOL_STORAGE_DIR": str(storage),
        "OTELCOL_FLUSH": "200ms",
        **environ,
    }
    with collector(GATEWAY, *overlays, ports=ports, **settings) as server:
        yield server


@contextlib.contextmanager
def agent(
    known: Credentials,
    storage: Path,
    gateway_port: int,
    *overlays: Path,
    ports: Mapping[str, int] | None = None,
    **environ: str,
) -> Iterator[Server]:
    """Run an agent that knows the token and has a certificate."""
    settings = {
        "OTELCOL_GATEWAY_URL": f"https://127.0.0.1:{gateway_port}",
        "OTELCOL_GATEWAY_CA": str(known.authority),
        "OTELCOL_TOKEN_FILE": str(known.token_file),
        "OTELCOL_CLIENT_CERT": known.path("client.crt"),
        "OTELCOL_CLIENT_KEY": known.path("client.key"),
        "OTELCOL_STORAGE_DIR": str(storage),
        "OTELCOL_FLUSH": "200ms",
        **environ,
    }
    with collector(AGENT, *overlays, ports=ports, **settings) as server:
        yield server


def post(
    port: int,
    request: Request | bytes,
    *,
    path: str = "",
    token: str = "",
    context: ssl.SSLContext | None = None,
    zipped: bool = False,
) -> int:
    """Send one OTLP request; return the HTTP status.

    Args:
        port: The port, at 127.0.0.1.
        request: What to send.
        path: By default that of the request's kind.
        token: The bearer token, if any.
        context: TLS; by default the connection is a plain one.
        zipped: `request` is compressed by gzip already.
    """
    body = request if isinstance(request, bytes) else gzip.compress(request.SerializeToString())
    headers = {"Content-Type": "application/x-protobuf"}
    if zipped or not isinstance(request, bytes):
        headers["Content-Encoding"] = "gzip"
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if context is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    with contextlib.closing(connection):
        connection.request("POST", path or _PATHS[type(request)], body, headers)
        return connection.getresponse().status


def span_request(
    service: str,
    names: Mapping[str, int],
    kinds: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    resource: Mapping[str, str] | None = None,
    trace_id: bytes = b"",
) -> ExportTraceServiceRequest:
    """Return a request with spans.

    Args:
        service: The name of the service.
        names: How many spans of each name.
        kinds: By name of the span: its `attributes`, its `seconds`, whether it is an `error`.
        resource: Further attributes of the resource.
        trace_id: The trace that all belong to; by default each is a trace of its own.
    """
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    _set(group.resource.attributes, {"service.name": service, **(resource or {})})
    scope = group.scope_spans.add()
    now = time.time_ns()
    for name, count in names.items():
        kind = (kinds or {}).get(name, {})
        for _ in range(count):
            span = scope.spans.add()
            span.trace_id = trace_id or os.urandom(16)
            span.span_id = os.urandom(8)
            span.name = name
            span.start_time_unix_nano = now - round(kind.get("seconds", 0.01) * 1e9)
            span.end_time_unix_nano = now
            if kind.get("error"):
                span.status.code = Status.STATUS_CODE_ERROR
            _set(span.attributes, kind.get("attributes", {}))
    return request


def gauge_request(service: str, name: str, value: float) -> ExportMetricsServiceRequest:
    """Return a request with one point of a gauge."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    _set(group.resource.attributes, {"service.name": service})
    point = group.scope_metrics.add().metrics.add(name=name).gauge.data_points.add()
    point.time_unix_nano = time.time_ns()
    point.as_double = value
    return request


def log_request(service: str, texts: Sequence[str]) -> ExportLogsServiceRequest:
    """Return a request with log records."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    _set(group.resource.attributes, {"service.name": service})
    scope = group.scope_logs.add()
    for text in texts:
        record = scope.log_records.add()
        record.time_unix_nano = time.time_ns()
        record.severity_text = "INFO"
        record.body.string_value = text
    return request


def _set(attributes: Any, values: Mapping[str, str]) -> None:
    for key, value in values.items():
        attributes.add(key=key).value.string_value = value


def own_metrics(server: Server) -> dict[str, float]:
    """Return what a collector counts about itself, added up over labels."""
    found: dict[str, float] = {}
    for line in fetch(server.url_of("metrics") + "/metrics").splitlines():
        if line.startswith("otelcol_"):
            name = line.partition("{")[0]
            found[name] = found.get(name, 0.0) + float(line.rpartition(" ")[2])
    return found
