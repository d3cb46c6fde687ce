"""What the stages and batches of a trace handled, summed up, and a trace as OTLP."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_pipeline.local.attributes import plain
from otel_pipeline.local.otlp_json import from_message
from otel_pipeline.semconv import Attr, Signal

if TYPE_CHECKING:
    from otel_pipeline.local.store import Store

__all__ = ["stages_of", "trace_as_otlp"]

_ERROR: Final = 2
_OURS: Final = "pipeline."


@dataclass(slots=True)
class _Stage:
    """The spans of one name: a stage, the batches, or the run itself.

    Attributes:
        name: Name of its spans.
        kind: `run`, `stage` or `batch`.
        stage: The stage's name; empty for batches and runs.
        spans: How many there are.
        errors: How many of them failed.
        duration_ns: Their lengths, added up.
        first_ns: Unix time at which the first began.
        last_ns: Unix time at which the last ended.
        records: By status.
        span_id: The first of them.
    """

    name: str
    kind: str
    stage: str
    spans: int = 0
    errors: int = 0
    duration_ns: int = 0
    first_ns: int = 0
    last_ns: int = 0
    records: dict[str, int] = field(default_factory=dict)
    span_id: str = ""

    def add(self, span: Any, attributes: dict[str, Any]) -> None:
        """Add a span."""
        start, end = span.start_time_unix_nano, span.end_time_unix_nano
        self.errors += span.status.code == _ERROR
        self.duration_ns += max(end - start, 0)
        self.last_ns = max(self.last_ns, end)
        if not self.spans or start < self.first_ns:
            self.first_ns, self.span_id = start, span.span_id.hex()
        self.spans += 1
        for key, value in attributes.items():
            if key.startswith(Attr.RECORDS) and isinstance(value, int):
                status = key.removeprefix(Attr.RECORDS)
                self.records[status] = self.records.get(status, 0) + value


def stages_of(store: Store, trace_id: bytes) -> dict[str, Any]:
    """Return the stages of a trace with their records, in the order in which they began."""
    found: dict[str, _Stage] = {}
    seen: set[bytes] = set()  # a span that was sent twice counts once
    for body in store.export(Signal.TRACES, f"trace:{trace_id.hex()}"):
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    if span.span_id in seen:
                        continue
                    seen.add(span.span_id)
                    attributes = {
                        one.key: plain(one.value)
                        for one in span.attributes
                        if one.key.startswith(_OURS)
                    }
                    if Attr.PIPELINE_NAME in attributes:
                        stage = str(attributes.get(Attr.STAGE, ""))
                        kind = _kind(span.name, attributes)
                        one = found.setdefault(span.name, _Stage(span.name, kind, stage))
                        one.add(span, attributes)
    items = sorted(found.values(), key=lambda one: one.first_ns)
    return {"trace_id": trace_id.hex(), "items": [_document(one) for one in items]}


def _kind(name: str, attributes: dict[str, Any]) -> str:
    if Attr.PIPELINE_MODE in attributes:
        return "run"
    pipeline = attributes[Attr.PIPELINE_NAME]
    return "batch" if name == f"{pipeline} batch" else "stage"


def _document(stage: _Stage) -> dict[str, Any]:
    document = asdict(stage)
    first, last = document.pop("first_ns"), document.pop("last_ns")
    return {**document, "elapsed_ns": max(last - first, 0)}


def trace_as_otlp(store: Store, trace_id: bytes) -> dict[str, Any]:
    """Return all spans of a trace as one OTLP request in JSON, which can be imported again."""
    document: dict[str, Any] = {"resourceSpans": []}
    for body in store.export(Signal.TRACES, f"trace:{trace_id.hex()}"):
        found = from_message(ExportTraceServiceRequest.FromString(body))
        document["resourceSpans"] += found.get("resourceSpans", [])
    return document
