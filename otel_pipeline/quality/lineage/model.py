"""What is known of one run of a job: what it read, what it wrote, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from otel_pipeline.quality.lineage.names import DatasetName

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.quality.lineage.names import JobName

__all__ = ["Assertion", "Columns", "DatasetUse", "JobRun", "ParentRun", "State", "redacted"]

#: Where a job run is, in OpenLineage's words.
State = Literal["START", "COMPLETE", "FAIL", "ABORT"]
#: From each column to the columns that it was made of.
Columns = Mapping[str, tuple[tuple[DatasetName, str], ...]]


@dataclass(frozen=True, slots=True)
class Assertion:
    """The result of one check.

    Attributes:
        assertion: What was checked, such as `not_null`.
        success: Whether it held.
        column: The column that it is about, or None for the whole dataset.
        severity: `warn` or `error`, or None.
        name: Name of the check, or None.
        description: What was found, without values of the data, or None.
    """

    assertion: str
    success: bool
    column: str | None = None
    severity: str | None = None
    name: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class DatasetUse:
    """A dataset as one run of a job read or wrote it.

    Attributes:
        name: The dataset.
        schema: Types by column, or None where unknown.
        columns: What each column was made of, as far as declared.
        rows: Rows read or written, or None where unknown.
        size: Bytes read or written, or None where unknown.
        metrics: Numbers of each column, in OpenLineage's words (`nullCount`, `distinctCount`,
            `min`, `max`).
        assertions: Results of checks.
    """

    name: DatasetName
    schema: Mapping[str, str] | None = None
    columns: Columns = field(default_factory=dict)
    rows: int | None = None
    size: int | None = None
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    assertions: tuple[Assertion, ...] = ()


@dataclass(frozen=True, slots=True)
class ParentRun:
    """The run that a run is a part of."""

    job: JobName
    run: str


@dataclass(frozen=True, slots=True)
class JobRun:
    """A run of a job at one moment.

    Attributes:
        job: The pipeline, or `pipeline.stage`.
        run: Its UUID.
        state: Where it is.
        at: When, in nanoseconds since 1970.
        inputs: What it read.
        outputs: What it wrote.
        parent: The run that it is a part of, or None.
        root: The outermost of these, or None where that is `parent`.
        error: Why it failed, or empty.
        trace_id: Its trace as 32 hex digits, or empty where nothing was traced.
        span_id: Its span as 16 hex digits, or empty.
        is_stage: Whether the job is a stage; else it is a whole pipeline.
        streaming: Whether the job has no end of its own.
    """

    job: JobName
    run: str
    state: State
    at: int
    inputs: tuple[DatasetUse, ...] = ()
    outputs: tuple[DatasetUse, ...] = ()
    parent: ParentRun | None = None
    root: ParentRun | None = None
    error: str = ""
    trace_id: str = ""
    span_id: str = ""
    is_stage: bool = False
    streaming: bool = False


def redacted(run: JobRun, text: Callable[[str], str]) -> JobRun:
    """Return `run` with the secrets masked that its texts may hold.

    Args:
        run: The run.
        text: Masks secrets in a text.
    """

    def name(given: DatasetName) -> DatasetName:
        return DatasetName(text(given.namespace), text(given.name))

    def use(given: DatasetUse) -> DatasetUse:
        return replace(
            given,
            name=name(given.name),
            schema=None if given.schema is None else {text(c): k for c, k in given.schema.items()},
            columns={
                text(column): tuple((name(one), text(source)) for one, source in sources)
                for column, sources in given.columns.items()
            },
            metrics={text(column): told for column, told in given.metrics.items()},
            assertions=tuple(
                replace(one, description=one.description and text(one.description))
                for one in given.assertions
            ),
        )

    return replace(
        run,
        inputs=tuple(map(use, run.inputs)),
        outputs=tuple(map(use, run.outputs)),
        error=text(run.error),
    )
