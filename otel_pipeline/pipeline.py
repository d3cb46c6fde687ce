"""The facade: a pipeline and its runs, stages, batches and queues.

Each construct makes one span, counts records, measures time and gives log lines their place, so
that the three signals agree. What counts where is a contract; see the reference, "What counts".
"""

from __future__ import annotations

import datetime as dt
import inspect
import os
import threading
import uuid
import weakref
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload

from opentelemetry import metrics as otel_metrics
from opentelemetry import trace

from otel_pipeline import clock, lifecycle, semconv
from otel_pipeline.config import parse_duration
from otel_pipeline.context import current_scope, with_scope
from otel_pipeline.diagnostics import warn_once
from otel_pipeline.errors import DataQualityError
from otel_pipeline.metrics import Counter, Gauge, Histogram
from otel_pipeline.propagation import context_from, link_from
from otel_pipeline.semconv import Attr, Event, Status
from otel_pipeline.throttle import Throttle
from otel_pipeline.tracing import SCOPE_NAME, Block, Opener, log_event, text_of
from otel_pipeline.version import __version__

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterable,
        AsyncIterator,
        Callable,
        Generator,
        Iterable,
        Iterator,
        Mapping,
    )
    from types import TracebackType
    from typing import Self

    from opentelemetry.context import Context
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Link, Tracer

    from otel_pipeline.quality import Check, Dataset, Monitors
    from otel_pipeline.quality.lineage.stages import StageLineage
    from otel_pipeline.quality.observe import Observations

__all__ = ["Batch", "Pipeline", "Queue", "Run", "Stage", "current_run", "current_stage"]

#: What names a dataset: a URL, a path, a bare name, or a pair of namespace and name.
DatasetLike: TypeAlias = "str | os.PathLike[str] | tuple[str, str]"
DataT = TypeVar("DataT")
FunctionT = TypeVar("FunctionT", bound="Callable[..., Any]")

_RECORDS_PROCESSED = Counter.from_spec(semconv.RECORDS_PROCESSED)
_PROCESSING_DURATION = Histogram.from_spec(semconv.PROCESSING_DURATION)
_QUEUE_SIZE = Gauge.from_spec(semconv.QUEUE_SIZE)
_QUEUE_INFO = Gauge.from_spec(semconv.QUEUE_INFO)
_STAGE_RECORDS = Counter.from_spec(semconv.STAGE_RECORDS)
_RECORDS_REJECTED = Counter.from_spec(semconv.RECORDS_REJECTED)
_STAGE_DURATION = Histogram.from_spec(semconv.STAGE_DURATION)
_RUNS = Counter.from_spec(semconv.RUNS)
_RUN_DURATION = Histogram.from_spec(semconv.RUN_DURATION)
_LAST_SUCCESS = Gauge.from_spec(semconv.LAST_SUCCESS)
_LAST_RUN = Gauge.from_spec(semconv.LAST_RUN)
_LAST_RUN_DURATION = Gauge.from_spec(semconv.LAST_RUN_DURATION)
_LAST_RUN_SUCCESS = Gauge.from_spec(semconv.LAST_RUN_SUCCESS)
_LAST_RUN_RECORDS = Gauge.from_spec(semconv.LAST_RUN_RECORDS)
_EXPECTED_INTERVAL = Gauge.from_spec(semconv.EXPECTED_INTERVAL)
_EVENT_LAG = Gauge.from_spec(semconv.EVENT_LAG)
_PIPELINE_INFO = Gauge.from_spec(semconv.PIPELINE_INFO)

#: Names of pipelines, and of stages of one, that are remembered; more are no fixed words any more.
_MOST_KEPT = 1000
#: Seconds that the end of a run may wait for its flush.
_RUN_FLUSH = 1.0


#: Held for a few additions at a time. One for all blocks, so that a forked child, which may go on
#: inside a block of its parent, can be given one that no lost thread holds.
_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603  a lock cannot be renewed in place
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def current_stage() -> Stage | Any:
    """Return the handle of the innermost stage around the calling code, or None outside one.

    Returns:
        The `Stage`; typed so that code inside a stage needs no check for None.

    Example:
        >>> from otel_pipeline import Pipeline, current_stage
        >>> pipeline = Pipeline("docs-current-stage")
        >>> @pipeline.stage
        ... def validate(rows):
        ...     good = [row for row in rows if row]
        ...     current_stage().dropped(len(rows) - len(good), reason="empty")
        ...     return good
        >>> validate(["a", ""])
        ['a']
        >>> current_stage() is None
        True
    """
    scope = current_scope()
    return scope.stage if isinstance(scope, Block) else None


def current_run() -> Run | Any:
    """Return the run around the calling code, or None outside one.

    Returns:
        The `Run`; typed so that code inside a run needs no check for None.

    Example:
        >>> from otel_pipeline import Pipeline, current_run
        >>> with Pipeline("docs-current-run").run(run_id="2026-11-23") as run:
        ...     current_run() is run, run.id
        (True, '2026-11-23')
    """
    scope = current_scope()
    return scope.run if isinstance(scope, Block) else None


def _amount(number: int) -> int:
    """Check a number of records that user code gives."""
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        message = f"a number of records is a whole number, not {number!r}"
        raise TypeError(message)
    number = number.__index__()
    if number < 0:
        message = f"a number of records cannot be negative: {number}"
        raise ValueError(message)
    return number


class _Series:
    """What each use of one stage needs; its series of all statuses exist from its first on."""

    __slots__ = ("attributes", "duration", "records", "span_name")

    def __init__(self, pipeline: str, stage: str) -> None:
        self.span_name = semconv.stage_span_name(pipeline, stage)
        self.attributes: dict[str, Any] = {
            Attr.PIPELINE_NAME: pipeline,
            Attr.STAGE: stage,
            Attr.STATUS: Status.SUCCESS,
        }
        self.records = {
            status: _STAGE_RECORDS.labels(pipeline, stage, status)
            for status in semconv.STAGE_RECORD_STATUSES
        }
        self.duration = {
            status: _STAGE_DURATION.labels(pipeline, stage, status)
            for status in semconv.STAGE_STATUSES
        }


class Stage(Block):
    """The handle of a stage in progress; made by `Pipeline.stage`.

    By itself a stage counts nothing: say what it did with `records`, `failed` and `dropped`, let it
    be a generator, or give `count=`.
    """

    __slots__ = ("_cell", "_counts", "_lineage", "_observing", "_series", "name")

    # One more call to set it at the end would take almost a microsecond.
    _says_success = True

    def __init__(self, pipeline: Pipeline, name: str, series: _Series) -> None:
        super().__init__(pipeline)
        self.name = name
        self._series = series
        self._counts: dict[str, int] = {}  # by status, as far as anything was counted
        self._cell: list[float] | None = None
        self._lineage: StageLineage | None = None
        self._observing: Observations | None = None

    @property
    def stage(self) -> Stage:
        """The stage itself."""
        return self

    def records(self, n: int = 1) -> None:
        """Count `n` records as a success of the stage.

        Args:
            n: A whole number of records, not negative.

        Raises:
            ValueError: `n` is negative.
            TypeError: `n` is not a whole number.
        """
        self._count(Status.SUCCESS, n)

    def failed(self, n: int = 1, reason: str | None = None) -> None:
        """Count `n` records as failed, and under `reason` if one is given.

        Args:
            n: A whole number of records, not negative.
            reason: A short fixed word such as `null_key`; at most 50 different ones are kept.

        Raises:
            ValueError: `n` is negative.
            TypeError: `n` is not a whole number.
        """
        self._count(Status.ERROR, n, reason)

    def dropped(self, n: int = 1, reason: str | None = None) -> None:
        """Count `n` records as dropped on purpose, and under `reason` if one is given.

        Args:
            n: A whole number of records, not negative.
            reason: A short fixed word such as `null_key`; at most 50 different ones are kept.

        Raises:
            ValueError: `n` is negative.
            TypeError: `n` is not a whole number.
        """
        self._count(Status.DROPPED, n, reason)

    def reads(self, *datasets: DatasetLike, schema: Mapping[str, str] | None = None) -> None:
        """Say which datasets the stage reads.

        Args:
            datasets: A URL (`s3://bucket/key`, `postgres://host/database/schema/table`), a path,
                a bare name, or a pair of namespace and name. Users, passwords and what follows a
                `?` in a URL are left out.
            schema: Types by column, such as `{"id": "int64"}`, if it is one dataset.

        Raises:
            TypeError: A dataset is none of these, or `schema` is given for several.
            ValueError: A name is empty.

        The stage's span gets the attribute `dataset.inputs`, and a link to the span that wrote a
        dataset, where that is known. With OpenLineage, they are inputs of the job's run.

        Example:
            >>> from otel_pipeline import Pipeline
            >>> with Pipeline("docs-reads").stage("extract") as stage:
            ...     stage.reads("s3://landing/2026/orders.csv", "prices")
        """
        if schema is not None and len(datasets) != 1:
            message = f"schema= is that of one dataset, and {len(datasets)} are given"
            raise TypeError(message)
        self.lineage().reads(datasets, schema)

    def writes(
        self,
        dataset: DatasetLike,
        *,
        schema: Mapping[str, str] | None = None,
        columns: Mapping[str, Iterable[tuple[DatasetLike, str]]] | None = None,
        rows: int | None = None,
        size: int | None = None,
    ) -> None:
        """Say which dataset the stage writes.

        Args:
            dataset: As for `reads`.
            schema: Types by column, such as `{"id": "int64"}`.
            columns: What each column is made of: pairs of a dataset and one of its columns.
            rows: How many rows it wrote.
            size: How many bytes it wrote.

        Raises:
            TypeError: `dataset` or `columns` is none of these.
            ValueError: A name is empty.

        The stage's span gets the attribute `dataset.outputs`. With OpenLineage, it is an output of
        the job's run.

        Example:
            >>> from otel_pipeline import Pipeline
            >>> with Pipeline("docs-writes").stage("load") as stage:
            ...     stage.writes("orders", columns={"total": [("lines", "price")]}, rows=3)
        """
        self.lineage().writes(dataset, schema=schema, columns=columns, rows=rows, size=size)

    def lineage(self) -> StageLineage:
        """Return what the stage has said of its datasets, to say more."""
        if self._lineage is None:
            from otel_pipeline.quality.lineage.stages import StageLineage  # noqa: PLC0415

            with _lock:
                if (known := self._lineage) is None:
                    known = self._lineage = StageLineage(self)
            return known
        return self._lineage

    def observe(
        self,
        data: DataT,
        dataset: str | Dataset,
        *,
        level: Literal["basic", "standard", "full"] | None = None,
        checks: Iterable[Check] | None = None,
        updated_at: str | float | dt.datetime | None = None,
        monitors: Monitors | None = None,
        at: dt.datetime | None = None,
        batch_rows: int = 8192,
    ) -> DataT:
        """Look at data that pass the stage: profile them, check them, and tell what was found.

        It is told when the stage ends, as metrics, events of its span and log lines. Several calls
        with one dataset are one look at it, part by part. A stage that fails judges nothing.
        Nothing is raised where looking fails: that is said once, and counted.

        Args:
            data: A frame of pandas, Polars or PyArrow, a relation of DuckDB, or rows: dicts, named
                tuples or dataclass objects, all at once or from an iterator, also an asynchronous
                one. What an iterator yields may be frames or lists of rows, too.
            dataset: Its name, a short fixed word; or a `Dataset`. What was declared for a name
                with `quality.register` is found.
            level: How closely to look: `basic` by default, `standard` or `full`; see
                `quality.Profiler`.
            checks: What one wants to be true of it, in place of what was declared.
            updated_at: The column with the time of each row; or the time of the newest row.
            monitors: `quality.Monitors` that judge it by its history.
            at: The time that the data stand for, in the history of the monitors; now by default.
            batch_rows: How many rows of an iterator are looked at together. They have gone on by
                then, unless a check takes rows out: then they wait for each other.

        Returns:
            The same data, or without the rows that went into quarantine; for an iterator an
            iterator, which is looked at as it is consumed, in constant memory.

        Raises:
            ConfigurationError: An argument cannot be used.
            DataQualityError: When the stage ends: a check with `on_fail="break"` failed. From an
                iterator that is consumed after the stage: at its end.

        Metrics:
            `dataset_rows_total`, `dataset_checks_total` and the other `dataset_…`;
            `pipeline_records_rejected_total` with the reason `quarantined`.

        Example:
            >>> from otel_pipeline import Pipeline
            >>> from otel_pipeline.quality import Between, NotNull
            >>> with Pipeline("docs-observe").stage("validate") as stage:
            ...     orders = [{"id": 1, "amount": 5}, {"id": 2, "amount": -5}]
            ...     bad = []
            ...     stage.observe(orders, "docs-orders", checks=[
            ...         NotNull("id"),
            ...         Between("amount", min=0, on_fail="quarantine", quarantine=bad.extend),
            ...     ])
            [{'id': 1, 'amount': 5}]
            >>> bad
            [{'id': 2, 'amount': -5}]
        """
        from otel_pipeline.quality import observe  # noqa: PLC0415  stages without pay nothing

        wanted = observe.wanted(
            dataset, level=level, checks=checks, updated_at=updated_at, monitors=monitors
        )
        asked = observe.Asked(wanted, updated_at, at, max(_amount(batch_rows), 1))
        if self.ended:  # nobody would judge it later
            late = observe.Observations(self)
            data = late.observe(data, asked)
            late.close(complete=True)
            return data
        with _lock:
            if self._observing is None:
                self._observing = observe.Observations(self)
        return self._observing.observe(data, asked)  # type: ignore[no-any-return]

    def _judge(self, exception: BaseException | None) -> BaseException | None:
        if self._observing is None:
            return None
        try:
            self._observing.close(complete=exception is None)
        except DataQualityError as error:
            return error
        except Exception as error:  # noqa: BLE001  observation never harms the program
            warn_once("observe", "telling what was observed failed: %s", text_of(error))
        return None

    def count_records(self, number: int) -> None:
        """Count `number` records as a success of the stage."""
        self._count(Status.SUCCESS, number)

    def yielded_cell(self) -> list[float]:
        """Return the cell in which a generator inside the stage counts its records."""
        if self._cell is None:
            self._cell = [0]
            self._series.records[Status.SUCCESS].attach_cell(self._cell)
        return self._cell

    def _count(self, status: str, n: int, reason: str | None = None) -> None:
        n = _amount(n)
        self._series.records[status].inc(n)
        self._add(status, n)
        if reason is not None:
            _reject(self.pipeline.name, self.name, reason, n)

    def _add(self, status: str, n: int) -> None:
        """Add to the span's own numbers only."""
        with _lock:
            self._counts[status] = self._counts.get(status, 0) + n

    # Block

    def _span_name(self) -> str:
        return self._series.span_name

    def _attributes(self) -> dict[str, Any]:
        attributes = self._series.attributes.copy()
        if (run_id := self.run_id) is not None:
            attributes[Attr.RUN_ID] = run_id
        return attributes

    def _finish(self, exception: BaseException | None, seconds: float, *, first: bool) -> None:
        if self._cell is not None:
            self._add(Status.SUCCESS, int(self._cell[0]))
            self._series.records[Status.SUCCESS].fold_cell(self._cell)
        status = self.status or Status.SUCCESS
        self._series.duration[status].observe(seconds)
        counts = self._counts
        if counts:
            told = [status for status in semconv.STAGE_RECORD_STATUSES if counts.get(status)]
            self.span.set_attributes({Attr.RECORDS + name: counts[name] for name in told})
            if self.run is not None:
                self.run.add_stage(self.pipeline, self.name, counts)
        if self._lineage is not None:
            self._lineage.finish(exception, status)
        if status == Status.ERROR and first and exception is not None:
            log_event(
                "error",
                Event.STAGE_FAILED,
                error=text_of(exception),
                duration_seconds=round(seconds, 6),
                exc_info=exception,
            )


class _RunOpener(Opener["Run"]):
    """What `Pipeline.run` returns."""

    __slots__ = ("_open",)

    def __init__(self, make: Callable[[], Run]) -> None:
        super().__init__()
        self._open = make

    def _make(self, _function: Callable[..., Any] | None) -> Run:
        return self._open()


class _StageOpener(Opener[Stage]):
    """What `Pipeline.stage` returns; made for each `with` block, so it is light."""

    __slots__ = ("_attributes", "_name", "_pipeline")

    def __init__(
        self,
        pipeline: Pipeline,
        name: str | None,
        attributes: Mapping[str, object] | None,
        count: Callable[[Any], int] | None,
    ) -> None:
        self._pipeline = pipeline
        self._name = name
        self._attributes = attributes
        self._count = count
        self._entered = []

    def _make(self, function: Callable[..., Any] | None) -> Stage:
        pipeline = self._pipeline
        name = self._name or _name_of(function)
        series = pipeline._shared.series.get(name) or pipeline._new_series(name)  # noqa: SLF001
        stage = Stage(pipeline, name, series)
        stage.open((), self._attributes)
        return stage


def _reject(pipeline: str, stage: str, reason: str, n: int) -> None:
    _RECORDS_REJECTED.labels(pipeline, stage, text_of(reason)).inc(n)


class Run(Block):
    """One run of a pipeline in progress; made by `Pipeline.run`.

    Attributes:
        id: The run's id, as on its span and log lines.
    """

    __slots__ = (
        "_batches",
        "_flush",
        "_generation",
        "_guard",
        "_stages",
        "id",
        "is_stream",
    )

    def __init__(self, pipeline: Pipeline, run_id: str | None, *, flush: bool) -> None:
        super().__init__(pipeline)
        self.id = text_of(run_id) if run_id is not None else str(uuid.uuid4())
        self.is_stream = pipeline.mode == "stream"
        self._flush = flush
        self._guard = lifecycle.SignalGuard()
        self._batches: dict[str, int] | None = None
        self._stages: dict[str, dict[str, int]] = {}

    def link(self) -> Link | None:
        """Return a link to the run's span, or None where nothing is traced."""
        context = self.span.get_span_context()
        return trace.Link(context) if context.is_valid else None

    def add_batch(self, pipeline: Pipeline, counts: Mapping[str, int]) -> None:
        """Add what an outermost batch counted."""
        if pipeline.name == self.pipeline.name and not self.ended:
            with _lock:
                if self._batches is None:
                    self._batches = dict.fromkeys(semconv.RECORD_STATUSES, 0)
                for status in self._batches:
                    self._batches[status] += counts[status]

    def add_stage(self, pipeline: Pipeline, name: str, counts: Mapping[str, int]) -> None:
        """Add what a stage counted."""
        if pipeline.name == self.pipeline.name and not self.ended:
            with _lock:
                total = self._stages.get(name)
                if total is None:
                    statuses = semconv.STAGE_RECORD_STATUSES
                    total = self._stages[name] = dict.fromkeys(statuses, 0)
                for status, number in counts.items():
                    total[status] += number

    def records(self) -> dict[str, int]:
        """Return the run's records by status.

        They are what its batches counted; without batches, the largest number that one of its
        stages counted, as dropped records show as skipped.
        """
        with _lock:
            if self._batches is not None:
                return dict(self._batches)
            found = dict.fromkeys(semconv.RECORD_STATUSES, 0)
            for counts in self._stages.values():
                found[Status.SUCCESS] = max(found[Status.SUCCESS], counts[Status.SUCCESS])
                found[Status.ERROR] = max(found[Status.ERROR], counts[Status.ERROR])
                skipped = counts[Status.SKIPPED] + counts[Status.DROPPED]
                found[Status.SKIPPED] = max(found[Status.SKIPPED], skipped)
            return found

    # Block

    def place_of_run(self) -> Context | None:
        """Return the context of the code inside; see `Block`."""
        return self._inner

    def _span_name(self) -> str:
        return semconv.run_span_name(self.pipeline.name)

    def _attributes(self) -> dict[str, Any]:
        return {**super()._attributes(), Attr.PIPELINE_MODE: self.pipeline.mode}

    def _opened(self) -> None:
        self.run = self
        self._stage = None
        for status in semconv.RUN_STATUSES:
            _RUNS.labels(self.pipeline.name, status)
            _RUN_DURATION.labels(self.pipeline.name, status)

    def _inside(self, outer: Context) -> Context:
        if not self.is_stream:
            return super()._inside(outer)
        # The span of a run without end says that it started; it is never current, only linked to.
        self.span.end(clock.time_ns())
        self.span = trace.NonRecordingSpan(self.span.get_span_context())
        return with_scope(self, outer)

    def open(
        self,
        links: Iterable[Link] = (),
        attributes: Mapping[str, object] | None = None,
        parent: Context | None = None,
    ) -> None:
        """Start the run; see `Block.open`."""
        self._generation = lifecycle.process_generation()
        super().open(links, attributes, parent)
        self._guard.enter()
        self._tell_lineage()

    def close(self, exception: BaseException | None = None, seconds: float | None = None) -> None:
        """End the run, and flush if it is the outermost one; see `Block.close`."""
        super().close(exception, seconds)
        self._guard.leave()
        hooks = lifecycle.hooks()
        outermost = self.parent is None or self.parent.run is None
        if (
            self._flush
            and outermost
            and hooks is not None
            and self._generation == lifecycle.process_generation()
        ):
            hooks.flush(_RUN_FLUSH)

    def _finish(self, exception: BaseException | None, seconds: float, *, first: bool) -> None:
        if self.status == Status.CANCELLED:
            self.status = Status.SUCCESS if self.is_stream else Status.INTERRUPTED
        status = self.status or Status.SUCCESS
        name = self.pipeline.name
        now = clock.now()
        records = self.records()
        for record_status, number in records.items():
            _LAST_RUN_RECORDS.labels(name, record_status).set(number)
            self.span.set_attribute(Attr.RECORDS + record_status, number)
        _RUNS.labels(name, status).inc()
        _RUN_DURATION.labels(name, status).observe(seconds)
        _LAST_RUN.labels(name).set(now)
        _LAST_RUN_DURATION.labels(name).set(seconds)
        _LAST_RUN_SUCCESS.labels(name).set(int(status == Status.SUCCESS))
        if status == Status.SUCCESS:
            _LAST_SUCCESS.labels(name).set(now)
        self._tell_lineage(exception, ended=True)
        if status == Status.ERROR and first and exception is not None:
            log_event(
                "error",
                Event.RUN_FAILED,
                error=text_of(exception),
                duration_seconds=round(seconds, 6),
                exc_info=exception,
            )

    def _tell_lineage(self, exception: BaseException | None = None, *, ended: bool = False) -> None:
        hooks = lifecycle.hooks()
        if hooks is not None and hooks.lineage is not None:
            from otel_pipeline.quality.lineage.stages import run_changed  # noqa: PLC0415

            run_changed(self, exception, ended=ended)


def _is_frame(batch: object) -> bool:
    """Tell whether `batch` is a table, whose iteration would give columns instead of rows."""
    kind = type(batch)
    return hasattr(kind, "columns") and (hasattr(kind, "shape") or hasattr(kind, "num_rows"))


class Batch(Block):
    """The handle of a batch in progress; made by `Pipeline.batch`.

    Iterate it (`for`, or `async for`) to count record by record, or leave it alone to count the
    whole at its end.
    """

    __slots__ = (
        "_batch",
        "_cell",
        "_counters",
        "_counts",
        "_iterator",
        "_link_each",
        "_links",
        "_outermost",
        "_passed",
        "_replaced",
        "_said",
        "_sinks",
    )

    def __init__(self, pipeline: Pipeline, batch: Any, links: Any) -> None:
        super().__init__(pipeline)
        self._batch = batch
        self._links = links
        self._link_each: Callable[[Any], object] | None = None
        self._counts = dict.fromkeys(semconv.RECORD_STATUSES, 0)
        self._cell: list[float] = [0]
        self._iterator: Generator[Any, None, None] | _AsyncRecords | None = None
        self._passed = False
        self._replaced = False
        self._said: int | None = None

    def __enter__(self) -> Self:
        self.open(self._open_links())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        self.close(exception)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        self.close(exception)

    def __iter__(self) -> Iterator[Any]:
        self._refuse_frame()
        if not self._first_pass():
            return iter(self._batch)
        self._iterator = self._records(iter(self._batch))
        return self._iterator

    def __aiter__(self) -> AsyncIterator[Any]:
        self._refuse_frame()
        source = _each(self._batch)
        if not self._first_pass():
            return source
        self._iterator = _AsyncRecords(self, source)
        return self._iterator

    def records(self, n: int) -> None:
        """Say how many records the batch is, where it is neither sized nor iterated.

        Args:
            n: A whole number of records, not negative; several calls add up.

        Raises:
            ValueError: `n` is negative.
            TypeError: `n` is not a whole number.
        """
        self._said = (self._said or 0) + _amount(n)

    def failed(self, n: int = 1, reason: str | None = None) -> None:
        """Count the current record as failed instead of a success; not iterated, `n` of the batch.

        Args:
            n: A whole number of records, not negative; while iterating it is the current record.
            reason: A short fixed word such as `null_key`; at most 50 different ones are kept.

        Raises:
            ValueError: `n` is negative.
            TypeError: `n` is not a whole number.
        """
        self._replace(Status.ERROR, n, reason)

    def skipped(self, n: int = 1, reason: str | None = None) -> None:
        """Count the current record as skipped instead of a success; not iterated, `n` of the batch.

        Args:
            n: A whole number of records, not negative; while iterating it is the current record.
            reason: A short fixed word such as `duplicate`; at most 50 different ones are kept.

        Raises:
            ValueError: `n` is negative.
            TypeError: `n` is not a whole number.
        """
        self._replace(Status.SKIPPED, n, reason)

    # Counting

    def _refuse_frame(self) -> None:
        if _is_frame(self._batch):
            name = type(self._batch).__name__
            message = (
                f"a {name} gives columns when it is iterated, not records: leave the batch alone "
                f"(its rows are counted at the end), or pass its rows, "
                f"for example pipeline.batch(frame.to_dict('records'))"
            )
            raise TypeError(message)

    def _first_pass(self) -> bool:
        first, self._passed = not self._passed, True
        return first

    def _records(self, source: Iterator[Any]) -> Generator[Any, None, None]:
        cell = self._cell
        link = self._link_each
        for record in source:
            if link is not None:
                self._add_link(_carrier_of(link, record))
            yield record
            # The next one is asked for: this one is done.
            if self._replaced:
                self._replaced = False
            else:
                cell[0] += 1

    def _has_current(self) -> bool:
        """Tell whether the code is working on one record of an iteration."""
        iterator = self._iterator
        if iterator is None:
            return False
        if isinstance(iterator, _AsyncRecords):
            return iterator.has_current
        return inspect.getgeneratorstate(iterator) == inspect.GEN_SUSPENDED

    def _replace(self, status: str, n: int, reason: str | None) -> None:
        n = _amount(n)
        if n == 0:
            return
        if self._iterator is not None:
            if self._has_current():
                if self._replaced:
                    return
                self._replaced = True
                n = 1
            else:
                warn_once(
                    f"late:{self.pipeline.name}",
                    "%s: failed() or skipped() was called after the loop over a batch, when its "
                    "records had been counted as successes; call it inside the loop",
                    self.pipeline.name,
                )
        self._count(status, n)
        if reason is not None:
            stage = self.stage.name if self.stage is not None else ""
            _reject(self.pipeline.name, stage, reason, n)

    def _count(self, status: str, n: int) -> None:
        for counter in self._counters[status]:
            counter.inc(n)
        with _lock:
            self._counts[status] += n

    def _size(self) -> int | None:
        """Return how many records the whole batch is, if anybody knows."""
        if self._said is not None:
            return self._said
        try:
            return len(self._batch)
        except TypeError:
            return None
        except Exception as error:  # noqa: BLE001  a user's __len__ may fail
            warn_once(f"len:{self.pipeline.name}", "len() of a batch failed: %s", text_of(error))
            return None

    def _settle(self, status: str) -> None:
        """Count what the end of the batch decides."""
        success = Status.SUCCESS
        if self._iterator is not None:
            if status == Status.ERROR and self._has_current() and not self._replaced:
                self._count(Status.ERROR, 1)
        else:
            # What was cancelled did as much as it said.
            size = self._said or 0 if status == Status.CANCELLED else self._size()
            told = sum(self._counts.values())
            if size is None:
                if not told:
                    warn_once(
                        f"unsized:{self.pipeline.name}",
                        "%s: a batch of type %s has no length and was not iterated, so no records "
                        "are counted; call records(n) on its handle",
                        self.pipeline.name,
                        type(self._batch).__name__,
                    )
                size = told
            self._count(Status.ERROR if status == Status.ERROR else success, max(size - told, 0))
        self._counts[success] += int(self._cell[0])
        for counter in self._counters[success]:
            counter.fold_cell(self._cell)

    # Links

    def _open_links(self) -> list[Link]:
        links = self._links
        if links is None:
            return []
        if callable(links):
            if not isinstance(self._batch, (list, tuple)):
                self._link_each = links
                return []
            links = [_carrier_of(links, record) for record in self._batch]
        return [link for link in map(link_from, links) if link is not None]

    def _add_link(self, carrier: object) -> None:
        link = link_from(carrier)
        if link is not None:
            self.span.add_link(link.context, link.attributes)

    # Block

    def _span_name(self) -> str:
        return semconv.batch_span_name(self.pipeline.name)

    def _opened(self) -> None:
        above = self.parent
        while above is not None and not (
            isinstance(above, Batch) and above.pipeline.name == self.pipeline.name
        ):
            above = above.parent
        self._outermost = above is None
        name = self.pipeline.name
        stage = self.stage
        self._counters: dict[str, list[Counter]] = {}
        for status in semconv.RECORD_STATUSES:
            counters = self._counters[status] = []
            if self._outermost:
                counters.append(_RECORDS_PROCESSED.labels(name, status))
            if stage is not None:
                counters.append(stage._series.records[status])  # noqa: SLF001  same module
        self._sinks = stage
        for counter in self._counters[Status.SUCCESS]:
            counter.attach_cell(self._cell)

    def _finish(self, exception: BaseException | None, seconds: float, *, first: bool) -> None:
        status = self.status or Status.SUCCESS
        self._settle(status)
        for record_status, number in self._counts.items():
            self.span.set_attribute(Attr.RECORDS + record_status, number)
            if self._sinks is not None:
                self._sinks._add(record_status, number)  # noqa: SLF001  same module
        if self._outermost:
            if status == Status.SUCCESS:
                _PROCESSING_DURATION.labels(self.pipeline.name).observe(seconds)
            if self.run is not None:
                self.run.add_batch(self.pipeline, self._counts)
        if status == Status.SUCCESS:
            self.pipeline._log_batch(self._counts, seconds)  # noqa: SLF001  same module
        elif status == Status.ERROR and exception is not None:
            log_event(
                "error",
                Event.BATCH_FAILED,
                error=text_of(exception),
                count=sum(self._counts.values()),
                duration_seconds=round(seconds, 6),
                **({"exc_info": exception} if first else {}),
            )


def _carrier_of(links: Callable[[Any], object], record: Any) -> object:
    try:
        return links(record)
    except Exception as error:  # noqa: BLE001  user code that only serves telemetry
        warn_once("links", "links= failed on a record: %s", text_of(error))
        return None


def _each(batch: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    """Return an asynchronous iterator over an asynchronous or a plain iterable."""
    if hasattr(batch, "__aiter__"):
        return batch.__aiter__()

    async def each() -> AsyncIterator[Any]:
        for record in batch:
            yield record

    return each()


class _AsyncRecords:
    """Counts the records of an asynchronous iteration."""

    __slots__ = ("_batch", "_source", "has_current")

    def __init__(self, batch: Batch, source: AsyncIterator[Any]) -> None:
        self._batch = batch
        self._source = source
        self.has_current = False

    def __aiter__(self) -> _AsyncRecords:
        return self

    async def __anext__(self) -> Any:
        batch = self._batch
        if self.has_current:
            self.has_current = False
            if batch._replaced:  # noqa: SLF001  same module
                batch._replaced = False  # noqa: SLF001
            else:
                batch._cell[0] += 1  # noqa: SLF001
        record = await self._source.__anext__()
        if batch._link_each is not None:  # noqa: SLF001
            batch._add_link(_carrier_of(batch._link_each, record))  # noqa: SLF001
        self.has_current = True
        return record


class Queue:
    """The size of one queue, as `queue_size{queue_name=…}`; made by `Pipeline.queue`."""

    __slots__ = ("_gauge", "name")

    def __init__(self, pipeline: str, name: str) -> None:
        self.name = name
        self._gauge = _QUEUE_SIZE.labels(name)
        _QUEUE_INFO.labels(pipeline, name).set(1)

    def set(self, size: float) -> None:
        """Set the number of items that wait."""
        self._gauge.set(size)

    def inc(self, n: float = 1) -> None:
        """Add `n` items."""
        self._gauge.inc(n)

    def dec(self, n: float = 1) -> None:
        """Take away `n` items."""
        self._gauge.dec(n)

    def watch(self, queue: Any) -> None:
        """Read the size from `queue` whenever metrics are collected.

        Args:
            queue: Anything with `qsize()` (`queue.Queue`, `asyncio.Queue`) or a length. It is not
                kept alive; once it is gone, the size is 0.

        Raises:
            TypeError: `queue` has neither.
        """
        if not hasattr(queue, "qsize") and not hasattr(queue, "__len__"):
            message = f"a {type(queue).__name__} has neither qsize() nor a length to watch"
            raise TypeError(message)
        try:
            reference: Callable[[], Any] = weakref.ref(queue)
        except TypeError:  # a list or deque subclass without weak references

            def reference() -> Any:
                return queue

        process = lifecycle.process_generation()

        def size() -> float | None:
            if process != lifecycle.process_generation():
                return None  # the parent of this process tells the size
            watched = reference()
            if watched is None:
                return 0
            return watched.qsize() if hasattr(watched, "qsize") else len(watched)

        self._gauge.set_function(size)


_queue_owners: dict[str, str] = {}


class _Shared:
    """What all `Pipeline` objects of one name have in common."""

    __slots__ = ("batch_log", "series")

    def __init__(self) -> None:
        self.batch_log = Throttle(Event.BATCH_PROCESSED, burst=10, rate=1.0)
        self.series: dict[str, _Series] = {}


_pipelines: dict[str, _Shared] = {}


class Pipeline:
    """A data pipeline: makes runs, stages, batches and queues that are traced, counted and logged.

    Several objects of one name, such as one in each module, are one pipeline.

    Args:
        name: Its name, as on every metric, span and log line; a short fixed word.
        mode: `batch` for work that ends (a run is one trace), `stream` for work that does not
            (each outermost stage or batch is a trace of its own, linked to the run).
        expected_interval: How often it is expected to succeed: seconds, a `timedelta`, or text
            such as `24h`; alerts use it.

    Raises:
        ValueError: The name is empty, the mode unknown, or the interval unreadable.
        TypeError: The name is not a string.

    Metrics:
        `pipeline_info`, and `pipeline_expected_interval_seconds` if an interval is given.

    Example:
        >>> from otel_pipeline import Pipeline
        >>> pipeline = Pipeline("docs-orders", expected_interval="24h")
        >>> @pipeline.stage
        ... def extract():
        ...     yield from range(3)
        >>> with pipeline.run() as run:
        ...     with pipeline.batch(extract()) as records:
        ...         total = sum(records)
        >>> total, run.records()["success"]
        (3, 3)
    """

    def __init__(
        self,
        name: str,
        *,
        mode: Literal["batch", "stream"] = "batch",
        expected_interval: float | str | dt.timedelta | None = None,
    ) -> None:
        _check_name("a pipeline", name)
        if mode not in {"batch", "stream"}:
            message = f"the mode of pipeline {name!r} is 'batch' or 'stream', not {mode!r}"
            raise ValueError(message)
        self.name = name
        self.mode = mode
        self._shared = _pipelines.get(name) or _Shared()
        if len(_pipelines) < _MOST_KEPT:
            _pipelines.setdefault(name, self._shared)
        _PIPELINE_INFO.labels(name, mode).set(1)
        if expected_interval is not None:
            _EXPECTED_INTERVAL.labels(name).set(parse_duration(expected_interval))

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, mode={self.mode!r})"

    @property
    def tracer(self) -> Tracer:
        """OpenTelemetry's own tracer, for spans that the facade lacks."""
        return trace.get_tracer(SCOPE_NAME, __version__)

    @property
    def meter(self) -> Meter:
        """OpenTelemetry's own meter, for instruments that the facade lacks."""
        return otel_metrics.get_meter(SCOPE_NAME, __version__)

    def run(
        self,
        run_id: str | None = None,
        *,
        attributes: Mapping[str, object] | None = None,
        links: Iterable[object] = (),
        parent: object | None = None,
        flush: bool = True,
    ) -> Opener[Run]:
        """Open a run: one trace, a run id, last-run gauges, and a flush at its end.

        Args:
            run_id: The id, as an orchestrator gives it; a random one by default.
            attributes: Attributes of the run's span.
            links: What caused the run: links, spans, span contexts or carriers.
            parent: A carrier, span, span context or context that the run continues, instead of a
                trace of its own.
            flush: Send what is left when the outermost run ends, for at most a second.

        Returns:
            A context manager (`with`, `async with`) that gives the `Run`, and a decorator.

        Metrics:
            `pipeline_runs_total`, `pipeline_run_duration_seconds`, the `pipeline_last_…` gauges.

        Example:
            >>> from otel_pipeline import Pipeline
            >>> with Pipeline("docs-run").run("nightly-1", attributes={"source": "s3"}) as run:
            ...     run.id
            'nightly-1'
        """

        def make() -> Run:
            run = Run(self, run_id, flush=flush)
            found = [link for link in map(link_from, links) if link is not None]
            above = context_from(parent) if parent is not None else None
            run.open(found, attributes, above)
            return run

        return _RunOpener(make)

    @overload
    def stage(self, function: FunctionT, /) -> FunctionT: ...

    @overload
    def stage(
        self,
        name: str | None = None,
        /,
        *,
        count: Callable[[Any], int] | None = None,
        attributes: Mapping[str, object] | None = None,
    ) -> Opener[Stage]: ...

    def stage(
        self,
        name: Any = None,
        /,
        *,
        count: Callable[[Any], int] | None = None,
        attributes: Mapping[str, object] | None = None,
    ) -> Any:
        """Open a stage: `@pipeline.stage`, `@pipeline.stage("x")`, or `with pipeline.stage("x")`.

        Args:
            name: The stage's name; a decorated function's own by default.
            count: How many records a result is, such as `len`; for a generator, one yielded item.
            attributes: Attributes of the stage's span.

        Returns:
            The decorated function; or a context manager (`with`, `async with`) that gives the
            `Stage`, and a decorator for sync, async, generator and async generator functions.

        Raises:
            ValueError: The name is empty, or missing where there is no function.
            TypeError: The name is not a string.

        Metrics:
            `pipeline_stage_records_total`, `pipeline_stage_duration_seconds`,
            `pipeline_records_rejected_total`.

        Example:
            >>> from otel_pipeline import Pipeline
            >>> pipeline = Pipeline("docs-stage")
            >>> @pipeline.stage(count=len)
            ... def validate(rows):
            ...     return [row for row in rows if row]
            >>> with pipeline.stage("load") as stage:
            ...     stage.records(len(validate(["a", ""])))
        """
        if type(name) is not str or name not in self._shared.series:
            if not isinstance(name, str) and (
                callable(name) or isinstance(name, (staticmethod, classmethod))
            ):
                return self.stage()(name)
            if name is not None:
                _check_name("a stage", name)
        return _StageOpener(self, name, attributes, count)

    def batch(self, batch: Any, *, links: Any = None) -> Batch:
        """Open a batch: a span, record counts, one duration, `batch_processed` or `batch_failed`.

        Args:
            batch: The records: anything sized, iterable or asynchronously iterable, or a frame.
            links: What each record came from: carriers (dicts or Kafka headers), spans or links;
                or a function that gives a record's carrier. Each becomes a link of the span.

        Returns:
            A context manager (`with`, `async with`) that gives the `Batch`.

        Metrics:
            `records_processed_total`, `processing_duration_seconds`, and the records of the stage
            around.

        Example:
            >>> from otel_pipeline import Pipeline
            >>> with Pipeline("docs-batch").batch([1, 2, 0]) as records:
            ...     for record in records:
            ...         if not record:
            ...             records.skipped(reason="empty")
        """
        return Batch(self, batch, links)

    def queue(self, name: str) -> Queue:
        """Return the handle of `queue_size` for one queue.

        Args:
            name: The queue's name; it belongs to one pipeline.

        Raises:
            ValueError: The name is empty, or another pipeline's.
            TypeError: The name is not a string.

        Metrics:
            `queue_size`, `pipeline_queue_info`.

        Example:
            >>> import queue
            >>> from otel_pipeline import Pipeline
            >>> waiting = queue.Queue()
            >>> Pipeline("docs-queue").queue("docs-parsed").watch(waiting)
        """
        _check_name("a queue", name)
        owner = _queue_owners.setdefault(name, self.name)
        if owner != self.name:
            message = (
                f"queue {name!r} belongs to pipeline {owner!r}, so pipeline {self.name!r} cannot "
                f"use it: queue_size has only the queue's name, choose another one"
            )
            raise ValueError(message)
        return Queue(self.name, name)

    def lag(self, timestamp: float | dt.datetime) -> None:
        """Say when the event that was just handled had happened.

        Args:
            timestamp: A `datetime` (naive ones are UTC) or seconds since 1970.

        Metrics:
            `pipeline_event_lag_seconds`: now less `timestamp`.
        """
        if isinstance(timestamp, dt.datetime):
            if timestamp.tzinfo is None:
                timestamp = timestamp.replace(tzinfo=dt.UTC)
            timestamp = timestamp.timestamp()
        _EVENT_LAG.labels(self.name).set(clock.now() - timestamp)

    def _new_series(self, stage: str) -> _Series:
        series = _Series(self.name, stage)
        if len(self._shared.series) < _MOST_KEPT:
            self._shared.series[stage] = series
        return series

    def _log_batch(self, counts: Mapping[str, int], seconds: float) -> None:
        suppressed = self._shared.batch_log.ask()
        if suppressed is None:
            return
        log_event(
            "info",
            Event.BATCH_PROCESSED,
            count=sum(counts.values()),
            duration_seconds=round(seconds, 6),
            **({"suppressed": suppressed} if suppressed else {}),
        )


def _name_of(function: Callable[..., Any] | None) -> str:
    """Return the name of a decorated function, also of a partial or an object that is called."""
    if function is None:
        message = 'a stage needs a name: pipeline.stage("load")'
        raise ValueError(message)
    function = getattr(function, "func", function)  # of a functools.partial
    return getattr(function, "__name__", None) or type(function).__name__


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str):
        message = f"the name of {what} is a string, not {name!r}"
        raise TypeError(message)
    if not name or name.isspace():
        message = f"the name of {what} is empty"
        raise ValueError(message)
