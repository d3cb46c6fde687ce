"""The backtest says of a history what the real Prometheus says of the same alerts."""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from otel_pipeline.cli import alerts_backtest
from otel_pipeline.errors import CommandError
from tests.stack import programs
from tests.stack.programs import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("backtest")

START = 1_700_000_040  # a whole minute
MINUTES = 240
PIPELINES = ("orders", "refunds", "stocks")

RULES = """
groups:
- name: recorded
  interval: 1m
  rules:
  - record: job:depth:max
    expr: max by (pipeline) (depth)
  - record: job:depth:over
    expr: job:depth:max > 5
    labels: {kind: deep}
- name: alerts
  interval: 1m
  rules:
  - {alert: AtOnce, expr: depth > 5}
  - {alert: Held, expr: depth > 3, for: 5m}
  - {alert: HeldOddly, expr: depth > 3, for: 150s}
  - {alert: Kept, expr: depth > 6, keep_firing_for: 10m}
  - {alert: HeldAndKept, expr: depth > 4, for: 3m, keep_firing_for: 7m, labels: {severity: page}}
  - {alert: Gone, expr: 'absent(depth{pipeline="orders"})', for: 2m}
  - {alert: Summed, expr: sum(depth) > 12, for: 1m}
  - {alert: OfRecorded, expr: "job:depth:max > 4", for: 2m}
  - {alert: OfChosen, expr: 'job:depth:max{pipeline=~"o.*",pipeline!="x"} > 4'}
  - {alert: OfNested, expr: 'job:depth:over{kind="deep"}', for: 1m}
  - {alert: OfWindow, expr: "max_over_time(job:depth:max[10m]) > 7"}
  - {alert: OfOffset, expr: "job:depth:max offset 5m > 6"}
  - {alert: Rate, expr: "rate(rows_total[5m]) < 0.5", for: 3m}
  - {alert: Never, expr: depth > 1000}
  - {alert: Twice, expr: depth > 5 and depth > 5 and depth < 9}
"""


def values(seed: int) -> list[int | None]:
    """Return a value a minute, with stretches without any."""
    chance = random.Random(seed)
    found: list[int | None] = []
    while len(found) < MINUTES:
        length = chance.randint(1, 12)
        value = None if chance.random() < 0.15 else chance.randint(0, 9)
        found += [value] * length
    return found[:MINUTES]


HISTORY = {name: values(number) for number, name in enumerate(PIPELINES)}
GROWTH = [minute * 60 if minute < 100 else 6000 for minute in range(MINUTES)]


def openmetrics() -> str:
    lines = ["# TYPE depth gauge"]
    for name, series in HISTORY.items():
        lines += [
            f'depth{{pipeline="{name}"}} {value} {START + 60 * minute}'
            for minute, value in enumerate(series)
            if value is not None
        ]
    lines += ["# TYPE rows counter"]
    lines += [f"rows_total {value} {START + 60 * minute}" for minute, value in enumerate(GROWTH)]
    return "\n".join([*lines, "# EOF", ""])


@dataclass(frozen=True)
class Past:
    """A Prometheus with a history, and the file with the rules."""

    server: programs.Server
    rules: Path
    promtool: Path


@pytest.fixture(scope="module")
def past(
    need: Callable[..., list[Path]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Past]:
    """Run a Prometheus with four hours of history, long ago."""
    _, promtool = need("prometheus", "promtool")
    folder = tmp_path_factory.mktemp("backtest")
    (folder / "history").write_text(openmetrics())
    (folder / "rules.yml").write_text(RULES)
    check(promtool, "tsdb", "create-blocks-from", "openmetrics", "history", "data", cwd=folder)
    with programs.prometheus(data=folder / "data") as server:
        yield Past(server, folder / "rules.yml", promtool)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    parser = argparse.ArgumentParser()
    alerts_backtest.add_arguments(parser)
    assert alerts_backtest.run(parser.parse_args([str(one) for one in arguments])) == 0
    return capsys.readouterr().out


def replay(past: Past, capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """Return what the command says of each alert over the whole history."""
    whole = ("--start", START, "--end", START + 60 * (MINUTES - 1))
    text = run(
        capsys, "--url", past.server.url, "--rules", past.rules, "--json", *whole, *arguments
    )
    return {one["alert"]: one for one in json.loads(text)["alerts"]}


def firing(alert: dict[str, Any], minute: int) -> list[dict[str, str]]:
    now = START + 60 * minute
    return [
        series["labels"]
        for series in alert["series"]
        for period in series["periods"]
        if period["start"] <= now < period["end"] or (period["ongoing"] and now == period["end"])
    ]


def notation(series: list[int | None]) -> str:
    return " ".join("_" if value is None else str(value) for value in series)


def test_every_minute_is_as_promtool_has_it(
    past: Past, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """At each minute the alerts fire that Prometheus' own evaluation of the same samples fires."""
    found = replay(past, capsys)
    labels = {
        rule["alert"]: rule.get("labels", {})
        for group in yaml.safe_load(RULES)["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert list(found) == list(labels)
    assert all(one["firings"] for name, one in found.items() if name != "Never")
    inputs = [
        {"series": f'depth{{pipeline="{name}"}}', "values": notation(series)}
        for name, series in HISTORY.items()
    ]
    inputs.append({"series": "rows_total", "values": notation(list(GROWTH))})
    tests = [
        {
            "eval_time": f"{minute}m",
            "alertname": name,
            "exp_alerts": [
                {"exp_labels": {**one, **labels[name]}} for one in firing(alert, minute)
            ],
        }
        for name, alert in found.items()
        for minute in range(MINUTES)
    ]
    unit = {
        "rule_files": [str(past.rules)],
        "evaluation_interval": "1m",
        "group_eval_order": ["recorded", "alerts"],
        "tests": [{"interval": "1m", "input_series": inputs, "alert_rule_test": tests}],
    }
    (tmp_path / "test.yml").write_text(json.dumps(unit))
    assert "SUCCESS" in check(past.promtool, "test", "rules", tmp_path / "test.yml")


def test_a_part_of_the_history_is_as_the_whole(
    past: Past, capsys: pytest.CaptureFixture[str]
) -> None:
    """An alert that was on its way before the first evaluation is as far as it was."""
    whole = replay(past, capsys)
    middle = 101
    part = replay(past, capsys, "--start", START + 60 * middle)
    for name, alert in part.items():
        for minute in range(middle, MINUTES):
            assert firing(alert, minute) == firing(whole[name], minute), (name, minute)


def test_many_points_are_asked_for_in_parts(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    """A step of a second over four hours is more than Prometheus answers at once."""
    coarse = replay(past, capsys, "--alert=AtOnce", "--step=1m")["AtOnce"]
    fine = replay(past, capsys, "--alert=AtOnce", "--step=1s")["AtOnce"]
    assert fine["step"] == 1
    assert fine["firings"] == coarse["firings"]
    assert fine["seconds"] == pytest.approx(coarse["seconds"], rel=0.02)


def test_a_threshold_is_tried_over_values(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    """Each value has the figures that the alert has with it; the present one is marked."""
    found = replay(past, capsys, "--threshold=AtOnce=7,100", "--alert=AtOnce", "--alert=Kept")
    tried = {one["value"]: one for one in found["AtOnce"]["thresholds"]}
    assert sorted(tried) == [5, 7, 100]
    keys = ("firings", "seconds", "longest_seconds")
    assert [tried[5][key] for key in keys] == [found["AtOnce"][key] for key in keys]
    assert tried[7]["seconds"] == sum(
        60 * sum(value is not None and value > 7 for value in _seen(series))
        for series in HISTORY.values()
    ) - 60 * sum((series[-1] or 0) > 7 for series in HISTORY.values())
    assert [tried[100][key] for key in keys] == [0, 0, 0]
    assert found["Kept"]["thresholds"] == []


def test_a_number_that_stands_twice_is_replaced_twice(
    past: Past, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first number and its equals go together, unless one is named."""
    alert = "--alert=Twice"
    [one] = [replay(past, capsys, alert, "--threshold=Twice=7")["Twice"]]
    assert [(t["numbers"], t["value"]) for t in one["thresholds"]] == [([1, 2], 5), ([1, 2], 7)]
    at_5, at_7 = (trial["seconds"] for trial in one["thresholds"])
    assert one["seconds"] == at_5 > at_7
    [first] = [replay(past, capsys, alert, "--threshold=Twice#1=3")["Twice"]]
    assert [(t["numbers"], t["value"]) for t in first["thresholds"]] == [([1], 3), ([1], 5)]
    assert {trial["seconds"] for trial in first["thresholds"]} == {at_5}
    [last] = [replay(past, capsys, alert, "--threshold=Twice#3=6")["Twice"]]
    assert [trial["seconds"] for trial in last["thresholds"]] == [0, at_5]


def _seen(series: list[int | None]) -> list[int | None]:
    """Return the values as a query sees them: the last one of less than five minutes ago."""
    found: list[int | None] = []
    for minute in range(len(series)):
        recent = [value for value in series[max(0, minute - 4) : minute + 1] if value is not None]
        found.append(recent[-1] if recent else None)
    return found


def test_the_table_is_for_people(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    """It has a line for each alert, its worst label sets, and the values that were tried."""
    text = run(
        capsys,
        *("--url", past.server.url + "/", "--rules", past.rules, "--top=1"),
        *("--start", START, "--end", "2023-11-15T02:00:00Z"),
        *("--alert=AtOnce", "--alert=Never", "--threshold=AtOnce=8"),
    )
    lines = text.splitlines()
    assert lines[0] == (
        f"{past.server.url} from 2023-11-14 22:14 UTC to 2023-11-15 02:00 UTC, every 1m"
    )
    words = [line.split() for line in lines]
    assert words[2] == ["ALERT", "FIRINGS", "TOTAL", "LONGEST"]
    assert words[3][0] == "AtOnce"
    assert words[4][0].startswith("{pipeline=")
    assert words[5] == "… 2 more label sets".split()
    assert words[6] == ["Never", "0", "0s", "0s"]
    assert lines[8] == "AtOnce (now marked *)"
    assert [line[0] for line in words[9:]] == ["THRESHOLD", "5", "8"]
    assert words[10][1] == "*"


def test_a_time_without_data_is_an_error(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing in the history is no alert that never fires."""
    with pytest.raises(CommandError, match=r"no data: .* has none of depth from 2001-09-09"):
        run(
            capsys,
            *("--url", past.server.url, "--rules", past.rules, "--alert=AtOnce"),
            *("--start", 1_000_000_000, "--end", 1_000_003_600),
        )


def test_what_prometheus_refuses_is_told(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own words are in the error."""
    rules = past.rules.with_name("refused.yml")
    rules.write_text(RULES.replace("depth > 1000", "depth + ignoring (pipeline) depth > 1"))
    with pytest.raises(CommandError, match=r"answers 422: .*many-to-many"):
        run(
            capsys,
            *("--url", past.server.url, "--rules", rules, "--alert=Never"),
            *("--start", START, "--end", START + 3600),
        )
