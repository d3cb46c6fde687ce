"""A program that makes what the demo does not, until its input ends.

Runs that fail, queues, lag, reasons, too many label values, too many log lines, datasets, and a
pipeline with a name that needs care. It prints the address of its page first.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import queue
import sys
import threading
import time

from otel_pipeline import Counter, Gauge, Histogram, Pipeline, configure, current_stage, get_logger
from otel_pipeline.semconv import CHECK_RESULTS, SCHEMA_CHANGES

__all__ = ["ODD_NAME", "ODD_QUEUE"]

#: A name that means itself, though PromQL, LogQL and regular expressions have uses for its signs.
ODD_NAME = r"""it's "odd\.*" {|} $1"""
ODD_QUEUE = "to-load"  # the other pipeline has one of that name, in another program

orders = Pipeline("orders", expected_interval="1h")
sorting = Pipeline("sorting", mode="stream")  # it has stages, and no batches
nightly = Pipeline("nightly", expected_interval="1s")
stream = Pipeline(ODD_NAME, mode="stream", expected_interval="5m")
log = get_logger("busy")

CUSTOMERS = Counter("orders_by_customer", "Orders of each customer", ["customer"])
BASKET = Histogram("orders_basket", "Worth of a basket", ["shop"], unit="euros")

ROWS = Counter("dataset_rows", "Rows", ["dataset"])
CHECKS = Counter("dataset_checks", "Checks", ["dataset", "check", "result"])
CHANGES = Counter("dataset_schema_changes", "Changes", ["dataset", "kind"])
LAST_ROWS = Gauge("dataset_last_rows", "Rows", ["dataset"])
UPDATED = Gauge("dataset_last_update_timestamp_seconds", "Time", ["dataset"], unit="seconds")
LIMIT = Gauge("dataset_freshness_limit_seconds", "Limit", ["dataset"], unit="seconds")
NULLS = Gauge("dataset_column_null_ratio", "Nulls", ["dataset", "column"])
DISTINCT = Gauge("dataset_column_distinct_ratio", "Distinct", ["dataset", "column"])
VALUE = Gauge("dataset_column_value", "Value", ["dataset", "column", "stat"])
SCORE = Gauge("dataset_anomaly_score", "Score", ["dataset", "metric"])


@orders.stage
def extract(turn):
    yield from range(200 + 100 * (turn % 7))


@orders.stage(count=len)
def validate(rows):
    current_stage().dropped(len(rows) // 20, reason="null_key")
    current_stage().dropped(len(rows) // 50, reason="no_such_shop")
    return rows[len(rows) // 20 + len(rows) // 50 :]


@orders.stage
def load(rows, turn, waiting):
    with orders.batch(rows) as records:
        for row in records:
            if row % 97 == turn % 5:
                records.failed(reason="too_large")
            elif row % 89 == 0:
                records.skipped(reason="seen_before")
        waiting.wait(0.005 * (1 + turn % 9))  # a database that takes its time
    if turn % 6 == 5:
        message = "the database went away"
        raise ConnectionError(message)


def observe_datasets(turn):
    """Set what a look at two datasets finds."""
    for place, dataset in enumerate(("orders.raw", "orders.clean")):
        rows = 300 + 40 * math.sin(turn / 5 + place)
        ROWS.labels(dataset).inc(int(rows))
        LAST_ROWS.labels(dataset).set(int(rows))
        UPDATED.labels(dataset).set(time.time() - 600 * (turn % 8))
        LIMIT.labels(dataset).set(3600)
        for check in ("not_null", "in_range"):
            for result in CHECK_RESULTS:
                CHECKS.labels(dataset, check, result).inc(0)
            CHECKS.labels(dataset, check, "fail" if turn % 7 == 3 else "pass").inc()
        for kind in SCHEMA_CHANGES:
            CHANGES.labels(dataset, kind).inc(kind == "column_added" and turn % 9 == 4)
        for column in ("customer", "total"):
            NULLS.labels(dataset, column).set(0.02 + 0.01 * math.sin(turn / 3 + place))
            DISTINCT.labels(dataset, column).set(1.0 if column == "customer" else 0.4)
        VALUE.labels(dataset, "total", "mean").set(40 + 5 * math.sin(turn / 4))
        VALUE.labels(dataset, "total", "p50").set(31 + 3 * math.sin(turn / 4))
        SCORE.labels(dataset, "rows").set(0.4 + 0.9 * (turn % 11 == 7))
        SCORE.labels(dataset, "null_ratio:total").set(0.2 + 0.1 * math.sin(turn))


def fall_behind():
    """Leave behind a pipeline that is late and failed, and a dataset that is stale and odd."""
    with nightly.run():
        pass
    with contextlib.suppress(RuntimeError), nightly.run():
        raise RuntimeError("the file has not come")
    LAST_ROWS.labels("orders.old").set(0)
    UPDATED.labels("orders.old").set(time.time() - 7200)
    LIMIT.labels("orders.old").set(3600)
    SCORE.labels("orders.old", "rows").set(1.7)


def turn_once(turn, waiting, items):
    """Run each pipeline once."""
    items.put(turn)
    if items.qsize() > 3 + 4 * math.sin(turn / 4):
        items.get()
    with contextlib.suppress(ConnectionError), orders.run():
        rows = list(extract(turn))
        log.info("extracted", rows=len(rows))
        load(validate(rows), turn, waiting)
    with stream.stage('han"dle'), stream.batch(range(20)) as events:
        for event in events:
            if event == turn % 40:
                events.failed(reason=r'not "parsed\"')
    stream.lag(time.time() - 2 - math.sin(turn / 6))
    stream.queue("events").set(5 + turn % 4)
    with sorting.stage("sort") as stage:
        stage.records(40)
        stage.failed(2, reason="unsortable")
    for customer in range(30):
        CUSTOMERS.labels(str(customer)).inc()
        BASKET.labels("north" if customer % 2 else "south").observe(customer * 3 % 50)
    for row in range(20):
        log.warning("row is odd", row=row)
    if turn % 4 == 1:
        log.error("a shop is closed", shop=turn % 3)
    observe_datasets(turn)


def main():
    """Turn until the input ends."""
    ended = threading.Event()

    def read():
        sys.stdin.read()
        ended.set()

    with configure(log_rate_limit=1) as telemetry:
        print(telemetry.metrics_url, flush=True)
        threading.Thread(target=read, daemon=True).start()
        items: queue.Queue[int] = queue.Queue()
        orders.queue(ODD_QUEUE).watch(items)
        fall_behind()
        with stream.run():
            for turn in itertools.count():
                turn_once(turn, ended, items)
                if ended.wait(0.5):
                    return


if __name__ == "__main__":
    main()
