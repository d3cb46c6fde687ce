"""What `stage.observe` does: look at data on their way, and judge them when the stage ends."""

from __future__ import annotations

import contextvars
import datetime as dt
import threading
from collections.abc import Mapping, Sized
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context

from otel_pipeline import clock
from otel_pipeline.config._parse import shorten
from otel_pipeline.context import with_scope_and_span
from otel_pipeline.diagnostics import warn_once
from otel_pipeline.errors import ConfigurationError, DataQualityError, OtelPipelineError
from otel_pipeline.quality.checks.evaluation import Evaluation
from otel_pipeline.quality.checks.model import CheckError
from otel_pipeline.quality.checks.quarantine import send
from otel_pipeline.quality.checks.table import ROWS_AT_ONCE, Table, as_frame, as_mapping
from otel_pipeline.quality.checks.whole import newest, seconds_of
from otel_pipeline.quality.counting import Categories, Segments
from otel_pipeline.quality.datasets import Dataset, declared
from otel_pipeline.quality.lineage.seen import seen
from otel_pipeline.quality.report import Observed, report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from otel_pipeline.pipeline import Stage
    from otel_pipeline.quality.checks.evaluation import Split

__all__ = ["Asked", "Observations", "wanted"]

#: Why rows that went into quarantine are not among those that the stage handled.
QUARANTINED: Final = "quarantined"
_INSTALL: Final = 'pip install "otel-pipeline[quality]"'


@dataclass(frozen=True, slots=True)
class Asked:
    """What one call of `observe` asks for.

    Attributes:
        dataset: The dataset.
        updated_at: The column with the time of each row, or the time of the newest row, or None.
        at: The time that the data stand for, or None for now.
        batch_rows: How many rows of an iterator are looked at together.
    """

    dataset: Dataset
    updated_at: object
    at: dt.datetime | None
    batch_rows: int


class Observations:
    """The datasets that one stage looks at; each is judged when the stage ends."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._found: dict[str, _Observation] = {}
        self._lock = threading.Lock()

    def observe(self, data: Any, asked: Asked) -> Any:
        """Look at data, or a part of them, and return what goes on.

        Raises:
            ConfigurationError: The dataset has other checks than before in this stage.
        """
        dataset = asked.dataset
        with self._lock:
            one = self._found.get(dataset.name)
            if one is None:
                one = self._found[dataset.name] = _Observation(self._stage, asked)
        if _shape(dataset) != _shape(one.dataset):
            raise ConfigurationError(
                f"dataset {dataset.name!r} is observed with other checks, another level, other "
                f"categories or segments than before in this stage; declare it once: "
                f"quality.register(Dataset(...))"
            )
        return one.take(data, asked.updated_at)

    def close(self, *, complete: bool) -> None:
        """Judge what was seen, as the stage ends.

        Args:
            complete: Whether the stage did not fail.

        Raises:
            DataQualityError: A check says that the pipeline must stop.
        """
        errors = [one.stage_ended(complete=complete) for one in self._found.values()]
        found = [error for error in errors if error is not None]
        if found:
            raise found[0]


def _shape(dataset: Dataset) -> tuple[object, ...]:
    names = [check.name for check in dataset.checks]
    return dataset.level, names, dataset.categories, dataset.segments


def wanted(
    dataset: str | Dataset | Any,
    *,
    level: str | None,
    checks: Any,
    updated_at: object,
    monitors: Any,
) -> Dataset:
    """Return the dataset that one call of `observe` speaks of.

    Raises:
        ConfigurationError: An argument cannot be used.
    """
    if isinstance(dataset, Dataset):
        found = dataset
    else:
        if not isinstance(dataset, str) or not dataset.strip():
            raise ConfigurationError(
                f"observe: dataset {shorten(dataset)} is neither a name nor a Dataset"
            )
        found = declared(dataset) or Dataset(dataset)
    changes: dict[str, Any] = {}
    if level is not None:
        changes["level"] = level
    if checks is not None:
        changes["checks"] = checks
    if isinstance(updated_at, str):
        changes["updated_at"] = updated_at
    if monitors is not None:
        changes["monitors"] = monitors
    return replace(found, **changes) if changes else found


class _Observation:
    """One dataset in one pass of a stage."""

    def __init__(self, stage: Stage, asked: Asked) -> None:
        self.dataset = dataset = asked.dataset
        self._stage = stage
        self._asked = asked
        self._lock = threading.RLock()
        self._evaluation = Evaluation(dataset.checks)
        self._splits = any(check.on_fail == "quarantine" for check in dataset.checks)
        self._profiler: Any = None
        self._at = asked.at or dt.datetime.fromtimestamp(clock.now(), dt.UTC)
        self._categories: Categories | None = None
        self._segments: Segments | None = None
        self._problems: dict[str, str] = {}  # what could not be done, and why
        self._rows = 0
        self._quarantined = 0
        self._newest: float | None = None
        self._running = 0  # iterators that are not at their end
        self._complete = True
        self._ended = False

    # Data that come at once, or in parts.

    def take(self, data: Any, updated_at: object) -> Any:
        """Look at data and return what goes on: the same object, unless rows are taken out."""
        if updated_at is not None and not isinstance(updated_at, str):
            self._guarded("updated_at", lambda: self._is_updated(seconds_of(updated_at)))
        if hasattr(data, "__aiter__"):
            self._begin_iterator()
            return self._each_async(data)
        if hasattr(data, "__next__") or (
            hasattr(data, "__iter__")
            and not isinstance(data, (Sized, str, bytes))
            and self._guarded("data", lambda: as_frame(data)) is None
        ):
            self._begin_iterator()
            return self._each(data)
        return self.see(data)

    def see(self, data: Any) -> Any:
        """Look at a frame, or at rows that are all there."""
        with self._lock:
            try:
                table = Table.of(data)
                rows = _rows_of(data) if table is None else []
            except Exception as error:  # noqa: BLE001  observation never harms the program
                self._cannot("data", error)
                self._rows += len(data) if isinstance(data, Sized) else 0
                return data
            if table is None:
                return self._see_rows(data, rows)
            split = self._look(table)
            if split is None:
                return data
            taken = self._send(split, lambda mask: split.bad.filter(list(mask)).to_native())
            return split.good.to_native() if taken else data

    def _see_rows(self, data: Any, rows: list[Any]) -> Any:
        """Look at rows, and return those that stay: the same object, if all do."""
        kept: list[Any] = []
        for start in range(0, len(rows), ROWS_AT_ONCE):
            kept += self._see_part(rows[start : start + ROWS_AT_ONCE])
        return data if len(kept) == len(rows) else kept

    def _see_part(self, rows: list[Any]) -> list[Any]:
        """Look at a few rows and return those that stay."""
        with self._lock:
            try:
                table = Table.of_rows(rows)
            except Exception as error:  # noqa: BLE001  as above
                self._cannot("data", error)
                self._rows += len(rows)
                return rows
            split = self._look(table)
            if split is None:
                return rows
            bad = [row for row, is_bad in zip(rows, split.taken, strict=True) if is_bad]

            def given(mask: Iterable[bool]) -> list[Any]:
                return [row for row, is_wanted in zip(bad, mask, strict=True) if is_wanted]

            if not self._send(split, given):
                return rows
            return [row for row, is_bad in zip(rows, split.taken, strict=True) if not is_bad]

    def _look(self, table: Table) -> Split | None:
        """Profile and check a table."""
        before = self._evaluation.rows
        split: Split | None = self._guarded("checks", lambda: self._evaluation.add(table))
        self._rows += self._evaluation.rows - before
        if "profile" not in self._problems:
            self._guarded("profile", lambda: self._profile(table))
        if self.dataset.monitors is not None:
            if self.dataset.categories and "categories" not in self._problems:
                self._guarded("categories", lambda: self._count_categories(table))
            if self.dataset.segments and "segments" not in self._problems:
                self._guarded("segments", lambda: self._count_segments(table))
        column = self.dataset.updated_at
        if column is not None:
            self._guarded("updated_at", lambda: self._is_updated(newest(table, column)))
        return split

    def _profile(self, table: Table) -> None:
        if self._profiler is None:
            from otel_pipeline.quality.profiles import Profiler  # noqa: PLC0415  an extra

            self._profiler = Profiler(self.dataset.level)  # type: ignore[arg-type]
        self._profiler.update(table.frame.to_native())

    def _count_categories(self, table: Table) -> None:
        if self._categories is None:
            self._categories = Categories(self.dataset.categories)
        self._categories.add(table)

    def _count_segments(self, table: Table) -> None:
        if self._segments is None:
            dataset = self.dataset
            known = dataset.monitors.segments(dataset.name, dataset.segments, at=self._at)
            named = [column for check in dataset.checks for column in check.about()]
            self._segments = Segments(dataset.segments, known, named)
        self._segments.add(table)

    def _is_updated(self, at: float | None) -> None:
        if at is not None:
            self._newest = at if self._newest is None else max(at, self._newest)

    def _send(self, split: Split, given: Callable[[Any], Any]) -> bool:
        """Send bad rows into quarantine; where that fails, they stay."""
        try:
            send(split, given)
        except Exception as error:  # noqa: BLE001  a disk is full, a user's function fails
            reason = f"the quarantine cannot take rows: {_words(error)}"
            self._evaluation.refuse(split.checks, reason)
            return False
        self._quarantined += len(split.bad)
        self._stage.dropped(len(split.bad), QUARANTINED)
        return True

    # Data that come one by one.

    def _each(self, source: Iterable[Any]) -> Iterator[Any]:
        """Yield what a source yields, and look at it in micro-batches."""
        waiting: list[Any] = []
        try:
            for item in source:
                if self._is_part(item):
                    yield self.see(item)
                    continue
                waiting.append(item if self._splits else _kept(item))
                if not self._splits:
                    yield item
                if len(waiting) >= self._asked.batch_rows:
                    part, waiting = waiting, []
                    yield from self._rows_after(part)
            part, waiting = waiting, []
            yield from self._rows_after(part)
        except BaseException:
            self._stopped_early(waiting)
            raise
        self._iterator_ended()

    async def _each_async(self, source: Any) -> AsyncIterator[Any]:
        """Do what `_each` does for an asynchronous source."""
        waiting: list[Any] = []
        try:
            async for item in source:
                if self._is_part(item):
                    yield self.see(item)
                    continue
                waiting.append(item if self._splits else _kept(item))
                if not self._splits:
                    yield item
                if len(waiting) >= self._asked.batch_rows:
                    part, waiting = waiting, []
                    for row in self._rows_after(part):
                        yield row
            part, waiting = waiting, []
            for row in self._rows_after(part):
                yield row
        except BaseException:
            self._stopped_early(waiting)
            raise
        self._iterator_ended()

    def _rows_after(self, part: list[Any]) -> list[Any]:
        """Look at rows, and return those that are still to go on."""
        stay = self._see_part(part) if part else []
        return stay if self._splits else []

    @staticmethod
    def _is_part(item: Any) -> bool:
        """Tell whether what an iterator yields is more than a row."""
        if isinstance(item, (dict, tuple)):
            return False
        if isinstance(item, list):
            return True
        try:
            return as_frame(item) is not None
        except Exception:  # noqa: BLE001  `see` says why
            return True

    def _begin_iterator(self) -> None:
        with self._lock:
            self._running += 1

    def _stopped_early(self, waiting: list[Any]) -> None:
        if waiting and not self._splits:
            self._see_part(waiting)
        with self._lock:
            self._complete = False
        self._iterator_ended()

    def _iterator_ended(self) -> None:
        with self._lock:
            self._running -= 1
            if self._running or not self._ended:
                return
        error = self._judge()
        if error is not None:
            raise error

    # The end.

    def stage_ended(self, *, complete: bool) -> DataQualityError | None:
        """Judge the dataset, unless an iterator is still on its way."""
        with self._lock:
            self._ended = True
            self._complete = self._complete and complete
            if self._running:
                return None
        return self._judge()

    def _judge(self) -> DataQualityError | None:
        stage = self._stage

        def inside() -> DataQualityError | None:
            # Whoever closes the stage: what is told belongs to its span.
            otel_context.attach(with_scope_and_span(stage, stage.span, otel_context.get_current()))
            return self._told()

        return contextvars.copy_context().run(inside)

    def _told(self) -> DataQualityError | None:
        results = self._evaluation.results() if self._complete else []
        profile = None
        if self._profiler is not None and "profile" not in self._problems:
            profile = self._guarded("profile", self._profiler.result)
        observed = Observed(
            dataset=self.dataset,
            rows=self._rows,
            complete=self._complete,
            results=results,
            profile=profile,
            updated_at=self._newest,
            at=self._asked.at,
            categories=self._counted("categories", self._categories) or {},
            segments=self._counted("segments", self._segments) or (),
            quarantined=self._quarantined,
            problems=dict(self._problems),
        )
        self._guarded("report", lambda: report(self._stage, observed))
        self._guarded("lineage", lambda: seen(self._stage, observed))
        stops = [one for one in results if one.breaks]
        return DataQualityError(self.dataset.name, stops) if stops else None

    def _counted(self, what: str, counts: Categories | Segments | None) -> Any:
        """Return what was counted, unless a part of the data could not be."""
        return None if counts is None or what in self._problems else counts.result()

    # What goes wrong.

    def _guarded(self, what: str, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except Exception as error:  # noqa: BLE001  observation never harms the program
            self._cannot(what, error)
            return None

    def _cannot(self, what: str, error: Exception) -> None:
        """Say once that a part of the observation is not done; the program goes on."""
        reason = _words(error)
        self._problems.setdefault(what, reason)
        if what == "data":
            self._evaluation.fail(reason)
        warn_once(
            f"observe:{self.dataset.name}:{what}",
            "observing dataset %r: %s failed: %s; the pipeline goes on",
            self.dataset.name,
            what,
            reason,
        )


def _rows_of(data: Any) -> list[Any]:
    if not isinstance(data, Sized) or isinstance(data, (Mapping, str, bytes)):
        raise CheckError(f"a {type(data).__name__} is neither a frame nor rows")
    return list(data)  # type: ignore[call-overload, no-any-return]


def _words(error: Exception) -> str:
    """Return what an error says, where that holds no values of the data."""
    if isinstance(error, ImportError):
        return f"{error.name} is not installed: {_INSTALL}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, (CheckError, OtelPipelineError)):
        return str(error)
    return type(error).__name__


def _kept(row: Any) -> Any:
    """Return a row as it is now: who gets it may change it."""
    if type(row) is dict:
        return row.copy()
    if isinstance(row, tuple):
        return row
    try:
        return dict(as_mapping(row))
    except CheckError:
        return row
