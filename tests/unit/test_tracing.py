"""Spans where something fails: a foreign tracer, a processor, an exception without words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_pipeline import Pipeline, diagnostics, tracing
from otel_pipeline.context import current_scope

if TYPE_CHECKING:
    from otel_pipeline.testing import Capture


class Failing(NonRecordingSpan):
    """A span of a broken SDK: everything about it fails."""

    def __init__(self) -> None:
        super().__init__(SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1)))

    def set_attribute(self, key: str, value: object) -> None:
        raise RuntimeError(key)

    def set_status(self, *_: Any, **__: Any) -> None:
        raise RuntimeError

    def end(self, *_: Any, **__: Any) -> None:
        raise RuntimeError


class Tracer:
    """A tracer that gives broken spans, or none."""

    def __init__(self, span: Failing | None) -> None:
        self._span = span

    def start_span(self, *_: Any, **__: Any) -> Failing:
        if self._span is None:
            raise RuntimeError("no span today")
        return self._span


@pytest.mark.parametrize("span", [Failing(), None])
def test_a_broken_tracer_never_reaches_the_program(
    span: Failing | None,
    monkeypatch: pytest.MonkeyPatch,
    otel_capture: Capture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The stage runs, counts and leaves nothing behind; what failed is said on stderr."""
    diagnostics.forget()
    monkeypatch.setattr(tracing, "_tracer", Tracer(span))
    with Pipeline("broken").stage("s") as stage:
        stage.records(2)
        stage.set_attribute("k", 1)
    with pytest.raises(KeyError), Pipeline("broken").run():
        raise KeyError
    assert current_scope() is None
    labels = {"pipeline": "broken", "stage": "s", "status": "success"}
    assert otel_capture.metric("pipeline_stage_records_total", **labels) == 2
    assert "failed" in capfd.readouterr().err


def test_an_exception_without_words_is_recorded(otel_capture: Capture) -> None:
    """A broken __str__ of an exception is marked, and its own type is kept."""

    class Mute(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(Mute), Pipeline("mute").stage("s"):
        raise Mute
    span = otel_capture.span("mute s")
    assert span.status.description == "Mute: <unprintable Mute>"
    (event,) = span.events
    assert event.attributes is not None
    assert str(event.attributes["exception.type"]).endswith("Mute")


def test_a_processor_of_the_program_that_fails_costs_the_line_only(
    monkeypatch: pytest.MonkeyPatch, otel_capture: Capture
) -> None:
    """Where logging itself breaks, the batch goes on."""
    from otel_pipeline import logs

    def broken(_: str) -> Any:
        raise RuntimeError("no logger")

    diagnostics.forget("log:")
    monkeypatch.setattr(logs, "get_logger", broken)
    with Pipeline("no-logger").batch([1, 2]):
        pass
    labels = {"pipeline": "no-logger", "status": "success"}
    assert otel_capture.metric("records_processed_total", **labels) == 2
