"""What the stages and runs of this process say of their datasets."""

from __future__ import annotations

import os
import threading
import uuid
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import SpanContext, TraceFlags, format_span_id, format_trace_id

from otel_pipeline import clock, lifecycle, semconv
from otel_pipeline.diagnostics import warn_once
from otel_pipeline.quality.lineage.model import DatasetUse, JobRun, ParentRun
from otel_pipeline.quality.lineage.names import JobName, identify, run_uuid
from otel_pipeline.semconv import DatasetAttr
from otel_pipeline.tracing import outcome, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_pipeline.pipeline import Run, Stage
    from otel_pipeline.quality.lineage.model import Assertion, Columns, State
    from otel_pipeline.quality.lineage.names import DatasetName

__all__ = ["StageLineage", "observed", "run_changed"]

#: Datasets that a stage reads, and as many that it writes; columns of one; sources of a column.
_MOST_DATASETS: Final = 100
_MOST_COLUMNS: Final = 1000
#: Names on a span, and links.
_MOST_ON_SPAN: Final = 20
#: Datasets of which the last writer in this process is known.
_MOST_WRITERS: Final = 1000

_DEFAULT_NAMESPACE: Final = "default"
_STATES: Final[Mapping[str, State]] = {
    semconv.Status.SUCCESS: "COMPLETE",
    semconv.Status.ERROR: "FAIL",
}

_lock = threading.Lock()
_writers: OrderedDict[DatasetName, SpanContext] = OrderedDict()


def _renew_lock() -> None:
    """Give a forked child a lock that no lost thread holds."""
    global _lock  # noqa: PLW0603  a lock cannot be renewed in place
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class StageLineage:
    """What one pass through a stage reads and writes; it goes out when the stage ends.

    Thread-safe. What is declared more than once is one dataset; the later word wins.

    Args:
        stage: The stage, which is open.
    """

    __slots__ = ("_began", "_inputs", "_outputs", "_run", "_stage")

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._inputs: dict[DatasetName, DatasetUse] = {}
        self._outputs: dict[DatasetName, DatasetUse] = {}
        self._run: JobRun | None = None
        self._began = clock.time_ns() - round((clock.current.perf_counter() - stage._started) * 1e9)  # noqa: SLF001

    def reads(self, datasets: Iterable[object], schema: Mapping[str, str] | None = None) -> None:
        """Say that the stage reads `datasets`; see `Stage.reads`."""
        for name in [identify(dataset, _namespace()) for dataset in datasets]:
            if self._add(self._inputs, name, schema=_schema(schema)):
                self._link(name)
        self._start()

    def writes(
        self,
        dataset: object,
        *,
        schema: Mapping[str, str] | None = None,
        columns: Mapping[str, Iterable[tuple[object, str]]] | None = None,
        rows: int | None = None,
        size: int | None = None,
    ) -> None:
        """Say that the stage writes `dataset`; see `Stage.writes`."""
        name = identify(dataset, _namespace())
        given = {"schema": _schema(schema), "columns": _columns(columns), "rows": rows}
        self._add(self._outputs, name, size=size, **given)
        context = self._stage.span.get_span_context()
        if context.is_valid:
            with _lock:
                _writers[name] = context
                _writers.move_to_end(name)
                if len(_writers) > _MOST_WRITERS:
                    _writers.popitem(last=False)
        self._start()

    def observed(
        self,
        dataset: object,
        *,
        rows: int | None = None,
        schema: Mapping[str, str] | None = None,
        metrics: Mapping[str, Mapping[str, float]] | None = None,
        assertions: Iterable[Assertion] = (),
    ) -> None:
        """Say what was seen of a dataset; see the function `observed`."""
        name = identify(dataset, _namespace())
        side = self._outputs if name in self._outputs else self._inputs
        self._add(
            side,
            name,
            rows=rows,
            schema=_schema(schema),
            metrics=None if metrics is None else dict(list(metrics.items())[:_MOST_COLUMNS]),
            assertions=tuple(assertions)[:_MOST_COLUMNS] or None,
        )
        self._start()

    def finish(self, exception: BaseException | None, status: str) -> None:
        """Tell the span what was declared, and whoever listens that the stage ended."""
        try:
            if self._stage.span.is_recording():
                self._set_attributes()
            if self._run is not None:
                self._tell(_ended(self._run, exception, status))
        except Exception as error:  # noqa: BLE001  the end of a stage has more to do
            warn_once("lineage.end", "lineage of %r failed: %s", self._stage.name, text_of(error))

    def _set_attributes(self) -> None:
        for key, side in ((DatasetAttr.INPUTS, self._inputs), (DatasetAttr.OUTPUTS, self._outputs)):
            if names := [str(name) for name in list(side)[:_MOST_ON_SPAN]]:
                self._stage.set_attribute(key, names)

    def _add(self, side: dict[DatasetName, DatasetUse], name: DatasetName, **told: Any) -> bool:
        """Add what is told of a dataset; whether it is a new one."""
        if not self._stage.span.is_recording() and _listener() is None:
            return False  # nobody would see it
        known = {key: value for key, value in told.items() if value is not None}
        with _lock:
            use = side.get(name)
            if use is not None:
                side[name] = replace(use, **known)
                return False
            if len(side) < _MOST_DATASETS:
                side[name] = DatasetUse(name, **known)
                return True
        warn_once(
            f"lineage:{self._stage.pipeline_name}:{self._stage.name}",
            "stage %r of pipeline %r has more than %d datasets on one side: "
            "the others are left out of its lineage",
            self._stage.name,
            self._stage.pipeline_name,
            _MOST_DATASETS,
        )
        return False

    def _link(self, name: DatasetName) -> None:
        """Link the stage's span to that of the dataset's last writer, if it is known."""
        span = self._stage.span
        if not span.is_recording() or len(self._inputs) > _MOST_ON_SPAN:
            return
        writer = _writers.get(name) or _last_writer(name)
        if writer is not None and writer.span_id != span.get_span_context().span_id:
            span.add_link(writer, {DatasetAttr.NAME: str(name)})

    def _start(self) -> None:
        """Tell that the stage has started, the first time that there is something to tell."""
        listener = _listener()
        if listener is None:
            return
        with _lock:
            if self._run is not None or self._stage.ended:
                return
            self._run = _stage_run(self._stage, listener.namespace, self._began)
        self._tell(self._run)

    def _tell(self, run: JobRun) -> None:
        _tell(
            replace(run, inputs=tuple(self._inputs.values()), outputs=tuple(self._outputs.values()))
        )


def observed(
    stage: Stage,
    dataset: object,
    *,
    rows: int | None = None,
    schema: Mapping[str, str] | None = None,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    assertions: Iterable[Assertion] = (),
) -> None:
    """Add to a stage's lineage what was seen of one of its datasets; never raises.

    A dataset that the stage has not said to write counts as one that it reads. What is only known
    after the end of the stage, as of an iterator that is consumed later, is left out.

    Args:
        stage: The stage, which is open.
        dataset: What `Stage.reads` takes.
        rows: How many rows passed.
        schema: Types by column.
        metrics: By column, `nullCount`, `distinctCount`, `min`, `max`, `sum` and `count`, which
            OpenLineage knows, and any others, which stay in the record; as far as they are known
            and may be told.
        assertions: The results of checks.
    """
    try:
        stage.lineage().observed(
            dataset, rows=rows, schema=schema, metrics=metrics, assertions=assertions
        )
    except Exception as error:  # noqa: BLE001  telemetry never reaches user code
        warn_once("lineage.observed", "lineage of %r failed: %s", stage.name, text_of(error))


def run_changed(run: Run, exception: BaseException | None = None, *, ended: bool) -> None:
    """Tell whoever listens that a run of a pipeline has started or ended; never raises.

    Args:
        run: The run.
        exception: What it was left with.
        ended: Whether it has ended.
    """
    try:
        listener = _listener()
        if listener is None:
            return
        job = JobName(listener.namespace, run.pipeline_name)
        parent, root = _outside()
        above = run.parent.run if run.parent is not None else None
        if above is not None:
            parent, root = _parent(listener.namespace, above), parent
        trace_id, span_id = _ids(run.span.get_span_context())
        now = JobRun(
            job,
            run_uuid(job, run.id),
            "START",
            clock.time_ns(),
            parent=parent,
            root=root,
            trace_id=trace_id,
            span_id=span_id,
            streaming=run.is_stream,
        )
        _tell(_ended(now, exception, run.status) if ended else now)
    except Exception as error:  # noqa: BLE001  telemetry never reaches user code
        warn_once("lineage.run", "lineage of %r failed: %s", run.pipeline_name, text_of(error))


def _stage_run(stage: Stage, namespace: str, began: int) -> JobRun:
    job = JobName(namespace, f"{stage.pipeline_name}.{stage.name}")
    trace_id, span_id = _ids(stage.span.get_span_context())
    parent, root = _outside()
    run_id = stage.run_id
    if run_id is not None:
        pipeline = stage.pipeline_name if stage.run is None else stage.run.pipeline_name
        above = JobName(namespace, pipeline)
        parent, root = ParentRun(above, run_uuid(above, run_id)), root or parent
    # A stage may be passed several times in a run; its span tells which time this is.
    one = uuid.UUID(parent.run) if parent is not None else uuid.NAMESPACE_OID
    return JobRun(
        job,
        str(uuid.uuid5(one, "\n".join((job.name, span_id or uuid.uuid4().hex)))),
        "START",
        began,
        parent=parent,
        root=root,
        trace_id=trace_id,
        span_id=span_id,
        is_stage=True,
    )


def _ended(run: JobRun, exception: BaseException | None, status: str | None) -> JobRun:
    error = ""
    if exception is not None and outcome(exception) == semconv.Status.ERROR:
        error = f"{type(exception).__name__}: {text_of(exception)}"
    state = _STATES.get(status or semconv.Status.SUCCESS, "ABORT")
    return replace(run, state=state, at=clock.time_ns(), error=error)


def _parent(namespace: str, run: Run) -> ParentRun:
    job = JobName(namespace, run.pipeline_name)
    return ParentRun(job, run_uuid(job, run.id))


def _outside() -> tuple[ParentRun | None, ParentRun | None]:
    """Return the run that started this process, and the outermost one, as its variables say.

    `OPENLINEAGE_PARENT_ID` and `OPENLINEAGE_ROOT_PARENT_ID` are how schedulers hand them over:
    `namespace/job/run`.
    """
    found: list[ParentRun | None] = []
    for variable in ("OPENLINEAGE_PARENT_ID", "OPENLINEAGE_ROOT_PARENT_ID"):
        place, _, run = os.environ.get(variable, "").rpartition("/")
        namespace, _, name = place.rpartition("/")
        try:
            one = ParentRun(JobName(namespace, name), str(uuid.UUID(run)))
        except ValueError:
            found.append(None)
        else:
            found.append(one if namespace and name else None)
    return found[0], found[1]


def _ids(context: SpanContext) -> tuple[str, str]:
    if not context.is_valid:
        return "", ""
    return format_trace_id(context.trace_id), format_span_id(context.span_id)


def _listener() -> lifecycle.Lineage | None:
    """Return who takes what stages tell, or None."""
    hooks = lifecycle.hooks()
    return None if hooks is None else hooks.lineage


def _namespace() -> str:
    listener = _listener()
    return _DEFAULT_NAMESPACE if listener is None else listener.namespace


def _last_writer(name: DatasetName) -> SpanContext | None:
    """Return the span that another process has written `name` in, as far as the record knows."""
    listener = _listener()
    writer = None if listener is None else listener.last_writer(name)
    if writer is None:
        return None
    trace_id, span_id = writer
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(0)
    )


def _tell(run: JobRun) -> None:
    if (listener := _listener()) is not None:
        listener.put(run)


def _schema(schema: Mapping[str, str] | None) -> dict[str, str] | None:
    if schema is None:
        return None
    some = list(schema.items())[:_MOST_COLUMNS]
    return {text_of(column): text_of(kind) for column, kind in some}


def _columns(columns: Mapping[str, Iterable[tuple[object, str]]] | None) -> Columns | None:
    if columns is None:
        return None
    found = {}
    for column, sources in list(columns.items())[:_MOST_COLUMNS]:
        try:
            pairs = [(dataset, text_of(source)) for dataset, source in sources]
        except (TypeError, ValueError):
            message = (
                f"columns={{{column!r}: …}}: a column is made of pairs of a dataset and one of its "
                f'columns, such as [("orders", "price")]'
            )
            raise TypeError(message) from None
        found[text_of(column)] = tuple(
            (identify(dataset, _namespace()), source) for dataset, source in pairs[:_MOST_COLUMNS]
        )
    return found
