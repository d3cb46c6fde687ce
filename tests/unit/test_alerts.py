"""Settings of alerts, and what is made of them without running anything."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from otel_pipeline import semconv
from otel_pipeline.alerts import recorded, telemetry
from otel_pipeline.alerts.expressions import duration
from otel_pipeline.alerts.files import files
from otel_pipeline.alerts.promql import parse
from otel_pipeline.alerts.promql.nodes import Selector, children
from otel_pipeline.alerts.reading import read_settings
from otel_pipeline.alerts.settings import DEFAULTS, Settings, Slo, literal, quoted
from otel_pipeline.cli import main
from otel_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.alerts.promql.nodes import Node

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

SLOS = """
pipelines:
  orders:
    expected: true
    slos:
      records: {objective: 99.9}
      latency: {objective: 99, seconds: 5}
      freshness: {objective: 99.5}
"""


def read(folder: Path, text: str) -> Settings:
    path = folder / "alerts.yaml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path)


def names(node: Node) -> Iterator[str]:
    """Yield the names of all series that an expression asks for."""
    if isinstance(node, Selector):
        yield node.name or next(
            matcher.value for matcher in node.matchers if matcher.label == "__name__"
        )
    for child in children(node):
        yield from names(child)


def known_names() -> set[str]:
    """Return the names that rules may ask for."""
    found = {one.name for one in recorded.ALL_RECORDED} | set(telemetry.FOREIGN_METRICS)
    for metric in semconv.ALL_METRICS:
        found.add(metric.name)
        if metric.kind == "histogram":
            found |= {metric.name + end for end in ("_bucket", "_count", "_sum")}
    return found


def unknown_names(texts: dict[str, str]) -> set[str]:
    """Return the names that rules ask for and nobody declares."""
    asked = {
        name
        for path, text in texts.items()
        if path.startswith("rules/")
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
        for name in names(parse(rule["expr"]))
    }
    return {name for name in asked - known_names() if not name.startswith("otelcol_exporter_")}


def test_every_metric_of_a_rule_is_in_the_vocabulary(tmp_path: Path) -> None:
    """Rules ask for what the library has, what is recorded, or a few metrics of others."""
    texts = dict(files(read(tmp_path, SLOS)))
    assert unknown_names(texts) == set()
    # It would be noticed.
    texts["rules/pipelines.yml"] = texts["rules/pipelines.yml"].replace(
        "records_processed_total", "records_handled_total"
    )
    assert unknown_names(texts) == {"records_handled_total"}


def test_what_is_recorded_has_a_rule(tmp_path: Path) -> None:
    """Every declared series is written by a rule once objectives are there, and no other is."""
    texts = files(read(tmp_path, SLOS))
    written = {
        rule["record"]
        for path, text in texts.items()
        if path.startswith("rules/")
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    assert written == {one.name for one in recorded.ALL_RECORDED}


def test_a_recorded_series_comes_after_what_it_uses() -> None:
    """So each sees what was recorded in the same moment, but for its own value of before."""
    seen: set[str] = set()
    for one in recorded.ALL_RECORDED:
        if one.template:
            later = set(names(parse(one.expression))) - seen - {one.name}
            assert not [name for name in later if ":" in name], one.name
        seen.add(one.name)


MISTAKES = {
    "alerts: {HighErorRate: {for: 1m}}": "1: alerts.HighErorRate is unknown.*'HighErrorRate'?",
    "alerts:\n  HighLatency: {treshold: 1}": "2: alerts.HighLatency.treshold.*'threshold'?",
    "alerts: {HighLatency: {threshold: 500}}": "at least 0.005 and at most 120, and is 500",
    "alerts: {HighErrorRate: {threshold: lots}}": "must be a number, and is 'lots'",
    "alerts: {HighErrorRate: {severity: criticl}}": "critical, warning, info; did you.*'critical'",
    "alerts: {HighErrorRate: {for: 5 min}}": "a time such as 30s, 5m, 1h30m or 2d.*'5 min'",
    "alerts: {HighErrorRate: {minimum_errors: 1.5}}": "must be a whole number, and is 1.5",
    "alerts: {Watchdog: {for: 5m}}": "Watchdog.for is unknown: allowed are severity, enabled",
    "alerts: {Watchdog: {enabled: maybe}}": "must be true or false, and is 'maybe'",
    "alerts: [HighErrorRate]": r"alerts must be a mapping.*\['HighErrorRate'\]",
    "alerts:\n  Watchdog: {}\n  Watchdog: {}": "3: alerts.Watchdog stands there twice",
    "windw: 5m": "windw is unknown.*did you mean 'window'?",
    "window: 1s": "window must be from 5 to 1800 seconds, and is '1s'",
    "pipelines: {a: {alerts: {Watchdog: {}}}}": "pipelines.a.alerts.Watchdog is unknown",
    "pipelines: {a: {slos: {speed: {}}}}": "allowed are records, latency, freshness",
    "pipelines: {a: {slos: {records: {}}}}": "lacks its objective, in percent",
    "pipelines: {a: {slos: {records: {objective: 100}}}}": "no budget to burn; take",
    "pipelines: {a: {slos: {records: {objective: 0.99}}}}": "it is in percent, so write 99",
    "pipelines: {a: {slos: {records: {objective: 93}}}}": "14.4 pages; it must be above 93.1, or",
    "pipelines: {a: {slos: {latency: {objective: 99}}}}": "lacks `seconds`, within which",
    "pipelines: {a: {slos: {latency: {objective: 99, seconds: 4s}}}}": "no bound.*: take 5, or",
    "planned_work: [{name: a}]": r"planned_work\[0\] lacks `times`",
    "planned_work: [{name: a, times: []}, {name: a, times: []}]": "'a' again: names must differ",
    "planned_work: [{name: a, times: [{days: [monday]}]}]": "days is unknown: allowed are times",
    "planned_work: [{name: a, times: [{times: [{start_time: 12:00, end_time: 14:00}]}]}]": (
        'a time of day in quotes, such as "02:30", and is'
    ),
    'planned_work: [{name: a, times: [{times: [{start_time: "22:00", end_time: "04:00"}]}]}]': (
        "must end after it starts; over midnight it is two"
    ),
    "receivers: {critical: {slack_configs: []}}": "receivers.critical lacks `name`",
    "receivers: {critical: {name: a, slack: []}}": "besides `name` there are Alertmanager's",
    "receivers: {critical: {name: a, slack_configs: [{api_url: 'http://x'}]}}": (
        "is a secret.*`api_url_file: PATH`"
    ),
    "receivers: {critical: {name: a}, info: {name: a, webhook_configs: []}}": "of another receiver",
    "links: {grafana: localhost}": "an address with http:// or https://, and is 'localhost'",
    "links: {runbook: 'http://a/b'}": "must have {alert} where",
    "a: 1\n---\nb: 2": "has 2 documents; put all into one",
    "a: [": "is no YAML",
    "- a": r"the file must be a mapping of names to values, and is \['a'\]",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_refused_with_what_where_and_a_remedy(tmp_path: Path, text: str) -> None:
    """The message names the file, the line, the path and what is allowed."""
    with pytest.raises(ConfigurationError) as error:
        read(tmp_path, text)
    assert re.search(MISTAKES[text], str(error.value), re.DOTALL), str(error.value)
    assert str(error.value).startswith(str(tmp_path / "alerts.yaml"))


def test_the_command_says_a_mistake_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It exits with 2 and writes nothing; without a folder, or with one it cannot have, too."""
    config = tmp_path / "alerts.yaml"
    config.write_text("windw: 5m")
    assert main(["alerts", "--out", str(tmp_path / "out"), "--config", str(config)]) == 2
    assert main(["alerts", "--out", str(tmp_path / "out"), "--config", "nowhere.yaml"]) == 2
    assert main(["alerts"]) == 2
    assert main(["alerts", "--out", str(config)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in said] == ["otel-pipeline"] * 4
    assert "nowhere.yaml cannot be read: No such file" in said[1]
    assert "needs --out DIR" in said[2]
    assert "name another folder" in said[3]
    assert not (tmp_path / "out").exists()


def test_the_command_writes_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `--json` stdout is one document; what else is in the folder stays."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "mine.yml").write_text("groups: []")
    assert main(["alerts", "--out", str(tmp_path), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["files"]
    found = {str(path) for path in tmp_path.rglob("*.yml")}
    assert found - {str(tmp_path / "rules" / "mine.yml")} == set(written)
    assert {Path(name).parent.name for name in written} == {"rules", "tests", "loki", tmp_path.name}


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    """So does one that says what is said anyway."""
    assert read(tmp_path, "") == read(tmp_path, "# nothing\n") == Settings()
    assert read(tmp_path, "alerts: {HighErrorRate: {threshold: 5 %, for: 5m}}") == Settings()


def test_a_pipeline_takes_what_is_set_for_all(tmp_path: Path) -> None:
    """Only what is set for itself differs."""
    found = read(
        tmp_path,
        """
alerts: {HighErrorRate: {for: 7m}}
pipelines: {orders: {alerts: {HighErrorRate: {threshold: 1%}}}}
""",
    )
    default = replace(DEFAULTS["HighErrorRate"], hold=420)
    assert found.scopes("HighErrorRate") == [
        (None, '{pipeline!="orders"}', default),
        ("orders", '{pipeline="orders"}', replace(default, threshold=0.01)),
    ]
    assert found.scopes("HighLatency") == [(None, "", DEFAULTS["HighLatency"])]


def test_objectives_are_read_as_shares(tmp_path: Path) -> None:
    """They are written in percent."""
    assert read(tmp_path, SLOS).pipelines["orders"].slos == (
        Slo("records", 0.999),
        Slo("latency", 0.99, 5.0),
        Slo("freshness", 0.995),
    )


def test_a_disabled_alert_has_no_rule_and_no_test(tmp_path: Path) -> None:
    """It can be left out for all, or for one pipeline."""
    off = "".join(f"  {name}: {{enabled: false}}\n" for name in DEFAULTS if name != "Watchdog")
    texts = files(read(tmp_path, f"alerts:\n{off}"))
    alerts = re.findall(r"- alert: (\w+)", "".join(texts.values()))
    assert alerts == ["Watchdog"]
    assert [path for path in texts if path.startswith("tests/")] == ["tests/Watchdog.yml"]


@given(st.text(min_size=1))
def test_a_name_matches_itself_and_nothing_else(name: str) -> None:
    """Any text can stand in a selector, as it is or within a regular expression."""
    node = parse(f'x{{a="{quoted(name)}", b=~"{literal(name)}"}}')
    assert isinstance(node, Selector)
    values = {matcher.label: matcher.value for matcher in node.matchers}
    assert values["a"] == name
    assert re.fullmatch(values["b"], name)
    assert not re.fullmatch(values["b"], name + "x")


@given(st.integers(0, 10**8))
def test_a_duration_says_as_many_seconds(seconds: int) -> None:
    """What is written for Prometheus is read as the same time."""
    sizes = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
    parts = re.findall(r"(\d+)([a-z])", duration(seconds))
    assert sum(int(count) * sizes[unit] for count, unit in parts) == seconds


def yaml_blocks(page: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```yaml\n(# alerts\.yaml\n.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", ["how-to/alerts.md", "how-to/slos.md"])
def test_the_settings_of_the_documentation_are_accepted(tmp_path: Path, page: str) -> None:
    """Each example can be taken as it is."""
    blocks = yaml_blocks(page)
    assert blocks
    for block in blocks:
        assert files(read(tmp_path, block))


RUNBOOKS = sorted(path for path in (DOCS / "runbooks").glob("*.md") if path.stem != "index")


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_a_runbook_has_what_one_needs_at_night(page: Path) -> None:
    """What it means, where to look, causes, a query that runs, and how to silence this alert."""
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^#+ (.*)$", text, re.MULTILINE) == [
        page.stem,
        "Look first",
        "Likely causes",
        "See it",
        "Silence it",
    ]
    [query] = re.findall(r"^```text\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    if not page.stem.startswith("Log"):  # those are Loki's
        asked = set(names(parse(query))) - {"ALERTS"}
        assert {name for name in asked if not name.startswith("otelcol_")} <= known_names()
    assert f"amtool silence add alertname={page.stem}" in text
