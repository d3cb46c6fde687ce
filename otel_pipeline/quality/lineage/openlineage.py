"""Lineage as events of OpenLineage: what is sent, and what is read from files of such events.

Sending goes through the `openlineage-python` client, which is configured as everywhere: by
`OPENLINEAGE_URL`, by variables that begin with `OPENLINEAGE__`, or by a file `openlineage.yml`.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from typing import TYPE_CHECKING, Any, Final, Protocol

from otel_pipeline.errors import CommandError
from otel_pipeline.quality.lineage.model import Assertion, DatasetUse, JobRun
from otel_pipeline.quality.lineage.names import DatasetName, JobName
from otel_pipeline.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from openlineage.client.event_v2 import RunEvent

    from otel_pipeline.quality.lineage.model import ParentRun

__all__ = ["Sender", "is_configured", "read_events", "sender", "to_event"]

#: Who makes the events, as their field `producer` says.
PRODUCER: Final = f"https://pypi.org/project/otel-pipeline/{__version__}"
#: What OpenLineage knows of a column.
_COLUMN_METRICS: Final = {"nullCount", "distinctCount", "sum", "count", "min", "max"}
_STATES: Final = {"START", "COMPLETE", "FAIL", "ABORT"}


class Sender(Protocol):
    """Takes events out of the process; `OpenLineageClient` is one."""

    def emit(self, event: RunEvent) -> None:
        """Send an event; raises whatever goes wrong."""

    def close(self, timeout: float = -1.0) -> bool:
        """Send what waits, within so many seconds."""


def is_configured() -> bool:
    """Return whether anybody has said where events are to go, in any way that the client knows."""
    if os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true":
        return False
    if any(name.startswith(("OPENLINEAGE_URL", "OPENLINEAGE__TRANSPORT")) for name in os.environ):
        return True
    places = [os.environ.get("OPENLINEAGE_CONFIG"), "openlineage.yml"]
    places.append(os.path.expanduser("~/.openlineage/openlineage.yml"))  # noqa: PTH111
    return any(place and os.path.isfile(place) for place in places)  # noqa: PTH113


def sender() -> Sender:
    """Return the client that the variables and files of OpenLineage describe.

    Raises:
        ImportError: The extra `openlineage` is not installed.
        LookupError: They do not say where events are to go.
        Exception: Whatever the client raises at settings that it cannot use.
    """
    from openlineage.client import OpenLineageClient  # noqa: PLC0415  an extra

    client = OpenLineageClient()
    if client.transport.kind == "console" and not (client.config.transport or {}).get("type"):
        # What the client takes where nobody said anything; it would print on the program's stdout.
        raise LookupError("the settings name no transport")
    return client


# --- Sending --------------------------------------------------------------------------------------


def to_event(run: JobRun) -> RunEvent:
    """Return what is known of a run as an event of OpenLineage.

    Args:
        run: The run.
    """
    from openlineage.client import event_v2, facet_v2  # noqa: PLC0415  an extra

    run_facets: dict[str, Any] = {
        "processing_engine": facet_v2.processing_engine_run.ProcessingEngineRunFacet(
            version=__version__, name="otel_pipeline", producer=PRODUCER
        )
    }
    if run.parent is not None:
        run_facets["parent"] = _parent(run.parent, run.root or run.parent)
    if run.trace_id:
        tag = facet_v2.tags_run.TagsRunFacetFields
        run_facets["tags"] = facet_v2.tags_run.TagsRunFacet(
            tags=[
                tag(key="trace_id", value=run.trace_id, source="otel_pipeline"),
                tag(key="span_id", value=run.span_id, source="otel_pipeline"),
            ],
            producer=PRODUCER,
        )
    if run.error:
        run_facets["errorMessage"] = facet_v2.error_message_run.ErrorMessageRunFacet(
            message=run.error, programmingLanguage="PYTHON", producer=PRODUCER
        )
    job_type = facet_v2.job_type_job.JobTypeJobFacet(
        processingType="STREAMING" if run.streaming else "BATCH",
        integration="OTEL_PIPELINE",
        jobType="STAGE" if run.is_stage else "PIPELINE",
        producer=PRODUCER,
    )
    return event_v2.RunEvent(
        eventType=event_v2.RunState[run.state],
        eventTime=_time(run.at),
        run=event_v2.Run(runId=run.run, facets=run_facets),
        job=event_v2.Job(run.job.namespace, run.job.name, facets={"jobType": job_type}),
        inputs=[_input(use) for use in run.inputs],
        outputs=[_output(use) for use in run.outputs],
        producer=PRODUCER,
    )


def _time(nanoseconds: int) -> str:
    """Return a time to the microsecond, in exact arithmetic."""
    since = dt.timedelta(microseconds=nanoseconds // 1000)
    return (dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + since).isoformat()


def _parent(parent: ParentRun, root: ParentRun) -> Any:
    from openlineage.client.facet_v2 import parent_run  # noqa: PLC0415  an extra

    return parent_run.ParentRunFacet(
        run=parent_run.Run(runId=parent.run),
        job=parent_run.Job(parent.job.namespace, parent.job.name),
        root=parent_run.Root(
            run=parent_run.RootRun(runId=root.run),
            job=parent_run.RootJob(root.job.namespace, root.job.name),
        ),
        producer=PRODUCER,
    )


def _input(use: DatasetUse) -> Any:
    from openlineage.client import event_v2, facet_v2  # noqa: PLC0415  an extra

    facets: dict[str, Any] = {}
    if use.metrics or use.rows is not None:
        metrics = facet_v2.data_quality_metrics_input_dataset
        facets["dataQualityMetrics"] = metrics.DataQualityMetricsInputDatasetFacet(
            rowCount=use.rows,
            columnMetrics=_column_metrics(use, metrics.ColumnMetrics),
            producer=PRODUCER,
        )
    if use.assertions:
        facets["dataQualityAssertions"] = _assertions(use)
    return event_v2.InputDataset(*use.name, facets=_facets(use), inputFacets=facets)


def _assertions(use: DatasetUse) -> Any:
    from openlineage.client.facet_v2 import data_quality_assertions_dataset as checks  # noqa: PLC0415  an extra

    return checks.DataQualityAssertionsDatasetFacet(
        assertions=[
            checks.Assertion(
                assertion=one.assertion,
                success=one.success,
                column=one.column,
                severity=one.severity,
                name=one.name,
                description=one.description,
            )
            for one in use.assertions
        ],
        producer=PRODUCER,
    )


def _column_metrics(use: DatasetUse, kind: Any) -> dict[str, Any]:
    return {
        column: kind(**{key: value for key, value in told.items() if key in _COLUMN_METRICS})
        for column, told in use.metrics.items()
    }


def _output(use: DatasetUse) -> Any:
    from openlineage.client import event_v2, facet_v2  # noqa: PLC0415  an extra

    facets = _facets(use)
    if use.metrics:
        metrics = facet_v2.data_quality_metrics_dataset
        facets["dataQualityMetrics"] = metrics.DataQualityMetricsDatasetFacet(
            rowCount=use.rows,
            columnMetrics=_column_metrics(use, metrics.ColumnMetrics),
            producer=PRODUCER,
        )
    if use.assertions:
        # Meant for inputs, which have facets of their own for it; an output has only these.
        facets["dataQualityAssertions"] = _assertions(use)
    if use.columns:
        lineage = facet_v2.column_lineage_dataset
        facets["columnLineage"] = lineage.ColumnLineageDatasetFacet(
            fields={
                column: lineage.Fields(
                    inputFields=[
                        lineage.InputField(*name, field=source) for name, source in sources
                    ]
                )
                for column, sources in use.columns.items()
            },
            producer=PRODUCER,
        )
    statistics: dict[str, Any] = {}
    if use.rows is not None or use.size is not None:
        written = facet_v2.output_statistics_output_dataset
        statistics["outputStatistics"] = written.OutputStatisticsOutputDatasetFacet(
            rowCount=use.rows, size=use.size, producer=PRODUCER
        )
    return event_v2.OutputDataset(*use.name, facets=facets, outputFacets=statistics)


def _facets(use: DatasetUse) -> dict[str, Any]:
    if not use.schema:
        return {}
    from openlineage.client.facet_v2 import schema_dataset as schema  # noqa: PLC0415  an extra

    return {
        "schema": schema.SchemaDatasetFacet(
            fields=[
                schema.SchemaDatasetFacetFields(name=column, type=kind)
                for column, kind in use.schema.items()
            ],
            producer=PRODUCER,
        )
    }


# --- Reading --------------------------------------------------------------------------------------


def read_events(path: Path) -> list[JobRun]:
    """Return the runs that a file tells of, one for each event of a run.

    Args:
        path: A file with one event as JSON on each line, or one event or a list of them in all.

    Raises:
        CommandError: It cannot be read, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is no text in UTF-8: it holds no events") from error
    runs = []
    for where, document in _documents(path, text):
        try:
            found = _run(document)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            message = f"{where}: no event of OpenLineage ({type(error).__name__}: {error})"
            raise CommandError(message) from error
        if found is not None:
            runs.append(found)
    return runs


def _documents(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        whole = None
    if whole is not None:
        yield from ((f"{path}", one) for one in (whole if isinstance(whole, list) else [whole]))
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield f"{path}, line {number}", json.loads(line)
            except json.JSONDecodeError as error:
                message = f"{path}, line {number}: no JSON ({error.msg}, column {error.colno})"
                raise CommandError(message) from error


def _run(event: Mapping[str, Any]) -> JobRun | None:
    """Return what an event tells of a run; None for events about something else."""
    state = event.get("eventType", "OTHER")
    if "run" not in event:
        if "job" not in event and "dataset" not in event:
            raise KeyError("run")
        return None
    facets = event["run"].get("facets") or {}
    tags = {tag["key"]: tag["value"] for tag in (facets.get("tags") or {}).get("tags") or ()}
    return JobRun(
        JobName(str(event["job"]["namespace"]), str(event["job"]["name"])),
        str(event["run"]["runId"]),
        state if state in _STATES else "START",
        _nanoseconds(str(event["eventTime"])),
        tuple(_read_use(one) for one in event.get("inputs") or ()),
        tuple(_read_use(one) for one in event.get("outputs") or ()),
        error=str((facets.get("errorMessage") or {}).get("message", "")),
        trace_id=str(tags.get("trace_id", "")),
        span_id=str(tags.get("span_id", "")),
    )


def _nanoseconds(time: str) -> int:
    moment = dt.datetime.fromisoformat(time)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    since = moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return since // dt.timedelta(microseconds=1) * 1000


def _read_use(found: Mapping[str, Any]) -> DatasetUse:
    facets = found.get("facets") or {}
    of_input = found.get("inputFacets") or {}
    metrics = of_input.get("dataQualityMetrics") or facets.get("dataQualityMetrics") or {}
    written = (found.get("outputFacets") or {}).get("outputStatistics") or {}
    schema = (facets.get("schema") or {}).get("fields")
    checks = of_input.get("dataQualityAssertions") or facets.get("dataQualityAssertions") or {}
    fields = (facets.get("columnLineage") or {}).get("fields") or {}
    return DatasetUse(
        DatasetName(str(found["namespace"]), str(found["name"])),
        None if schema is None else {f["name"]: str(f.get("type", "")) for f in schema},
        {
            column: tuple(
                (DatasetName(str(source["namespace"]), str(source["name"])), str(source["field"]))
                for source in field.get("inputFields") or ()
            )
            for column, field in fields.items()
        },
        written.get("rowCount", metrics.get("rowCount")),
        written.get("size"),
        metrics.get("columnMetrics") or {},
        tuple(
            Assertion(
                one["assertion"],
                one["success"],
                *(one.get(key) for key in ("column", "severity", "name", "description")),
            )
            for one in checks.get("assertions") or ()
        ),
    )
