"""What `otel-pipeline alerts` writes is accepted by the programs that read it, and is right."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from otel_pipeline.alerts.files import files
from otel_pipeline.alerts.reading import read_settings
from otel_pipeline.alerts.settings import BURN_RATES, DEFAULTS, PER_PIPELINE, Settings
from otel_pipeline.cli import main
from tests.stack.debian import PACKAGES
from tests.stack.programs import check

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.timeout(600)]

EVERYTHING = """
pipelines:
  orders:
    expected: true
    alerts:
      HighErrorRate: {threshold: 10%, severity: warning}
      PipelineStalled: {after: 20m}
    slos:
      records: {objective: 99.9}
      latency: {objective: 99, seconds: 5}
      freshness: {objective: 99.5}
  "say \\"a|b\\" $1 \\\\d":
    alerts: {HighLatency: {threshold: 2.5}}
    slos: {latency: {objective: 95, seconds: 0.25}, freshness: {objective: 99, seconds: 26h}}
planned_work:
  - name: sunday
    pipelines: [orders]
    times:
      - weekdays: [sunday]
        times: [{start_time: "02:00", end_time: "04:00"}]
        location: Europe/Berlin
  - name: new-year
    times: [{months: [january], days_of_month: ["1"]}]
receivers:
  critical: {name: page, webhook_configs: [{url_file: /etc/alertmanager/page-url}]}
"""


def write(folder: Path, config: str = "") -> Path:
    """Write everything into a folder, by the command."""
    (folder / "alerts.yaml").write_text(config)
    out = folder / "out"
    assert main(["alerts", "--out", str(out), "--config", str(folder / "alerts.yaml")]) == 0
    return out


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def promtools(need: Callable[..., list[Path]]) -> list[Path]:
    """Return the newest promtool and that of Debian, which is older than the oldest supported."""
    [new, _] = need("promtool", "prometheus-debian")
    return [new, PACKAGES["prometheus-debian"].tool("promtool")]


@pytest.mark.parametrize("config", ["", EVERYTHING], ids=["defaults", "everything"])
def test_the_programs_accept_the_files(
    need: Callable[..., list[Path]], tmp_path: Path, config: str
) -> None:
    """promtool, old and new, pint, amtool and our own linter find nothing."""
    out = write(tmp_path, config)
    rules = sorted(out.glob("rules/*.yml"))
    for promtool in promtools(need):
        check(promtool, "check", "rules", "--lint=all", "--lint-fatal", *rules)
    [pint, amtool] = need("pint", "amtool")
    said = check(pint, "--offline", "--no-color", "lint", "--min-severity=info", out / "rules")
    assert "Problems found" not in said
    assert main(["alerts", "lint", *map(str, rules)]) == 0
    assert "SUCCESS" in check(amtool, "check-config", out / "alertmanager.yml")


@pytest.mark.parametrize("config", ["", EVERYTHING], ids=["defaults", "everything"])
def test_the_tests_that_come_with_the_rules_pass(
    need: Callable[..., list[Path]], tmp_path: Path, config: str
) -> None:
    """Each alert fires, stays quiet and ends where it should."""
    [promtool] = need("promtool")
    tests = sorted(write(tmp_path, config).glob("tests/*.yml"))
    by_logs = {"LogErrorBurst", "LogRunFailed", "LogVolumeHigh"}
    by_slos = set() if config else {"ErrorBudgetBurnFast", "ErrorBudgetBurnSlow"}
    assert {test.stem for test in tests} == set(DEFAULTS) - by_logs - by_slos
    if config:  # the others are the same as without
        tests = [test for test in tests if test.stem in {*PER_PIPELINE, *BURN_RATES}]
    result = run(promtool, "test", "rules", *tests)
    assert result.returncode == 0, result.stdout[:5000] + result.stderr[:5000]


def test_older_servers_evaluate_the_rules_alike(
    need: Callable[..., list[Path]], tmp_path: Path
) -> None:
    """The tests of the alerts of the contract pass in Prometheus 2.42, whose ranges are closed."""
    old = promtools(need)[1]
    out = write(tmp_path)
    names = [
        "HighErrorRate",
        "HighLatency",
        "PipelineStalled",
        "PipelineRunOverdue",
        "DatasetStale",
    ]
    result = run(old, "test", "rules", *(out / "tests" / f"{name}.yml" for name in names))
    assert result.returncode == 0, result.stdout[:5000] + result.stderr[:5000]


def seconds(least: int, most: int) -> st.SearchStrategy[str]:
    return st.integers(least, most).map(lambda number: f"{number}s")


SETTINGS = st.fixed_dictionaries(
    {
        "window": seconds(60, 600),
        "alerts": st.fixed_dictionaries(
            {
                "HighErrorRate": st.fixed_dictionaries(
                    {
                        "threshold": st.sampled_from([0, 0.001, 0.2, 0.5, 0.99]),
                        "for": seconds(0, 900),
                        "keep_firing_for": seconds(0, 300),
                        "minimum_records": st.integers(0, 500),
                        "minimum_errors": st.integers(0, 50),
                        "severity": st.sampled_from(["critical", "warning", "info"]),
                    }
                ),
                "HighLatency": st.fixed_dictionaries(
                    {"threshold": st.sampled_from([0.005, 0.3, 120]), "for": seconds(0, 900)}
                ),
                "PipelineStalled": st.fixed_dictionaries({"after": seconds(300, 1800)}),
                "QueueGrowing": st.fixed_dictionaries(
                    {"threshold": st.integers(0, 10**6), "for": seconds(0, 900)}
                ),
            }
        ),
        "pipelines": st.dictionaries(
            st.text(
                st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]),
                min_size=1,
                max_size=9,
            ),
            st.fixed_dictionaries({"alerts": st.just({"HighErrorRate": {"for": "1m"}})}),
            max_size=1,
        ),
    }
)


@settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # to make a failing one smaller takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(config=SETTINGS)
def test_the_tests_pass_for_any_settings(
    need: Callable[..., list[Path]],
    tmp_path_factory: pytest.TempPathFactory,
    config: dict[str, Any],
) -> None:
    """The tests follow the settings, so they pass whatever is set."""
    [promtool] = need("promtool")
    folder = tmp_path_factory.mktemp("alerts")
    out = write(folder, yaml.safe_dump(config, allow_unicode=True))
    names = ["HighErrorRate", "HighLatency", "PipelineStalled", "QueueGrowing"]
    result = run(promtool, "test", "rules", *(out / "tests" / f"{name}.yml" for name in names))
    assert result.returncode == 0, (config, result.stdout[:3000], result.stderr[:3000])


MISTAKES = {
    # A ratio that compares each series with itself.
    "HighErrorRate": (
        "|-\n{0}pipeline:errors:rate5m\n{0}/\n{0}(pipeline:records:rate5m > 0)".format(" " * 10),
        'rate(records_processed_total{status="error"}[5m]) / rate(records_processed_total[5m])',
    ),
    # It fires for each nightly job, and not for what vanished.
    "PipelineStalled": (
        "(\n            pipeline:watched:info offset 9m",
        "(pipeline:records:rate5m == 0) unless (\n            pipeline:watched:info offset 9m",
    ),
    # Latencies of each instance by itself, and not of what was born.
    "HighLatency": ("sum by (pipeline, le) (", "sum by (le) ("),
    # What a job declared goes with its process.
    "PipelineRunOverdue": (
        "last_over_time(pipeline:expected_interval_seconds:max[1d])",
        "last_over_time(pipeline:expected_interval_seconds:max[1s])",
    ),
    "DatasetSchemaChanged": (
        "unless last_over_time(dataset_schema_changes_total[1h] offset 30m)",
        "and last_over_time(dataset_schema_changes_total[1h] offset 30m)",
    ),
}


@pytest.mark.parametrize("alert", MISTAKES)
def test_the_tests_find_mistakes(
    need: Callable[..., list[Path]], tmp_path: Path, alert: str
) -> None:
    """A rule that is changed into one of the known wrong ones does not pass its test."""
    [promtool] = need("promtool")
    out = write(tmp_path)
    right, wrong = MISTAKES[alert]
    changed = 0
    for file in out.glob("rules/*.yml"):
        text = file.read_text()
        changed += text.count(right)
        file.write_text(text.replace(right, wrong))
    assert changed
    result = run(promtool, "test", "rules", out / "tests" / f"{alert}.yml")
    assert result.returncode == 1
    assert "FAILED" in result.stdout + result.stderr


ROUTES = [
    ({"alertname": "HighErrorRate", "pipeline": "orders", "severity": "critical"}, "page"),
    ({"alertname": "HighErrorRate", "pipeline": "other", "severity": "critical"}, "page"),
    ({"alertname": "HighLatency", "pipeline": "orders", "severity": "warning"}, "warning"),
    ({"alertname": "DatasetStale", "dataset": "flights", "severity": "warning"}, "warning"),
    ({"alertname": "Mine", "severity": "info"}, "info"),
    ({"alertname": "Mine"}, "info"),
    ({"alertname": "Watchdog", "severity": "info"}, "watchdog"),
]


@pytest.mark.parametrize(("labels", "receiver"), ROUTES)
def test_alerts_go_to_their_receivers(
    need: Callable[..., list[Path]], tmp_path: Path, labels: dict[str, str], receiver: str
) -> None:
    """By severity; the watchdog, and what has no severity, have a place of their own."""
    [amtool] = need("amtool")
    config = write(tmp_path, EVERYTHING) / "alertmanager.yml"
    check(
        amtool,
        "config",
        "routes",
        "test",
        f"--config.file={config}",
        f"--verify.receivers={receiver}",
        *(f"{name}={value}" for name, value in labels.items()),
    )


def contract_test(
    need: Callable[..., list[Path]],
    folder: Path,
    step: str,
    series: dict[str, str],
    checks: list[tuple[str, str, list[str]]],
) -> None:
    """Run a test of promtool that somebody else could have written.

    Args:
        need: The fixture.
        folder: Where the rules are.
        step: The scrape interval.
        series: Values by series.
        checks: Time, alert, and the pipelines for which it fires then.
    """
    [promtool] = need("promtool")
    severity = {name: one.severity for name, one in DEFAULTS.items()}
    content = {
        "rule_files": [str(path) for path in sorted(folder.glob("rules/*.yml"))],
        "evaluation_interval": step,
        "tests": [
            {
                "interval": step,
                "input_series": [
                    {"series": name, "values": values} for name, values in series.items()
                ],
                "promql_expr_test": [
                    {
                        "eval_time": at,
                        "expr": f'ALERTS{{alertname="{alert}", alertstate="firing"}}',
                        "exp_samples": [
                            {
                                "labels": f'ALERTS{{alertname="{alert}",alertstate="firing",'
                                f'pipeline="{pipeline}",severity="{severity[alert]}"}}',
                                "value": 1,
                            }
                            for pipeline in pipelines
                        ],
                    }
                    for at, alert, pipelines in checks
                ],
            }
        ],
    }
    file = folder / "contract.yml"
    file.write_text(yaml.safe_dump(content))
    result = run(promtool, "test", "rules", file)
    assert result.returncode == 0, result.stdout + result.stderr


STEPS = {"15s": 4, "30s": 2, "1m": 1}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("target", ["", ',job="etl",instance="a:9464"'], ids=["bare", "target"])
def test_alerts_come_at_the_time_that_is_promised(
    need: Callable[..., list[Path]], tmp_path: Path, step: str, target: str
) -> None:
    """Records that stop, fail or are slow from minute 20 on are heard of when it is said."""
    minutes = STEPS[step]

    def ramp(rate: int, until: int, then: int) -> str:
        steps, end = until * minutes, rate * until * minutes
        return f"0+{rate}x{steps} {end + then}+{then}x{60 * minutes}"

    success = f'records_processed_total{{pipeline="%s",status="success"{target}}}'
    error = f'records_processed_total{{pipeline="%s",status="error"{target}}}'
    buckets = {
        f'processing_duration_seconds_bucket{{pipeline="slow",le="{le}"{target}}}': values
        for le, values in (
            ("5", ramp(10, 20, 0)),
            ("10.0", ramp(10, 20, 10)),
            ("+Inf", ramp(10, 20, 10)),
        )
    }
    contract_test(
        need,
        write(tmp_path),
        step,
        {
            success % "stops": ramp(10, 20, 0),
            error % "stops": ramp(0, 20, 0),
            success % "fails": ramp(94, 20, 94),
            error % "fails": ramp(0, 20, 6),
            success % "well": ramp(96, 20, 96),
            error % "well": ramp(4, 20, 4),
            **buckets,
        },
        [
            ("28m", "PipelineStalled", []),
            ("29m", "PipelineStalled", []),
            ("31m", "PipelineStalled", ["stops"]),
            ("24m", "HighErrorRate", []),
            ("30m", "HighErrorRate", ["fails"]),
            ("25m", "HighLatency", []),
            ("30m", "HighLatency", ["slow"]),
        ],
    )


def test_every_alert_says_what_it_is_about_and_where_to_look(tmp_path: Path) -> None:
    """It has a severity, a summary, a description with a value, a runbook and a dashboard."""
    out = write(tmp_path, EVERYTHING)
    pages = {page.stem for page in Path("docs/runbooks").glob("*.md")}
    found = set()
    for file in [*out.glob("rules/*.yml"), *out.glob("loki/*.yml")]:
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                if "alert" not in rule:
                    continue
                name, said = rule["alert"], rule["annotations"]
                found.add(name)
                assert rule["labels"]["severity"] in {"critical", "warning", "info"}
                assert set(said) == {"summary", "description", "runbook_url", "dashboard_url"}
                assert re.search(r"\$value|\b0 ", said["description"]), name
                assert said["runbook_url"] == f"http://localhost:8000/runbooks/{name}.html"
                assert said["dashboard_url"].startswith("http://localhost:3000/d/otel-pipeline-")
    assert found == set(DEFAULTS)
    assert found | {"TelemetryTargetDown", "index"} == pages


def test_the_same_settings_give_the_same_files(tmp_path: Path) -> None:
    """What is written does not depend on when or where."""
    path = tmp_path / "alerts.yaml"
    path.write_text(EVERYTHING)
    assert files(read_settings(path)) == files(read_settings(path))
    assert files(Settings()) == files(Settings())
