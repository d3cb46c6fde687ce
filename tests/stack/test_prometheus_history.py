"""A history whose values are in a real Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from otel_pipeline.errors import ConfigurationError
from otel_pipeline.quality import Monitors, PrometheusHistory, SqliteHistory
from otel_pipeline.quality.history import HistoryError
from tests.history_contract import DAY, FILLED, START, HistoryContract
from tests.stack import programs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.quality.history import Point

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(300)]

#: What the metrics of the contract are called in Prometheus, and their labels.
NAMES = {
    "rows": ("dataset_last_rows", {"dataset": "flights"}),
    "null_ratio:dep_time": (
        "dataset_column_null_ratio",
        {"dataset": "flights", "column": "dep_time"},
    ),
}


def otlp(point: Point) -> dict[str, object]:
    """Return an OTLP request with one value of a gauge."""
    name, labels = NAMES[point.metric]
    value = {
        "timeUnixNano": str(int(point.at) * 10**9),
        "asDouble": point.value,
        "attributes": [
            {"key": label, "value": {"stringValue": text}} for label, text in labels.items()
        ],
    }
    metrics = [{"name": name, "gauge": {"dataPoints": [value]}}]
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}


@pytest.fixture(scope="module")
def url(need) -> Iterator[str]:
    """Give the address of a Prometheus with the points of the contract."""
    need("prometheus")
    with programs.prometheus() as server:
        for point in FILLED:
            programs.fetch(f"{server.url}/api/v1/otlp/v1/metrics", body=otlp(point))
        yield server.url


class TestPrometheusHistory(HistoryContract):
    """The contract of all histories."""

    @pytest.fixture
    def filled(self, url, tmp_path):
        return PrometheusHistory(url, step=DAY, local=SqliteHistory(tmp_path / "local.db"))

    def test_monitors_learn_from_it(self, filled) -> None:
        """What is in Prometheus counts as history: ten values, and the next is the eleventh."""
        import datetime as dt

        at = dt.datetime.fromtimestamp(START + 9 * DAY + 60, dt.UTC)
        monitors = Monitors(filled)
        verdict = monitors.judge("flights", {"rows": 111}, at=at)
        assert verdict.state == {"rows": "learning"}
        learned = monitors._learned["flights", "", "rows"]
        assert learned.points == 11


def test_a_prometheus_that_is_away_is_named(tmp_path) -> None:
    """A Prometheus that does not answer is an error that names it."""
    history = PrometheusHistory(
        "http://127.0.0.1:9", step=DAY, local=SqliteHistory(tmp_path / "local.db")
    )
    with pytest.raises(HistoryError, match=r"Prometheus at http://127.0.0.1:9 did not answer"):
        history.points("flights", "rows", before=START, limit=5)


@pytest.mark.parametrize(("url", "step"), [("prometheus:9090", 60), ("http://localhost", 0)])
def test_wrong_arguments_are_refused(url, step, tmp_path) -> None:
    """An address without a scheme and a step of nothing are configuration errors."""
    with pytest.raises(ConfigurationError, match="PrometheusHistory"):
        PrometheusHistory(url, step=step, local=SqliteHistory(tmp_path / "local.db"))
