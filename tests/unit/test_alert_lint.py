"""Rules that Prometheus takes: those that mean something else are found, the others are not."""

from __future__ import annotations

import pytest

from otel_pipeline.alerts.lint import CHECKS, lint
from otel_pipeline.alerts.promql import parse
from otel_pipeline.alerts.rule_files import Rule

# ruff: noqa: E501 - an expression a line

WRONG = {
    "ratio-without-sum": """
rate(x_total{status="error"}[5m]) / rate(x_total[5m]) > 0.05
sum(rate(x_total{status="error"}[5m])) / rate(x_total[5m]) > 0.05
rate(x_total{status="error"}[5m]) / sum(rate(x_total[5m])) > 0.05
sum by (pipeline) (rate(x_total{status="error"}[5m])) / sum by (stage) (rate(x_total[5m])) > 0.05
sum by (pipeline) (rate(x_total{status="error"}[5m])) / sum(rate(x_total[5m])) > 0.05
increase(x_total{status="error"}[5m]) / increase(x_total[5m]) > 0.05
(rate(x_total{status="error"}[5m])) / (rate(x_total[5m])) > 0.05
100 * rate(x_total{status="error"}[5m]) / rate(x_total[5m]) > 5
rate(x_total{status="error"}[5m]) > rate(x_total[5m]) * 0.05
rate(x_total{status="error"}[5m]) > 0.05 * rate(x_total[5m])
rate(x_total{status="error"}[5m]) / ignoring(status) rate(x_total[5m]) > 0.1
sum by (pipeline, status) (rate(x_total{status="error"}[5m])) / sum by (pipeline, status) (rate(x_total[5m])) > 0
irate(x_total{status="error"}[5m]) / irate(x_total[5m]) > 0.1
sum(rate(x_total{status="error"}[5m]) / rate(x_total[5m])) > 0.1
avg by (p) (rate(x_total{status="error"}[5m]) / rate(x_total[5m])) > 0.1
1 - rate(x_total{status="success"}[5m]) / rate(x_total[5m]) > 0.1
rate(records_processed_total{status="error"}[5m]) / rate(records_processed_total[5m]) > 0.1
sum without (instance) (rate(x_total{status="error"}[5m])) / sum without (instance) (rate(x_total[5m])) > 0
rate({__name__="x_total", status="error"}[5m]) / rate({__name__="x_total"}[5m]) > 0.1
rate({"my.total", status="error"}[5m]) / rate({"my.total"}[5m]) > 0.1
rate(x_total{status!="success"}[5m]) / rate(x_total[5m]) > 0.1
rate(x_total{status=~"error|skipped"}[5m]) / rate(x_total[5m]) > 0.1
clamp_max(rate(x_total{status="error"}[5m]) / rate(x_total[5m]), 1) > 0.1
sum by (a) (rate(x_total[5m])) > rate(y_total[5m])
sum(rate(x_total{status="error"}[5m])) by (pipeline) / sum(rate(x_total[5m])) by (pipeline, stage) > 0
rate(pipeline_records_rejected_total[5m]) / rate(records_processed_total[5m]) > 0.1
rate(x_total{status="error"}[5m] offset 1h) / rate(x_total[5m] offset 1h) > 0.1
rate(x_total{status="error"}[5m]) / (rate(x_total{status="error"}[5m]) + rate(x_total{status="success"}[5m])) > 0
max_over_time((rate(x_total{status="error"}[5m]) / rate(x_total[5m]))[1h:1m]) > 0.1
rate(errors_total[5m]) / sum by (pipeline) (rate(requests_total[5m])) > 0.1
""",
    "quantile-without-le": """
histogram_quantile(0.95, rate(x_seconds_bucket[5m])) > 1
histogram_quantile(0.95, sum by (pipeline) (rate(x_seconds_bucket[5m]))) > 1
histogram_quantile(0.95, sum(rate(x_seconds_bucket[5m]))) > 1
histogram_quantile(0.95, sum without (le) (rate(x_seconds_bucket[5m]))) > 1
histogram_quantile(0.95, sum(rate(x_seconds_bucket[5m])) by (pipeline)) > 1
histogram_quantile(0.95, sum by (le) (sum by (pipeline) (rate(x_seconds_bucket[5m])))) > 1
histogram_quantile(0.95, (rate(x_seconds_bucket[5m]))) > 1
max(histogram_quantile(0.95, rate(x_seconds_bucket[5m]))) > 1
histogram_quantile(0.95, increase({__name__="x_seconds_bucket"}[5m])) > 1
histogram_quantile(0.95, max by (pipeline) (rate(x_seconds_bucket[5m]))) > 1
""",
    "counter-without-rate": """
x_total > 100
sum(x_total) > 100
sum by (p) (x_total{status="error"}) / sum by (p) (x_total) > 0.1
x_total - x_total offset 5m > 10
x_total{status="error"} > 0
100 < x_total
x_seconds_count > 5
processing_duration_seconds_sum > 5
processing_duration_seconds_sum / processing_duration_seconds_count > 5
x_seconds_bucket{le="1"} > 5
max(x_total) > 5
(x_total) > 5
abs(x_total) > 5
avg_over_time(x_total[5m]) > 5
max_over_time(x_total[5m]) > 5
delta(x_total[5m]) > 5
deriv(x_total[5m]) > 5
rate(queue_size[5m]) > 1
increase(queue_size[1h]) > 1
rate(pipeline_last_run_records[5m]) > 1
rate(sum(x_total)[5m:1m]) > 1
x_total + y_total > 3
scalar(x_total) > bool 5
{__name__="x_total"} > 5
x_total @ 5 > 5
x_total offset 5m > 5
topk(3, x_total) > 5
rate(pipeline:records:rate5m[5m]) > 1
irate(up[5m]) > 0
x_total > y_total
last_over_time(x_total[1h]) > 5
sum(x_total or y_total) > 5
sum(x_total unless y_total offset 5m) > 5
sum(x_total unless x_total{a="b"}) > 5
label_replace(x_total, "a", "b", "c", "d") > 5
rate(rate(x_total[5m])[10m:]) > 1
""",
    "short-window": """
rate(x_total[30s]) > 1
rate(x_total[59s]) > 1
increase(x_total[45s]) > 1
sum(irate(x_total[15s])) > 1
rate(x_total[30s:]) > 1
max_over_time(rate(x_total[30s])[1h:1m]) > 1
rate(x_total[15]) > 1
rate(x_total[30s] offset 5m) > 1
histogram_quantile(0.9, sum by (le) (rate(x_bucket[30s]))) > 1
delta(g[30s]) > 1
absent(rate(x_total[30s]))
""",
    "unknown-metric": """
rate(records_procesed_total[5m]) > 1
rate(record_processed_total[5m]) > 1
rate(records_processed[5m]) > 1
queue_sizes > 5
quue_size > 5
pipeline_last_sucess_timestamp_seconds > 5
pipeline_last_success_timestamp > 5
time() - pipeline_last_success_timestamp > 5
histogram_quantile(0.9, sum by (le) (rate(processing_duration_bucket[5m]))) > 1
histogram_quantile(0.9, sum by (le) (rate(processing_durations_seconds_bucket[5m]))) > 1
rate(pipeline_run_total[5m]) > 1
absent(records_procesed_total)
pipeline:error:ratio_rate5m > 0.1
Records_Processed_Total > 1
datasets_anomaly_score > 1
rate(records_proccessed_total[5m]) > 1
rate(processing_duration_second_count[5m]) > 1
rate(recrods_processed_total[5m]) > 1
rate(recordsprocessed_total[5m]) > 1
rate(records__processed_total[5m]) > 1
pipeline_last_run_sucess == 0
absent({__name__="records_procesed_total"})
rate(otel_pipeline_item_total[5m]) > 1
""",
    "may-be-absent": """
rate(x_total[5m]) == 0
0 == rate(x_total[5m])
sum(rate(x_total[5m])) == 0
sum by (pipeline) (increase(x_total[1h])) < 1
1 > increase(x_total[1h])
1 >= increase(x_total[1h])
rate(x_total[5m]) <= 0
(rate(x_total[5m])) == (0)
rate(x_total[5m]) == 0 and on(pipeline) pipeline_info
rate(x_total[5m]) == 0 or rate(y_total[5m]) == 0
count(up == 1) < 2
count(x) == 0
count_over_time(x[5m]) == 0
rate(x_total[5m]) * 60 < 10
pipeline:records:rate5m == 0
sum(rate(x_total{status="success"}[5m])) < 10
rate(x_total[5m]) == 0.0
max_over_time(rate(x_total[5m])[1h:]) == 0
avg(rate(x_total[5m])) < 0.001
rate(x_total[5m]) == 0 or rate(x_total[5m]) > 100
rate(x_total[5m]) == bool 0
rate(a_total[5m]) + rate(b_total[5m]) == 0
rate(x_total[5m]) > 1 and rate(y_total[5m]) == 0
""",
}

RIGHT = """
sum by (pipeline) (rate(x_total{status="error"}[5m])) / sum by (pipeline) (rate(x_total[5m])) > 0.05
sum(rate(x_total{status="error"}[5m])) / sum(rate(x_total[5m])) > 0.05
sum without (status) (rate(x_total{status="error"}[5m])) / sum without (status) (rate(x_total[5m])) > 0
sum(rate(x_total{status="error"}[5m])) by (a, b) / sum(rate(x_total[5m])) by (b, a) > 0.05
sum by (pipeline, stage) (rate(x_total{status="error"}[5m])) / on(pipeline) group_left sum by (pipeline) (rate(x_total[5m])) > 0
sum by (pipeline, status) (rate(x_total[5m])) / ignoring(status) group_left sum by (pipeline) (rate(x_total[5m])) > 0
rate(x_seconds_sum[5m]) / rate(x_seconds_count[5m]) > 1
rate(node_network_receive_errs_total[2m]) / rate(node_network_receive_packets_total[2m]) > 0.01
rate(x_total[5m]) > 2 * rate(x_total[5m] offset 1d)
rate(x_total[5m]) / rate(x_total[1h]) > 2
sum(rate(x_total{status="error"}[5m])) / scalar(sum(rate(x_total[5m]))) > 0.5
histogram_quantile(0.95, sum by (le) (rate(x_seconds_bucket[5m]))) > 1
histogram_quantile(0.95, sum by (le, pipeline) (rate(x_seconds_bucket[5m]))) > 1
histogram_quantile(0.95, sum(rate(x_seconds_bucket[5m])) by (le)) > 1
histogram_quantile(0.95, sum without (instance) (rate(x_seconds_bucket[5m]))) > 1
histogram_quantile(0.95, sum(rate(processing_duration_seconds[5m]))) > 1
histogram_quantile(0.95, sum by (pipeline) (rate(x_seconds[5m]))) > 1
histogram_quantile(0.95, rate(x_seconds[5m])) > 1
histogram_quantile(0.95, job:x_seconds_bucket:rate5m) > 1
histogram_quantile(0.9, (sum by (le) (rate(x_seconds_bucket[5m])))) > 1
rate(x_total[5m]) > 1
increase(x_total[1h]) > 0
changes(x_total[1h]) > 0
resets(x_total[1h]) > 0
absent(x_total)
absent_over_time(x_total[1h])
absent(sum(x_total))
count(x_total) > 3
count by (job) (x_total) > 3
time() - timestamp(x_total) > 300
x_total unless x_total offset 5m
sum(x_total unless x_total offset 5m or increase(x_total[5m])) > 5
sum(last_over_time(x_total[5m]) unless last_over_time(x_total[1h] offset 5m)) > 5
up == 0
up{job="x"} == 0
sum(up) < 1
avg(up) < 0.5
min by (job) (up) == 0
queue_size > 1000
queue_size < 5
rate(x_total[1m]) > 1
rate(x_total[5m:30s]) > 1
max_over_time(up[30s]) > 0
rate(orders_processed_total[5m]) > 1
rate(rows_processed_total[5m]) > 1
job_queue_size > 5
queue_length > 5
rate(records_rejected_total[5m]) > 1
rate(records_read_total[5m]) > 1
batch_processing_duration_seconds > 1
rate(pipeline_jobs_total[5m]) > 1
rate(x_total[5m]) == 0 or absent(x_total)
absent(x_total) or rate(x_total[5m]) == 0
(rate(x_total[5m]) or vector(0)) == 0
(sum(rate(x_total[5m])) or vector(0)) < 1
sum(rate(x_total[5m])) == 0 or absent_over_time(x_total[10m])
rate(x_total[5m]) == 0 unless on() maintenance == 1
last_over_time(pipeline_last_run_success[1d]) == 0
pipeline_info unless on(pipeline) rate(records_processed_total[5m]) > 0
absent(rate(x_total[5m]) > 0)
node_filesystem_avail_bytes / node_filesystem_size_bytes < 0.1
pipeline_last_run_success == 0
dataset_last_rows < 100
time() - pipeline_last_success_timestamp_seconds > 86400
time() - pipeline_last_success_timestamp_seconds > on(pipeline) pipeline_expected_interval_seconds
pipeline:slo_error_budget:remaining_ratio < 0.1
dataset_anomaly_score > 1
sum by (pipeline) (rate(records_processed_total{status="success"}[5m])) / sum by (pipeline) (rate(records_processed_total[5m])) < 0.95
rate(x_total[5m]) > 0
vector(1)
ALERTS{alertstate="firing"} > 0
x_total > 0 and rate(x_total[5m]) > 1
predict_linear(node_filesystem_free_bytes[1h], 4 * 3600) < 0
deriv(queue_size[10m]) > 0
delta(queue_size[10m]) > 100
probe_success == 0
kube_deployment_status_replicas_available < kube_deployment_spec_replicas
http_request_duration_seconds > 5
sum by (pipeline) (rate(a_total[5m])) - sum by (pipeline) (rate(b_total[5m])) > 10
rate(x_total[5m]) * on(job) group_left(version) build_info > 5
rate(pipeline_runs_total{status="error"}[5m]) > 0 and on(pipeline) pipeline_info{mode="batch"}
count(up{job="x"} == 0) > 2
count(up == 0) / count(up) > 0.5
rate(x_total{status="error"}[5m]) / ignoring(status) rate(x_total{status="success"}[5m]) > 0.1
sum(rate(records_processed_total{status="error"}[5m])) by (pipeline) / (sum(rate(records_processed_total[5m])) by (pipeline) > 0) > 0
rate(x_total{namespace="a"}[5m]) / rate(x_total{namespace="a"}[1h]) > 2
rate(errors_total[5m]) / rate(requests_total[5m]) > 0.1
"""


def rule(text: str, *, name: str = "Alert", alerting: bool = True) -> Rule:
    return Rule("rules.yml", name, alerting, text, parse(text), (1,))


def ids(*rules: Rule, scrape_interval: float = 15.0) -> list[str]:
    return [finding.id for finding in lint(rules, scrape_interval=scrape_interval).findings]


@pytest.mark.parametrize(
    ("id_", "text"),
    [(id_, text) for id_, texts in WRONG.items() for text in texts.split("\n") if text],
)
def test_a_mistake_is_found_and_no_other(id_: str, text: str) -> None:
    """An expression with one kind of mistake has findings of that kind alone."""
    assert set(ids(rule(text))) == {id_}


@pytest.mark.parametrize("text", [text for text in RIGHT.split("\n") if text])
def test_nothing_is_found_in_what_is_right(text: str) -> None:
    """An expression that does what it says has no findings, in an alert or a recording."""
    assert ids(rule(text), rule(text, name="job:x:y", alerting=False)) == []


def test_every_check_is_tried() -> None:
    """There are mistakes for each check."""
    assert set(WRONG) == set(CHECKS)


def test_a_window_is_measured_in_scrapes() -> None:
    """Four scrapes are enough, whatever the time between them."""
    one = rule("rate(x_total[2m]) > 1")
    assert ids(one, scrape_interval=30) == []
    assert ids(one, scrape_interval=31) == ["short-window"]


def test_what_the_files_record_is_known() -> None:
    """A series that a rule records is no slip, and no counter, whatever its name."""
    recorded = rule("vector(1)", name="records_processed", alerting=False)
    assert ids(rule("records_processed > 5")) == ["unknown-metric"]
    assert ids(recorded, rule("records_processed > 5")) == []
    recorded = rule("vector(1)", name="orders_total", alerting=False)
    assert ids(rule("orders_total > 5")) == ["counter-without-rate"]
    assert ids(recorded, rule("orders_total > 5")) == []


def test_a_histogram_is_known_by_its_other_parts() -> None:
    """`_count` and `_sum` are counters where the rules name the buckets, or a unit stands there."""
    buckets = rule("histogram_quantile(0.9, sum by (le) (rate(order_items_bucket[5m]))) > 5")
    assert ids(rule("order_items_count > 5")) == []
    assert ids(buckets, rule("order_items_count > 5")) == ["counter-without-rate"]
    assert ids(rule("order_bytes_sum > 5")) == ["counter-without-rate"]


def test_a_message_says_what_was_meant() -> None:
    """The finding has the place, the remedy, and the name that is there."""
    [finding] = lint([rule("rate(records_procesed_total[5m]) > 0")]).findings
    assert str(finding) == (
        "rules.yml:1: Alert: unknown-metric: there is no metric records_procesed_total, so this "
        "never fires; did you mean records_processed_total?"
    )


def test_each_place_is_found_once() -> None:
    """One counter in a sum that is compared is one finding, two counters are two."""
    assert ids(rule("sum(a_total) > 5")) == ["counter-without-rate"]
    assert ids(rule("sum(a_total) / sum(b_total) > 5")) == ["counter-without-rate"] * 2
