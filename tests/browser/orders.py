"""A pipeline for the tests of the page: 30 orders, two in ten of them without an id."""

from __future__ import annotations

import sys

from otel_pipeline import Pipeline, configure, current_stage, get_logger

FAILING = "failing" in sys.argv

configure(service_name="orders-etl", prometheus_port=0)
pipeline = Pipeline("orders")
log = get_logger("orders")


@pipeline.stage
def extract():
    log.info("page_read", url="https://example.com/orders?page=1", note="javascript:alert(1)")
    yield from range(30)


@pipeline.stage(count=len)
def validate(orders):
    good = [order for order in orders if order % 10 > 1]
    current_stage().dropped(len(orders) - len(good), reason="null_key")
    log.warning("many_rejected", rejected=len(orders) - len(good))
    return good


def load(orders):
    with pipeline.batch(orders):
        if FAILING:
            raise ConnectionError("connection reset by peer")


try:
    with pipeline.run("run-2" if FAILING else "run-1"):
        load(validate(list(extract())))
except ConnectionError:
    pass
