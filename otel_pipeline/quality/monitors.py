"""Monitors: judge what was measured of a dataset by the dataset's own history."""

from __future__ import annotations

import datetime as dt
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from otel_pipeline.errors import ConfigurationError
from otel_pipeline.quality.detector import Detector, Judgement
from otel_pipeline.quality.drift import population_stability, schema_changes
from otel_pipeline.quality.history import HistoryError, Note, Point, default_history
from otel_pipeline.quality.segments import MOST_SEGMENTS, is_rest, named, segment_name
from otel_pipeline.quality.settings import Monitor, read_settings, settings_for
from otel_pipeline.quality.words import explain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from otel_pipeline.quality.drift import SchemaChange
    from otel_pipeline.quality.history import History, Maintenance

__all__ = ["Finding", "Monitor", "Monitors", "State", "Verdict"]

State = Literal["learning", "watching", "maintenance", "off"]

#: Points of a series that a monitor learns from.
_REMEMBERED: Final = 1500
#: The same for a segment: there are many, and a new process learns all of them at once.
_REMEMBERED_OF_SEGMENT: Final = 200
#: Measurements without rows after which a segment is no longer waited for.
_GONE: Final = 14
#: A declared limit that is passed has at least this score.
_BEYOND_LIMIT: Final = 2.0
_CATEGORY_NOTES: Final = 14
_CATEGORY_LEARNING: Final = 5
#: The stability index that is always normal, and by how much the highest so far may be passed.
_STABLE: Final = 0.2
_STABLE_FACTOR: Final = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a dataset that its history does not let expect.

    Attributes:
        dataset: Name of the dataset.
        metric: What was measured, such as `rows`; `schema` for a change of the schema, and
            `history` where the history cannot be used.
        value: The value.
        expected: The lowest and the highest value that was expected.
        score: How far the value is from that; above 1 is anomalous.
        explanation: All of this in words.
        history: What the expectation comes from, in words.
        at: When it was measured, in UTC.
        segment: The part of the dataset, such as `carrier=AA`; empty for all of it.
    """

    dataset: str
    metric: str
    value: float
    expected: tuple[float, float]
    score: float
    explanation: str
    history: str
    at: dt.datetime
    segment: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the monitors think of a dataset.

    Attributes:
        scores: For each metric how far it is from what was expected; above 1 is anomalous.
        findings: What is anomalous and was not said lately.
        state: For each metric `learning`, `watching`, `maintenance` or `off`.
        changes: Changes of the schema since it was last seen.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    state: Mapping[str, State] = field(default_factory=dict)
    changes: Sequence[SchemaChange] = ()


class _Learned(NamedTuple):
    """A detector, and the last point that it learned."""

    detector: Detector
    last: tuple[float, float] | None
    points: int
    since: float


class Monitors:
    """Judge datasets by their history, and add to it.

    Nothing here raises because of the history: one that cannot be used is a finding of its own.

    Args:
        history: Where the past is read and the present is added; by default the file that
            `OTEL_PIPELINE_QUALITY_HISTORY` names.
        monitors: Settings for every dataset; the last that matches a metric counts.
        datasets: More settings for single datasets, which count before those.

    Raises:
        ConfigurationError: There is no history: `OTEL_PIPELINE_QUALITY_HISTORY` is off.

    Example:
        >>> import datetime as dt, pathlib, tempfile
        >>> from otel_pipeline.quality import Monitors, SqliteHistory
        >>> folder = tempfile.TemporaryDirectory()
        >>> monitors = Monitors(SqliteHistory(pathlib.Path(folder.name) / "history.db"))
        >>> for day in range(30):
        ...     at = dt.datetime(2026, 1, 1) + dt.timedelta(days=day)
        ...     verdict = monitors.judge("flights", {"rows": 800 + 9 * day % 20}, at=at)
        >>> verdict.state, verdict.findings
        ({'rows': 'watching'}, ())
        >>> verdict = monitors.judge("flights", {"rows": 300}, at=at + dt.timedelta(days=1))
        >>> verdict.findings[0].metric, verdict.scores["rows"] > 1
        ('rows', True)
        >>> folder.cleanup()
    """

    def __init__(
        self,
        history: History | None = None,
        monitors: Sequence[Monitor] = (),
        *,
        datasets: Mapping[str, Sequence[Monitor]] | None = None,
    ) -> None:
        found = default_history() if history is None else history
        if found is None:
            raise ConfigurationError(
                "monitors need a history, and OTEL_PIPELINE_QUALITY_HISTORY is off: "
                "leave it out, or set it to the path of a file"
            )
        self.history = found
        self._monitors = tuple(monitors)
        self._datasets = {name: tuple(own) for name, own in (datasets or {}).items()}
        self._learned: dict[tuple[str, str, str], _Learned] = {}
        self._rulings: dict[str, object] = {}

    @classmethod
    def from_yaml(cls, path: str | Path, history: History | None = None) -> Monitors:
        """Return monitors with the settings of a YAML file.

        Args:
            path: The file. `monitors` is a list of settings for every dataset, `datasets` maps
                names to such lists; each has a `metric` and arguments of `Monitor`.
            history: As for `Monitors`.

        Returns:
            The monitors.

        Raises:
            ConfigurationError: The file cannot be used; says where and why.
        """
        common, datasets = read_settings(path)
        return cls(history, common, datasets=datasets)

    def judge(
        self,
        dataset: str,
        measures: Mapping[str, float],
        *,
        at: dt.datetime,
        schema: Mapping[str, str] | None = None,
        categories: Mapping[str, Mapping[str, int]] | None = None,
        segment: Mapping[str, str] | None = None,
    ) -> Verdict:
        """Judge what was measured of a dataset, and add it to the history.

        Args:
            dataset: Name of the dataset.
            measures: Values by metric: `rows`, `freshness` (age in seconds), `null_ratio:COLUMN`,
                `distinct_ratio:COLUMN`, `mean:COLUMN`, `p50:COLUMN` and so on. What is not finite
                is left out.
            at: When they were measured; a naive datetime is in UTC.
            schema: The type of each column, in order.
            categories: For each column, how often each category was seen.
            segment: The part of the dataset that was measured: one or two column values. At most
                50 segments of the same columns are watched.

        Returns:
            Scores, findings and changes. If the history cannot be used, one finding with the
            metric `history` says why.

        Raises:
            ConfigurationError: `segment` has more than two columns.
        """
        moment = at if at.tzinfo else at.replace(tzinfo=dt.UTC)
        case = _Case(dataset, segment_name(segment), moment.timestamp())
        try:
            with self.history.session():
                if segment and not self._are_watched(dataset, [segment], case.at)[0]:
                    return Verdict()
                self._judge(case, measures, categories or {}, schema)
                self.history.record(case.points, case.notes)
        except HistoryError as error:
            self._learned.clear()
            case.findings.append(_no_history(case, error))
        return Verdict(case.scores, tuple(case.findings), case.state, case.changes)

    def judge_segments(
        self,
        dataset: str,
        segments: Sequence[tuple[Mapping[str, str], Mapping[str, float]]],
        *,
        at: dt.datetime,
    ) -> Verdict:
        """Judge what was measured of each segment of a dataset at one time.

        Args:
            dataset: Name of the dataset.
            segments: Each segment, as for `judge`, with its measures.
            at: When they were measured; a naive datetime is in UTC.

        Returns:
            The worst score of each metric over the segments, and what was found in any, the worst
            first. A metric is in the state `learning` until one segment has learned it.

        Raises:
            ConfigurationError: A segment has more than two columns.
        """
        moment = (at if at.tzinfo else at.replace(tzinfo=dt.UTC)).timestamp()
        cases = [_Case(dataset, segment_name(segment), moment) for segment, _ in segments]
        whole = _Case(dataset, "", moment)
        try:
            with self.history.session():
                watched = self._are_watched(dataset, [one for one, _ in segments], moment)
                for case, (_, measures), is_watched in zip(cases, segments, watched, strict=True):
                    if is_watched:
                        self._judge(case, measures, {}, None)
                        whole.take(case)
                self.history.record(whole.points)
        except HistoryError as error:
            self._learned.clear()
            whole.findings.append(_no_history(whole, error))
        findings = sorted(whole.findings, key=lambda finding: -finding.score)
        return Verdict(whole.scores, tuple(findings), whole.state)

    def segments(
        self, dataset: str, columns: Sequence[str], *, at: dt.datetime
    ) -> dict[str, dict[str, str]]:
        """Return the segments that are watched, so that one that is missing can be judged.

        A segment without rows in the last 14 measurements is no longer one of them.

        Args:
            dataset: Name of the dataset.
            columns: The one or two columns whose values make the segments.
            at: The time before which they were seen; a naive datetime is in UTC.

        Returns:
            The values of each segment, by its name; empty if the history cannot be used.
        """
        moment = (at if at.tzinfo else at.replace(tzinfo=dt.UTC)).timestamp()
        try:
            with self.history.session():
                return self._segments(dataset, columns, moment)
        except HistoryError:
            return {}  # `judge` says it

    def _segments(
        self, dataset: str, columns: Sequence[str], at: float
    ) -> dict[str, dict[str, str]]:
        names = dict.fromkeys(segment for _, segment, _ in self.history.series(dataset) if segment)
        found = named(names, columns)
        for name in list(found):
            last = self.history.points(dataset, "rows", segment=name, before=at, limit=_GONE)
            if len(last) == _GONE and not any(point.value for point in last):
                del found[name]
        return found

    def _are_watched(
        self, dataset: str, segments: Sequence[Mapping[str, str]], at: float
    ) -> list[bool]:
        """Tell which segments are watched: those that were, and new ones while there is room."""
        watched: dict[tuple[str, ...], set[str]] = {}
        answers = []
        for segment in segments:
            columns = tuple(sorted(segment))
            if columns not in watched:
                known = self._segments(dataset, columns, at)
                watched[columns] = {name for name, values in known.items() if not is_rest(values)}
            one = watched[columns]
            name = segment_name(segment)
            answers.append(name in one or is_rest(segment) or len(one) < MOST_SEGMENTS)
            if answers[-1] and not is_rest(segment):
                one.add(name)
        return answers

    def _judge(
        self,
        case: _Case,
        measures: Mapping[str, float],
        categories: Mapping[str, Mapping[str, int]],
        schema: Mapping[str, str] | None,
    ) -> None:
        windows = self.history.maintenance(case.dataset)
        case.maintenance = any(one.start <= case.at <= one.stop for one in windows)
        self._forget_what_was_ruled(case.dataset, windows)
        for metric, value in measures.items():
            if math.isfinite(value):
                self._measure(case, metric, float(value), windows)
        for column, counts in categories.items():
            self._categories(case, column, counts)
        if schema is not None:
            self._schema(case, schema)

    # --- One metric -------------------------------------------------------------------------------

    def _measure(
        self, case: _Case, metric: str, value: float, windows: Sequence[Maintenance]
    ) -> None:
        monitor = settings_for(metric, self._monitors, self._datasets.get(case.dataset, ()))
        if not monitor.enabled:
            case.state[metric] = "off"
            return
        key = (case.dataset, case.segment, metric)
        if case.segment and key not in self._learned and _is_least(value, monitor):
            # Most ratios of nulls are 0 always: to learn them would take most of the time.
            case.state[metric] = "maintenance" if case.maintenance else "watching"
            case.add(metric, value, Judgement(0.0, 0.0, None, None, ""), "")
            return
        learned = self._learn(case, metric, monitor, windows)
        judged = learned.detector.judge(case.at, value)
        judgement = _with_limits(judged, monitor, value)
        if case.maintenance:
            judgement = Judgement(0.0, 0.0, judgement.low, judgement.high, "")
            case.state[metric] = "maintenance"
        else:
            case.state[metric] = "learning" if learned.detector.learning else "watching"
            learned.detector.learn(case.at, value, judged)
        self._learned[key] = learned._replace(
            last=(case.at, value),
            points=learned.points + (not case.maintenance),
            since=learned.since if learned.points else case.at,
        )
        history = _history_in_words(learned)
        case.add(metric, value, judgement, history)

    def _learn(
        self, case: _Case, metric: str, monitor: Monitor, windows: Sequence[Maintenance]
    ) -> _Learned:
        """Return a detector that has learned the history of a metric."""
        known = self._learned.get((case.dataset, case.segment, metric))
        most = _REMEMBERED_OF_SEGMENT if case.segment else _REMEMBERED
        limit = most if known is None else 1
        points = self.history.points(
            case.dataset, metric, segment=case.segment, before=case.at, limit=limit
        )
        newest = (points[-1].at, points[-1].value) if points else None
        if known is not None:
            if known.last == newest:
                return known
            points = self.history.points(
                case.dataset, metric, segment=case.segment, before=case.at, limit=most
            )
        detector = Detector(
            sensitivity=monitor.sensitivity,
            direction=monitor.direction or "both",
            min_change=monitor.min_change,
            cooldown=monitor.cooldown.total_seconds() if monitor.cooldown else None,
        )
        count = _teach(detector, points, windows)
        return _Learned(detector, newest, count, points[0].at if points else case.at)

    def _forget_what_was_ruled(self, dataset: str, windows: Sequence[Maintenance]) -> None:
        """Learn anew if a person has said something since."""
        ruled = [(one.id, one.ruling) for one in self.history.findings(dataset) if one.ruling]
        state = (ruled, list(windows))
        if self._rulings.setdefault(dataset, state) != state:
            self._rulings[dataset] = state
            self._learned = {
                key: learned for key, learned in self._learned.items() if key[0] != dataset
            }

    # --- What a dataset is made of ----------------------------------------------------------------

    def _schema(self, case: _Case, schema: Mapping[str, str]) -> None:
        monitor = settings_for("schema", self._monitors, self._datasets.get(case.dataset, ()))
        if not monitor.enabled:
            case.state["schema"] = "off"
            return
        notes = self.history.notes(
            case.dataset, "schema", segment=case.segment, before=case.at, limit=1
        )
        before: dict[str, str] | None = json.loads(notes[-1].document) if notes else None
        if before is None or list(before.items()) != list(schema.items()):
            case.note("schema", dict(schema))
        case.state["schema"] = "watching" if notes else "learning"
        case.scores["schema"] = 0.0
        if before is None or case.maintenance:
            return
        case.changes = schema_changes(before, schema)
        if case.changes:
            score = 1.0 + len(case.changes)
            since = _day(notes[-1].at)
            details = "; ".join(change.detail for change in case.changes)
            case.found(
                "schema",
                float(len(case.changes)),
                Judgement(score, score, 0.0, 0.0, "schema"),
                f"the schema as it was since {since}",
                f"the schema of {case.name} changed: {details}; it had been the same since {since}",
            )

    def _categories(self, case: _Case, column: str, counts: Mapping[str, int]) -> None:
        metric, name = f"category_drift:{column}", f"categories:{column}"
        monitor = settings_for(metric, self._monitors, self._datasets.get(case.dataset, ()))
        if not monitor.enabled:
            case.state[metric] = "off"
            return
        place = {"segment": case.segment, "before": case.at}
        notes = self.history.notes(case.dataset, name, limit=_CATEGORY_NOTES, **place)  # type: ignore[arg-type]
        before: dict[str, float] = {}
        for note in notes:
            document: dict[str, int] = json.loads(note.document)
            total = sum(document.values()) or 1
            for category, count in document.items():
                before[category] = before.get(category, 0.0) + count / total
        index = population_stability(before, counts)
        earlier = self.history.points(case.dataset, metric, limit=60, **place)  # type: ignore[arg-type]
        normal = sorted(point.value for point in earlier if point.score <= 1)
        limit = max(_STABLE, _STABLE_FACTOR * normal[-1]) if normal else _STABLE
        limit = (monitor.high if monitor.high is not None else limit) / monitor.sensitivity
        learning = len(notes) < _CATEGORY_LEARNING
        severity = 0.0 if learning or case.maintenance else index / limit
        case.state[metric] = "learning" if learning else "watching"
        judgement = Judgement(severity, severity, 0.0, limit, "categories")
        if severity <= 1 and not case.maintenance:
            case.note(name, dict(counts))
        case.add(metric, index, judgement, f"the shares of {len(notes)} runs before")


class _Case:
    """One call of `judge`: what it was asked, and what came out so far."""

    def __init__(self, dataset: str, segment: str, at: float) -> None:
        self.dataset = dataset
        self.segment = segment
        self.at = at
        self.name = f"{dataset} ({segment})" if segment else dataset
        self.maintenance = False
        self.scores: dict[str, float] = {}
        self.state: dict[str, State] = {}
        self.findings: list[Finding] = []
        self.changes: Sequence[SchemaChange] = ()
        self.points: list[Point] = []
        self.notes: list[Note] = []

    def take(self, segment: _Case) -> None:
        """Take in what came out for a segment: the worst of them stands for all."""
        for metric, score in segment.scores.items():
            self.scores[metric] = max(score, self.scores.get(metric, 0.0))
        for metric, state in segment.state.items():
            if self.state.get(metric, "learning") == "learning":
                self.state[metric] = state
        self.findings += segment.findings
        self.points += segment.points

    def note(self, name: str, document: object) -> None:
        self.notes.append(
            Note(self.dataset, name, self.at, json.dumps(document), segment=self.segment)
        )

    def add(self, metric: str, value: float, judgement: Judgement, history: str) -> None:
        """Take in a judged value: as a finding too, where it is one."""
        self.scores[metric] = judgement.severity
        if judgement.score > 1:
            words = explain(self.name, metric, value, judgement, history)
            self.found(metric, value, judgement, history, words)
        else:
            self._point(metric, value, judgement, "")

    def found(
        self, metric: str, value: float, judgement: Judgement, history: str, words: str
    ) -> None:
        self.scores[metric] = judgement.severity
        low = -math.inf if judgement.low is None else judgement.low
        high = math.inf if judgement.high is None else judgement.high
        at = dt.datetime.fromtimestamp(self.at, dt.UTC)
        self.findings.append(
            Finding(
                self.dataset, metric, value, (low, high), judgement.severity, words, history, at,
                self.segment,
            )
        )  # fmt: skip
        self._point(metric, value, judgement, words)

    def _point(self, metric: str, value: float, judgement: Judgement, words: str) -> None:
        self.points.append(
            Point(
                self.dataset, metric, self.at, value, self.segment, judgement.low, judgement.high,
                judgement.severity, words,
            )
        )  # fmt: skip


def _teach(detector: Detector, points: Sequence[Point], windows: Sequence[Maintenance]) -> int:
    """Let a detector learn what was recorded, and return how many points it took."""
    count = 0
    for point in points:
        maintained = any(window.start <= point.at <= window.stop for window in windows)
        if maintained or point.ruling == "confirmed":
            continue
        count += 1
        if point.ruling == "accepted":
            detector.accept(point.at, point.value)
        else:
            detector.score(point.at, point.value)
    return count


def _is_least(value: float, monitor: Monitor) -> bool:
    """Tell whether a value is a zero that no history and no limit makes an anomaly."""
    low, high = monitor.low or 0.0, monitor.high or 0.0
    return value == 0 and monitor.direction == "up" and low <= 0 <= high


def _with_limits(judgement: Judgement, monitor: Monitor, value: float) -> Judgement:
    """Return a judgement that holds the declared limits too."""
    low, high = judgement.low, judgement.high
    beyond = False
    if monitor.low is not None:
        low = monitor.low if low is None else max(low, monitor.low)
        beyond = value < monitor.low
    if monitor.high is not None:
        high = monitor.high if high is None else min(high, monitor.high)
        beyond = beyond or value > monitor.high
    if beyond:
        severity = max(judgement.severity, _BEYOND_LIMIT)
        return Judgement(severity, severity, low, high, "limit")
    return judgement._replace(low=low, high=high)


def _history_in_words(learned: _Learned) -> str:
    if not learned.points:
        return "no values before"
    return f"{learned.points} values since {_day(learned.since)}"


def _day(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).date().isoformat()


def _no_history(case: _Case, error: HistoryError) -> Finding:
    at = dt.datetime.fromtimestamp(case.at, dt.UTC)
    words = f"{case.name} was not judged in full: {error}"
    return Finding(case.dataset, "history", 0.0, (0.0, 0.0), 0.0, words, "", at, case.segment)
