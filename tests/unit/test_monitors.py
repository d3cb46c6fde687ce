"""Monitors judge a dataset by its history, explain what they find, and learn what people say."""

from __future__ import annotations

import datetime as dt
import random
import re
import sqlite3

import pytest

from otel_pipeline.errors import ConfigurationError
from otel_pipeline.quality import Monitor, Monitors, SqliteHistory, Verdict
from otel_pipeline.quality.history import Maintenance

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def history(tmp_path) -> SqliteHistory:
    return SqliteHistory(tmp_path / "history.db")


def day(number: int) -> dt.datetime:
    return START + dt.timedelta(days=number)


def usual(number: int) -> dict[str, float]:
    chance = random.Random(number)
    return {
        "rows": float(chance.randint(950, 1050)),
        "null_ratio:amount": chance.randint(0, 5) / 1000,
        "freshness": float(chance.randint(3000, 4000)),
    }


def teach(monitors: Monitors, days: range, **options) -> list[Verdict]:
    return [monitors.judge("orders", usual(n), at=day(n), **options) for n in days]


def found(verdicts: list[Verdict]) -> list[str]:
    return [finding.metric for verdict in verdicts for finding in verdict.findings]


def test_usual_days_are_learned_in_silence(history) -> None:
    """For twenty days the monitors learn, then they watch; nothing is found."""
    verdicts = teach(Monitors(history), range(40))
    assert found(verdicts) == []
    states = [set(verdict.state.values()) for verdict in verdicts]
    assert states == [{"learning"}] * 20 + [{"watching"}] * 20


@pytest.mark.parametrize(
    ("metric", "value", "words"),
    [
        (
            "rows",
            400,
            r"the number of rows of orders is 400, below what was expected now: 8\d\d to ",
        ),
        ("rows", 2000, r"the number of rows of orders is 2,000, above what was expected now: "),
        ("null_ratio:amount", 0.3, r"the share of nulls in amount of orders is 30 %, above what"),
        ("freshness", 90000, r"the age of the newest data of orders is 25 h, above what"),
    ],
)
def test_a_finding_explains_itself(history, metric, value, words) -> None:
    """A finding says the value, what was expected, and from which history."""
    monitors = Monitors(history)
    teach(monitors, range(40))
    verdict = monitors.judge("orders", usual(40) | {metric: value}, at=day(40))
    (finding,) = verdict.findings
    assert (finding.dataset, finding.metric, finding.value) == ("orders", metric, value)
    assert finding.at == day(40)
    assert finding.history == "40 values since 2026-01-01"
    assert re.match(words, finding.explanation)
    assert finding.explanation.endswith(f", by {finding.history}")
    assert finding.score == verdict.scores[metric] > 1
    low, high = finding.expected
    assert value > high or value < low


@pytest.mark.parametrize("metric", ["null_ratio:amount", "freshness"])
def test_less_is_better_for_nulls_and_ages(history, metric) -> None:
    """No nulls at all, and data of this second, are no findings."""
    monitors = Monitors(history)
    for number in range(40):
        monitors.judge("orders", {metric: 0.5 + number % 7 / 999}, at=day(number))
    verdict = monitors.judge("orders", {metric: 0.0}, at=day(40))
    assert verdict.findings == ()
    assert verdict.scores == {metric: 0.0}


def test_a_later_process_goes_on_where_another_stopped(history) -> None:
    """Monitors made anew for each run judge as those that live on."""
    living = Monitors(SqliteHistory(history.path.with_name("living.db")))
    for number in range(45):
        measures = usual(number) | ({"rows": 300.0} if number in {30, 31, 42} else {})
        anew = Monitors(history).judge("orders", measures, at=day(number))
        assert anew == living.judge("orders", measures, at=day(number))


def test_a_ruling_is_learned(history) -> None:
    """An accepted change is the new level at once; a confirmed anomaly stays one."""
    monitors = Monitors(history)
    teach(monitors, range(40))
    higher = {"rows": 2000.0}
    (first,) = monitors.judge("orders", higher, at=day(40)).findings
    assert first.metric == "rows"
    (point,) = history.findings()
    history.rule([point.id], "accepted")
    after = monitors.judge("orders", {"rows": 2010.0}, at=day(41))
    assert after.scores["rows"] < 1
    back = monitors.judge("orders", {"rows": 1000.0}, at=day(42))
    assert [finding.metric for finding in back.findings] == ["rows"]
    history.rule([point.id], "confirmed")
    again = monitors.judge("orders", {"rows": 2000.0}, at=day(43))
    assert again.scores["rows"] > 1


def test_maintenance_is_neither_judged_nor_learned(history) -> None:
    """In a maintenance window nothing is found, and what was seen in it is no history."""
    monitors = Monitors(history)
    teach(monitors, range(40))
    history.plan(Maintenance("orders", day(40).timestamp(), day(49).timestamp(), "migration"))
    for number in range(40, 50):
        verdict = monitors.judge("orders", {"rows": 0.0}, at=day(number))
        assert (verdict.findings, verdict.state) == ((), {"rows": "maintenance"})
    verdict = monitors.judge("orders", {"rows": 0.0}, at=day(50))
    assert found([verdict]) == ["rows"]
    assert verdict.findings[0].history == "40 values since 2026-01-01"


def test_a_change_of_the_schema_is_found_once(history) -> None:
    """Each change is named with its kind; the new schema is the one to hold on to."""
    monitors = Monitors(history)
    before = {"id": "int64", "name": "string", "paid": "bool", "at": "datetime"}
    now = {"paid": "bool", "id": "string", "at": "datetime", "city": "string"}
    assert monitors.judge("orders", {}, at=day(0), schema=before).state == {"schema": "learning"}
    assert monitors.judge("orders", {}, at=day(1), schema=before).changes == ()
    verdict = monitors.judge("orders", {}, at=day(2), schema=now)
    assert [tuple(change) for change in verdict.changes] == [
        ("column_removed", "name", "name (string) is gone"),
        ("column_added", "city", "city (string) is new"),
        ("type_changed", "id", "id was int64 and is string"),
        ("reordered", "", "columns are in another order"),
    ]
    (finding,) = verdict.findings
    assert finding.explanation == (
        "the schema of orders changed: name (string) is gone; city (string) is new; id was int64 "
        "and is string; columns are in another order; it had been the same since 2026-01-01"
    )
    assert verdict.scores == {"schema": 5.0}
    assert monitors.judge("orders", {}, at=day(3), schema=now).findings == ()


def test_a_shift_between_categories_is_found(history) -> None:
    """Shares that wander a little are usual; a category that takes over is a finding."""
    monitors = Monitors(history)
    for number in range(20):
        chance = random.Random(number)
        counts = {"AA": chance.randint(90, 110), "UA": chance.randint(90, 110), "DL": 50}
        verdict = monitors.judge("orders", {}, at=day(number), categories={"carrier": counts})
        assert verdict.findings == ()
    counts = {"AA": 20, "UA": 190, "DL": 50}
    verdict = monitors.judge("orders", {}, at=day(20), categories={"carrier": counts})
    (finding,) = verdict.findings
    assert finding.metric == "category_drift:carrier"
    assert "the shift of categories in carrier of orders is " in finding.explanation


def test_a_segment_has_its_own_history(history) -> None:
    """What is usual for one carrier is found for another."""
    monitors = Monitors(history)
    for number in range(40):
        for carrier, level in (("AA", 100.0), ("UA", 1000.0)):
            measures = {"rows": level + random.Random(number).randint(-5, 5)}
            segment = {"carrier": carrier}
            verdict = monitors.judge("orders", measures, at=day(number), segment=segment)
            assert verdict.findings == ()
    verdict = monitors.judge("orders", {"rows": 100.0}, at=day(40), segment={"carrier": "UA"})
    (finding,) = verdict.findings
    assert finding.segment == "carrier=UA"
    assert "rows of orders (carrier=UA) is 100, below" in finding.explanation


def test_the_worst_segment_stands_for_the_metric(history) -> None:
    """Segments of one time are judged together: one score a metric, findings the worst first."""
    monitors = Monitors(history)

    def judge(number: int, *levels: float) -> Verdict:
        segments = [
            ({"carrier": carrier}, {"rows": level + number % 5, "null_ratio:id": 0.0})
            for carrier, level in zip(("AA", "DL", "UA"), levels, strict=True)
        ]
        return monitors.judge_segments("orders", segments, at=day(number))

    for number in range(40):
        assert judge(number, 100, 500, 1000).findings == ()
    verdict = judge(40, 100, 400, 100)
    assert [finding.segment for finding in verdict.findings] == ["carrier=UA", "carrier=DL"]
    assert verdict.scores == {"rows": verdict.findings[0].score, "null_ratio:id": 0}
    assert verdict.state == {"rows": "watching", "null_ratio:id": "watching"}
    assert sorted(monitors.segments("orders", ["carrier"], at=day(41))) == [
        "carrier=AA",
        "carrier=DL",
        "carrier=UA",
    ]
    assert monitors.segments("orders", ["shop"], at=day(41)) == {}


def test_a_segment_learns_from_another_process(history) -> None:
    """A ratio of nulls that was 0 so far is judged by all of that once it is not."""
    for number in range(41):
        ratio = 0.0 if number < 40 else 0.4
        segments = [({"carrier": "AA"}, {"null_ratio:id": ratio})]
        verdict = Monitors(history).judge_segments("orders", segments, at=day(number))
    (finding,) = verdict.findings
    assert (finding.metric, finding.segment) == ("null_ratio:id", "carrier=AA")
    assert "by 40 values since 2026-01-01" in finding.explanation


def test_segments_are_bounded(history) -> None:
    """Of more than fifty segments the first fifty are watched; three columns are an error."""
    monitors = Monitors(history)
    states = [
        monitors.judge("orders", {"rows": 1.0}, at=day(0), segment={"shop": str(n)}).state
        for n in range(55)
    ]
    assert states == [{"rows": "learning"}] * 50 + [{}] * 5
    with pytest.raises(ConfigurationError, match="one or two columns, and this one has 3: a, b, c"):
        monitors.judge("orders", {}, at=day(0), segment={"a": "1", "b": "2", "c": "3"})


def test_declared_limits_hold_while_it_learns(history) -> None:
    """A limit needs no history; the dataset's own setting goes before the one for all."""
    monitors = Monitors(
        history,
        [Monitor("rows", low=1), Monitor("null_ratio:*", enabled=False)],
        datasets={"orders": [Monitor("rows", low=100, high=1000)]},
    )
    verdict = monitors.judge("orders", {"rows": 50, "null_ratio:id": 1.0}, at=day(0))
    assert verdict.state == {"rows": "learning", "null_ratio:id": "off"}
    (finding,) = verdict.findings
    assert finding.expected == (100, 1000)
    assert finding.explanation == (
        "the number of rows of orders is 50, and its declared limits are 100 to 1,000"
    )
    assert monitors.judge("planes", {"rows": 50}, at=day(0)).findings == ()


def test_the_cooldown_is_a_setting(history) -> None:
    """Without a cool-down each day of a fault is a finding."""
    monitors = Monitors(history, [Monitor("rows", cooldown=dt.timedelta(seconds=1))])
    teach(monitors, range(40))
    verdicts = [monitors.judge("orders", {"rows": 500}, at=day(n)) for n in (40, 41)]
    assert found(verdicts) == ["rows", "rows"]


def test_values_that_are_not_finite_are_left_out(history) -> None:
    """NaN and infinity are no measures."""
    measures = {"rows": float("nan"), "mean:amount": float("inf")}
    assert Monitors(history).judge("orders", measures, at=day(0)) == Verdict({}, (), {}, ())


@pytest.mark.parametrize("trouble", ["locked", "damaged", "newer"])
def test_a_history_in_trouble_is_a_finding(history, trouble, monkeypatch) -> None:
    """A history that cannot be used is said in a finding; nothing is raised, nothing is scored."""
    monkeypatch.setattr("otel_pipeline.quality.history._PATIENCE", 0.01)
    teach(Monitors(history), range(3))
    lock = sqlite3.connect(history.path, isolation_level=None)
    try:
        if trouble == "newer":
            lock.execute("PRAGMA user_version = 99")
        elif trouble == "locked":
            lock.execute("BEGIN EXCLUSIVE")
        else:
            lock.close()
            history.path.write_bytes(history.path.read_bytes()[:3000] + b"\xff" * 9000)
        verdict = Monitors(history).judge("orders", usual(3), at=day(3))
    finally:
        lock.close()
    (finding,) = verdict.findings
    assert (finding.metric, finding.score) == ("history", 0.0)
    assert str(history.path) in finding.explanation


def test_settings_come_from_yaml(history, tmp_path) -> None:
    """A file declares settings for all datasets and for single ones."""
    file = tmp_path / "monitors.yaml"
    file.write_text(
        """
        monitors:
          - metric: rows
            cooldown: 12h
        datasets:
          orders:
            - metric: rows
              low: 10
        """
    )
    monitors = Monitors.from_yaml(file, history)
    assert monitors.judge("orders", {"rows": 9}, at=day(0)).findings
    assert not monitors.judge("planes", {"rows": 9}, at=day(0)).findings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("monitors: rows", "monitors is no list of monitors: write `- metric: rows`"),
        ("monitor: []", "there is no setting 'monitor'; did you mean monitors?"),
        ("monitors: [{metrics: rows}]", r"monitors\[0\]: there is no setting 'metrics'; did you"),
        ("monitors: [{low: 1}]", r"monitors\[0\] has no metric, such as `metric: rows`"),
        ("datasets: {a: [{metric: rows, low: x}]}", r"datasets.a\[0\]: low='x' is no number"),
        ("monitors: [{metric: rows, enabled: 1}]", "enabled=1 is not true or false"),
        ("monitors: [{metric: rows, cooldown: soon}]", "cooldown='soon' .* such as 12h or 1d"),
        ("monitors: [{metric: rows, sensitivity: 0}]", "sensitivity=0 is not above 0"),
        ("monitors: [{metric: rows, direction: left}]", "'left' is not one of both, up, down"),
        ("monitors: [{metric: rows, min_change: -1}]", "min_change=-1 is below 0"),
        ("monitors: [{metric: rows, low: 2, high: 1}]", "low=2 is above high=1: no value would do"),
        ("[", "is no YAML"),
        ("- 1", "is no mapping of names to values"),
    ],
)
def test_wrong_settings_say_where_and_why(text, message, history, tmp_path) -> None:
    """A setting that cannot be used is an error with its file, place and remedy."""
    file = tmp_path / "monitors.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        Monitors.from_yaml(file, history)
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_there_is_named(history, tmp_path) -> None:
    """A missing file is a configuration error."""
    with pytest.raises(ConfigurationError, match=r"none\.yaml: No such file"):
        Monitors.from_yaml(tmp_path / "none.yaml", history)


def test_monitors_need_a_history(monkeypatch) -> None:
    """Where the history is off there are no monitors, and the message says what to do."""
    monkeypatch.setenv("OTEL_PIPELINE_QUALITY_HISTORY", "off")
    with pytest.raises(ConfigurationError, match="monitors need a history"):
        Monitors()
