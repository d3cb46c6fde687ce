"""The gateway lets in whom it should, takes no more than it can, and keeps secrets to itself."""

from __future__ import annotations

import gzip
import json
import os
import ssl
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.otlp_receiver import otlp_receiver
from tests.stack.build import COLLECTOR
from tests.stack.chain import agent, credentials, gateway, own_metrics, post, span_request
from tests.stack.programs import fetch, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.stack.chain import Credentials
    from tests.stack.programs import Server, Stack

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(180)]

MIB = 2**20


@pytest.fixture(scope="module")
def known() -> Iterator[Credentials]:
    with credentials() as made:
        yield made


@pytest.fixture(scope="module")
def front(known: Credentials, need: Callable[..., Any]) -> Iterator[Server]:
    """Run a gateway; nothing is behind it."""
    need("otelcol")
    with tempfile.TemporaryDirectory() as folder, gateway(known, Path(folder)) as server:
        yield server


def test_who_has_certificate_and_token_is_let_in(known: Credentials, front: Server) -> None:
    """With a certificate and the token the gateway accepts, by HTTP."""
    request = span_request("web", {"a": 1})
    assert post(front.ports["http"], request, token=known.token, context=known.context()) == 200


@pytest.mark.parametrize("token", ["", "wrong", "Bearer"])
def test_who_has_no_token_is_refused(known: Credentials, front: Server, token: str) -> None:
    """Without the token the gateway answers 401, and takes nothing."""
    before = own_metrics(front).get("otelcol_receiver_accepted_spans", 0)
    request = span_request("web", {"a": 1})
    assert post(front.ports["http"], request, token=token, context=known.context()) == 401
    assert own_metrics(front).get("otelcol_receiver_accepted_spans", 0) == before


def test_who_has_no_certificate_is_refused(known: Credentials, front: Server) -> None:
    """Without a client certificate there is no connection, whatever the token."""
    request = span_request("web", {"a": 1})
    with pytest.raises((ssl.SSLError, ConnectionError)):
        post(
            front.ports["http"],
            request,
            token=known.token,
            context=known.context(certificate=False),
        )


def test_there_is_no_way_around_tls(known: Credentials, front: Server) -> None:
    """A plain connection is refused."""
    assert post(front.ports["http"], span_request("web", {"a": 1}), token=known.token) == 400


@pytest.mark.parametrize("port", ["http", "grpc"])
def test_old_tls_is_refused(known: Credentials, front: Server, port: str) -> None:
    """TLS before 1.2 is not spoken."""
    context = known.context()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        post(front.ports[port], b"", path="/", token=known.token, context=context)


def test_by_grpc_the_same_is_asked_for(known: Credentials, front: Server) -> None:
    """By gRPC, too, there is nothing without the token and the certificate."""
    import grpc
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

    def send(*, certificate: bool = True, token: str = known.token, size: int = 1) -> str:
        own = [Path(known.path(f"client.{end}")).read_bytes() for end in ("key", "crt")]
        proof = grpc.ssl_channel_credentials(
            known.authority.read_bytes(), *(own if certificate else ())
        )
        metadata = [("authorization", f"Bearer {token}")] if token else []
        with grpc.secure_channel(f"127.0.0.1:{front.ports['grpc']}", proof) as channel:
            try:
                TraceServiceStub(channel).Export(
                    span_request("web", {"x" * size: 1}), timeout=10, metadata=metadata
                )
            except grpc.RpcError as error:
                return error.code().name
            return "OK"

    assert send() == "OK"
    assert send(token="") == "UNAUTHENTICATED"
    assert send(token="wrong") == "UNAUTHENTICATED"
    assert send(certificate=False) == "UNAVAILABLE"
    assert send(size=17 * MIB) == "RESOURCE_EXHAUSTED"


def test_what_is_too_large_is_refused_and_memory_stays_bounded(
    known: Credentials, front: Server
) -> None:
    """Large bodies and what unpacks to gigabytes are refused, and the gateway goes on."""

    def send(body: bytes, *, zipped: bool = False) -> int:
        return post(
            front.ports["http"],
            body,
            path="/v1/traces",
            token=known.token,
            context=known.context(),
            zipped=zipped,
        )

    assert send(b"\0" * (16 * MIB + 1)) == 400
    bomb = gzip.compress(bytes(240 * MIB))
    assert len(bomb) < MIB
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: send(bomb, zipped=True), range(24))) == {400}
    assert peak_memory(front) < 512 * MIB
    request = span_request("web", {"a": 1})
    assert post(front.ports["http"], request, token=known.token, context=known.context()) == 200
    assert fetch(front.url_of("health"))["status"] == "Server available"


def peak_memory(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_a_certificate_alone_is_enough_where_there_are_no_tokens(
    known: Credentials, need: Callable[..., Any], tmp_path: Path
) -> None:
    """With `…-no-token.yaml` the gateway knows an agent by its certificate, and nobody else."""
    need("otelcol")
    absent = str(tmp_path / "absent")
    overlays = [COLLECTOR / f"{who}-no-token.yaml" for who in ("gateway", "agent")]
    with (
        otlp_receiver() as receiver,
        gateway(
            known,
            tmp_path / "g",
            overlays[0],
            TRACES_OTLP_URL=receiver.endpoint,
            OTELCOL_TOKEN_FILE=absent,
        ) as server,
        agent(
            known, tmp_path / "a", server.ports["http"], overlays[1], OTELCOL_TOKEN_FILE=absent
        ) as near,
    ):
        span = span_request("orders", {"a": 1}, {"a": {"attributes": {"pipeline.name": "orders"}}})
        with pytest.raises((ssl.SSLError, ConnectionError)):
            post(server.ports["http"], span, context=known.context(certificate=False))
        assert post(near.ports["http"], span) == 200
        receiver.wait_for(lambda: receiver.spans, timeout=30)


def test_a_token_from_a_variable_is_asked_for_without_tls(
    known: Credentials, need: Callable[..., Any], tmp_path: Path
) -> None:
    """With `gateway-no-tls.yaml` and `token-variable.yaml` the token is still asked for."""
    need("otelcol")
    overlays = [COLLECTOR / f"{name}.yaml" for name in ("gateway-no-tls", "token-variable")]
    with gateway(known, tmp_path, *overlays, OTELCOL_TOKEN="sesame") as server:
        span, port = span_request("orders", {"a": 1}), server.ports["http"]
        assert post(port, span, token="sesame") == 200
        assert post(port, span, token="wrong") == 401
        assert post(port, span) == 401


# Secrets ---------------------------------------------------------------------------------------

SECRET = "s3cr3tQ9"  # in all that is planted
AWS = f"AKIA{SECRET.upper()}ABCDEFGH"
JWT = f"eyJhbGciOiJI{SECRET}.eyJzdWIiOiIx{SECRET}.{SECRET}"
GITHUB = f"ghp_{SECRET}{'a1' * 16}"
KEY = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n{SECRET}\n-----END PRIVATE KEY-----"

TEXTS = [
    f"login with password={SECRET} failed",
    f"login with password: '{SECRET} two words' failed",
    f'{{"user": "bob", "password": "{SECRET}"}}',
    f'{{\\"api_key\\":\\"{SECRET}\\"}}',
    f"GET https://bob:{SECRET}@host/orders",
    f"GET https://host/orders?access_token={SECRET}&page=1",
    f"Authorization: Bearer {SECRET}-{SECRET}-{SECRET}",
    f"authorization=Basic {SECRET}==",
    f"client_secret: {SECRET}",
    f"with {AWS} in it",
    f"with {JWT} in it",
    f"with {GITHUB} in it",
    f"with {KEY} in it",
    f"[('token', '{JWT}')]",
]
KEYS = ["password", "db.password", "accessToken", "API_KEY", "x-api-key", "client_secret", "pwd"]
#: What must arrive as it is.
PLAIN = {
    "text": "loaded 40 rows of partition_key=7, token_count=3",
    "token_count": "3",
    "partition_key": "eu",
    "secret_name": "orders-db",
    "password": "[redacted:password]",
    "note": "password=[redacted:password] was wrong",
}


def planted(service: str) -> tuple[Any, ...]:
    """Return requests of all signals that have secrets wherever words can be."""
    resource = {"service.name": service, "deployment.password": SECRET}
    traces, logs, metrics = (
        ExportTraceServiceRequest(),
        ExportLogsServiceRequest(),
        ExportMetricsServiceRequest(),
    )
    now = time.time_ns()

    group = traces.resource_spans.add()
    fill(group.resource, resource)
    scope = group.scope_spans.add()
    fill(scope.scope, {"password": SECRET})

    def add_span(name: str) -> Any:
        span = scope.spans.add(name=name, start_time_unix_nano=now, end_time_unix_nano=now + 1000)
        span.trace_id, span.span_id = os.urandom(16), os.urandom(8)
        span.attributes.add(key="pipeline.name").value.string_value = "orders"
        return span

    for text in TEXTS:
        span = add_span(f"do {text}")
        span.status.code = Status.STATUS_CODE_ERROR
        span.status.message = text
        fill(span, {"text": text})
        event = span.events.add(name=text, time_unix_nano=now)
        fill(event, {"exception.message": text, "exception.stacktrace": f"Traceback\n  {text}\n"})
    span = add_span("plain")
    fill(span, PLAIN)
    span = add_span("keys")
    fill(span, dict.fromkeys(KEYS, SECRET))
    nested = span.attributes.add(key="config").value.kvlist_value.values.add(key="password")
    nested.value.string_value = SECRET
    span.attributes.add(key="list").value.array_value.values.add().string_value = TEXTS[0]
    span.attributes.add(key="bytes_token").value.bytes_value = SECRET.encode()

    records = logs.resource_logs.add()
    fill(records.resource, resource)
    lines = records.scope_logs.add()
    # Loki keeps one of several lines that are the same and have the same time.
    for number, text in enumerate(TEXTS, 1):
        record = lines.log_records.add(time_unix_nano=now + number, event_name=text)
        record.body.string_value = text
        fill(record, {"text": text, "exception.stacktrace": text})
    record = lines.log_records.add(time_unix_nano=now)
    record.body.string_value = PLAIN["text"]
    fill(record, PLAIN)
    record = lines.log_records.add(time_unix_nano=now)
    for key in (*KEYS, "text"):
        record.body.kvlist_value.values.add(key=key).value.string_value = f"password={SECRET}"
    fill(record, dict.fromkeys(KEYS, SECRET))

    values = metrics.resource_metrics.add()
    fill(values.resource, resource)
    points = values.scope_metrics.add().metrics.add(name="planted").gauge.data_points
    for number, text in enumerate(TEXTS):
        point = points.add(time_unix_nano=now, as_double=1)
        fill(point, {"text": text, "password": SECRET, "number": str(number)})
    return traces, logs, metrics


def fill(thing: Any, values: dict[str, str]) -> None:
    for key, value in values.items():
        thing.attributes.add(key=key).value.string_value = value


def test_no_secret_reaches_a_backend(stack: Stack, known: Credentials, tmp_path: Path) -> None:
    """Secrets in names, attributes, bodies and exceptions are in no backend, the rest is."""
    service = f"planted-{uuid.uuid4().hex[:8]}"
    with gateway(known, tmp_path, stack=stack, OTELCOL_SPAN_METRICS_INTERVAL="1s") as server:
        for request in planted(service):
            port = server.ports["http"]
            assert post(port, request, token=known.token, context=known.context()) == 200

        job = f'{{job="{service}"}}'
        now = time.time()

        def in_jaeger() -> list[dict[str, Any]]:
            traces = stack.jaeger.get("/api/traces", service=service, limit="100")["data"]
            return traces if len(traces) == len(TEXTS) + 2 else []

        def in_loki() -> list[dict[str, Any]]:
            found = stack.loki.get(
                "/loki/api/v1/query_range",
                query=f'{{service_name="{service}"}}',
                start=f"{now - 600:.0f}",
                end=f"{now + 60:.0f}",
                limit="1000",
            )["data"]["result"]
            return found if sum(len(one["values"]) for one in found) == len(TEXTS) + 2 else []

        def in_prometheus() -> list[dict[str, Any]]:
            found = stack.prometheus.get("/api/v1/series", **{"match[]": job})["data"]
            names = {one["__name__"] for one in found}
            return found if {"planted", "traces_span_metrics_calls_total"} <= names else []

        traces, lines, series = until(in_jaeger), until(in_loki), until(in_prometheus)

    for found in (traces, lines, series):
        text = json.dumps(found)
        assert SECRET not in text
        assert SECRET.upper() not in text
        assert "****" in text

    spans = {
        span["operationName"]: {tag["key"]: tag["value"] for tag in span["tags"]}
        for trace in traces
        for span in trace["spans"]
    }
    assert spans["plain"].items() >= PLAIN.items()
    assert "do login with **** failed" in spans
    [plain] = [one for one in lines if one["stream"].get("partition_key") == "eu"]
    assert plain["stream"].items() >= PLAIN.items()
    assert [text for _, text in plain["values"]] == [PLAIN["text"]]
    assert len([one for one in series if one["__name__"] == "planted"]) == len(TEXTS)


def test_no_secret_leaves_an_agent(
    known: Credentials, need: Callable[..., Any], tmp_path: Path
) -> None:
    """What an agent sends on has no secrets in it."""
    need("otelcol")
    with (
        otlp_receiver() as receiver,
        agent(known, tmp_path, 1, OTELCOL_GATEWAY_URL=receiver.endpoint) as server,
    ):
        for request in planted("planted"):
            assert post(server.ports["http"], request) == 200
        receiver.wait_for(lambda: receiver.spans and receiver.logs and receiver.metrics, timeout=30)
        for request in receiver.requests:
            body = (
                gzip.decompress(request.body) if request.body[:2] == b"\x1f\x8b" else request.body
            )
            assert SECRET.encode() not in body
            assert SECRET.upper().encode() not in body
        assert {span.name for span in receiver.spans} >= {"plain", "do login with **** failed"}
        [plain] = [span for span in receiver.spans if span.name == "plain"]
        assert plain.attributes.items() >= PLAIN.items()
