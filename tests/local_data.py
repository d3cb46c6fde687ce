"""Telemetry for tests of the local backend, as OTLP requests."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = [
    "TIME",
    "add_attributes",
    "counter",
    "histogram",
    "log",
    "logs",
    "metrics",
    "span",
    "spans",
]

TIME = 1_700_000_000 * 10**9
SECOND = 10**9


def add_attributes(to: Any, attributes: dict[str, Any]) -> None:
    for key, value in attributes.items():
        pair = to.add(key=key).value
        if isinstance(value, bool):
            pair.bool_value = value
        elif isinstance(value, int):
            pair.int_value = value
        elif isinstance(value, float):
            pair.double_value = value
        else:
            pair.string_value = value


def _scope(groups: Any, scopes: str, service: str) -> Any:
    group = groups.add()
    add_attributes(group.resource.attributes, {"service.name": service})
    scope = getattr(group, scopes).add()
    scope.scope.name = "tests"
    return scope


def span(
    trace: int,
    number: int,
    *,
    parent: int = 0,
    name: str = "work",
    start: int = TIME,
    duration: int = SECOND,
    status: int = 0,
    **attributes: Any,
) -> dict[str, Any]:
    """Return a span; a double underscore in an attribute's name is a dot."""
    return {
        "trace_id": trace.to_bytes(16, "big"),
        "span_id": number.to_bytes(8, "big"),
        "parent_span_id": parent.to_bytes(8, "big") if parent else b"",
        "name": name,
        "start_time_unix_nano": start,
        "end_time_unix_nano": start + duration,
        "status": {"code": status},
        "attributes": {key.replace("__", "."): value for key, value in attributes.items()},
    }


def spans(*items: dict[str, Any], service: str = "orders") -> bytes:
    request = ExportTraceServiceRequest()
    scope = _scope(request.resource_spans, "scope_spans", service)
    for item in items:
        attributes = item["attributes"]
        added = scope.spans.add(**{k: v for k, v in item.items() if k != "attributes"})
        add_attributes(added.attributes, attributes)
    return request.SerializeToString()


def log(
    body: str,
    *,
    time: int = TIME,
    severity: int = 9,
    trace: int = 0,
    span: int = 0,
    **attributes: Any,
) -> dict[str, Any]:
    return {
        "time_unix_nano": time,
        "severity_number": severity,
        "body": {"string_value": body},
        "trace_id": trace.to_bytes(16, "big") if trace else b"",
        "span_id": span.to_bytes(8, "big") if span else b"",
        "attributes": {key.replace("__", "."): value for key, value in attributes.items()},
    }


def logs(*items: dict[str, Any], service: str = "orders") -> bytes:
    request = ExportLogsServiceRequest()
    scope = _scope(request.resource_logs, "scope_logs", service)
    for item in items:
        added = scope.log_records.add(**{k: v for k, v in item.items() if k != "attributes"})
        add_attributes(added.attributes, item["attributes"])
    return request.SerializeToString()


def counter(
    name: str, value: float, *, time: int = TIME, trace: int = 0, **attributes: Any
) -> dict[str, Any]:
    point: dict[str, Any] = {"time_unix_nano": time, "as_double": value}
    if trace:
        point["exemplars"] = [
            {
                "time_unix_nano": time,
                "as_double": value,
                "trace_id": trace.to_bytes(16, "big"),
                "span_id": (1).to_bytes(8, "big"),
            }
        ]
    return {"name": name, "kind": "sum", "point": point, "attributes": attributes}


def histogram(
    name: str, counts: list[int], *, time: int = TIME, **attributes: Any
) -> dict[str, Any]:
    point = {
        "time_unix_nano": time,
        "count": sum(counts),
        "sum": 1.5,
        "bucket_counts": counts,
        "explicit_bounds": [float(number) for number in range(1, len(counts))],
    }
    return {"name": name, "kind": "histogram", "point": point, "attributes": attributes}


def metrics(*items: dict[str, Any], service: str = "orders") -> bytes:
    request = ExportMetricsServiceRequest()
    scope = _scope(request.resource_metrics, "scope_metrics", service)
    for item in items:
        metric = scope.metrics.add(name=item["name"], unit="1")
        held = getattr(metric, item["kind"])
        held.aggregation_temporality = 2
        if item["kind"] == "sum":
            held.is_monotonic = True
        point = held.data_points.add(**item["point"])
        add_attributes(point.attributes, item["attributes"])
    return request.SerializeToString()
