"""Log lines that are queued past OpenTelemetry's loggers, in the default set-up."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from opentelemetry._logs import SeverityNumber, get_logger_provider
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import LogRecordLimits
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from otel_pipeline import configure
from otel_pipeline.logs import get_logger, set_up
from otel_pipeline.logs.json_line import Line
from otel_pipeline.redaction import Redactor
from otel_pipeline.sdk.log_records import LineProvider, log_encoder
from otel_pipeline.sdk.providers import switch_loggers
from otel_pipeline.sdk.transport import suppressed
from tests.otlp_receiver import otlp_receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.sdk._logs import ReadableLogRecord


class Sent:
    """A set-up with a provider of ours, and what its queue has got."""

    def __init__(self, **limits: Any) -> None:
        self.queue: list[Any] = []
        self.redactor = Redactor()
        self.provider = LineProvider(Resource({"service.name": "etl"}), LogRecordLimits(**limits))
        self.provider.add_queue(self.queue.append)
        self._undo = [
            switch_loggers(self.provider),
            set_up(
                service="etl",
                redactor=self.redactor,
                export=True,
                sink=self.provider,
                stream=io.StringIO(),
                level=logging.DEBUG,
            ),
        ]

    def undo(self) -> None:
        for undo in reversed(self._undo):
            undo()

    def records(self) -> list[ReadableLogRecord]:
        """Return the records of the lines that were queued."""
        return [self.provider.record(line) for line in self.queue if isinstance(line, Line)]

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of the only record."""
        [record] = self.records()
        return dict(record.log_record.attributes or {})


@pytest.fixture
def make() -> Iterator[Callable[..., Sent]]:
    """Make such a set-up."""
    made: list[Sent] = []

    def make(**limits: Any) -> Sent:
        made.append(Sent(**limits))
        return made[-1]

    yield make
    for sent in made:
        sent.undo()


def test_a_line_is_queued_as_it_was_at_the_call(make: Callable[..., Sent]) -> None:
    """What the caller changes afterwards changes no line that waits."""
    sent = make()
    ids, by_name = [1], {"a": [2]}
    get_logger("etl.load").info("loaded", ids=ids, by_name=by_name)
    ids.append(3)
    by_name["a"].append(4)
    assert sent.attributes() == {
        "level": "info",
        "logger": "etl.load",
        "service": "etl",
        "ids": (1,),
        "by_name": {"a": (2,)},
    }


def test_a_queued_line_holds_no_secret(make: Callable[..., Sent]) -> None:
    """It is masked before it is queued, so nothing else can come to the disk."""
    sent = make()
    get_logger("login").info("with password=hunter2", password="hunter2")
    assert "hunter2" not in repr(sent.queue)
    assert b"hunter2" not in log_encoder(sent.redactor, sent.provider)(sent.queue)


def test_the_limits_of_records_hold(make: Callable[..., Sent]) -> None:
    """Attributes beyond a limit are counted as dropped, long ones are cut."""
    sent = make(max_log_record_attributes=2, max_log_record_attribute_length=3)
    get_logger().info("loaded", table="orders")
    request = ExportLogsServiceRequest.FromString(
        log_encoder(sent.redactor, sent.provider)(sent.queue)
    )
    [record] = request.resource_logs[0].scope_logs[0].log_records
    assert record.body.string_value == "loaded"
    assert record.dropped_attributes_count == 1
    assert all(len(attribute.value.string_value) <= 3 for attribute in record.attributes)


def test_lines_made_by_exporting_are_only_printed(make: Callable[..., Sent]) -> None:
    """Neither those of exporters' loggers nor those made while something is exported are sent."""
    sent = make()
    get_logger("urllib3.connectionpool").info("retry")
    with suppressed():
        get_logger("etl").info("while exporting")
    assert sent.queue == []


def test_what_only_the_chain_can_make_is_sent_too(make: Callable[..., Sent]) -> None:
    """Exceptions, stdlib lines and context variables arrive in the same queue."""
    sent = make()
    get_logger().error("broken", exc_info=ValueError("x"))
    logging.getLogger("library").warning("retry")
    with structlog.contextvars.bound_contextvars(customer="ann"):
        get_logger().info("bound")
    assert [type(item).__name__ for item in sent.queue] == [
        "ReadableLogRecord",
        "ReadableLogRecord",
        "Line",
    ]
    assert sent.attributes()["customer"] == "ann"


def test_a_processor_that_somebody_adds_sees_every_line(make: Callable[..., Sent]) -> None:
    """From then on lines go by OpenTelemetry's loggers, and still into the queue."""
    sent = make()
    exporter = InMemoryLogRecordExporter()
    provider: Any = get_logger_provider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    get_logger().info("seen")
    assert [item.log_record.body for item in exporter.get_finished_logs()] == ["seen"]
    assert [item.log_record.body for item in sent.queue] == ["seen"]


def test_others_who_use_the_logs_api_are_sent_as_well() -> None:
    """Records of OpenTelemetry's own API and lines arrive side by side, in one account."""
    with otlp_receiver() as receiver:
        with configure("etl", environ={}, otlp_endpoint=receiver.endpoint, spool_dir="off",
                       prometheus_port=0, log_format="json") as telemetry:  # fmt: skip
            get_logger("etl.load").warning("a line", rows=3)
            get_logger_provider().get_logger("other").emit(
                body="a record with password=hunter2", severity_number=SeverityNumber.INFO
            )
        found = [(record.body.string_value, record.severity_number) for record in receiver.logs]
    assert sorted(found) == [("a line", 13), ("a record with password=[redacted:password]", 9)]
    account = telemetry.report()["logs"]
    assert (account["produced"], account["delivered"]) == (2, 2)
