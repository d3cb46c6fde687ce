"""The public API as users type it: checked by mypy in strict mode, never run."""

from __future__ import annotations

import datetime as dt
import queue
from pathlib import Path
from typing import TYPE_CHECKING, assert_type

from otel_pipeline import (
    Counter,
    Enum,
    Gauge,
    Histogram,
    Info,
    Pipeline,
    Summary,
    Telemetry,
    configure,
    current_stage,
    get_logger,
    push_to_gateway,
    start_http_server,
    write_to_textfile,
)
from otel_pipeline.pipeline import Batch, Queue, Run, Stage
from otel_pipeline.propagation import (
    ThreadPoolExecutor,
    attached,
    environment,
    extract,
    inject,
    kafka_headers,
    wrap,
)
from otel_pipeline.quality import Between, CheckResult, Dataset, NotNull, check, load, register
from otel_pipeline.testing import Capture, ManualClock, capture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

telemetry = configure("orders-etl", environment="production", version="1.0", log_level="debug")
assert_type(telemetry, Telemetry)
assert_type(telemetry.metrics_url, str | None)
assert_type(telemetry.flush(timeout=1.5), bool)

pipeline = Pipeline("orders", mode="stream", expected_interval=dt.timedelta(hours=24))
log = get_logger(__name__)
log.info("started", rows=3)

REJECTED = Counter("orders_rejected", "Orders rejected", ["reason"])
assert_type(REJECTED.labels("null"), Counter)
REJECTED.labels(reason="null").inc(2, exemplar={"trace_id": "abc"})
Gauge("size", "Size", multiprocess_mode="max").set(3)
Histogram("took", "Took", unit="seconds", buckets=(1, 2.5)).observe(0.3)
Summary("order", "Size of an order", unit="bytes").observe(10)
Info("build", "Build").info({"version": "1"})
Enum("state", "State", states=["on", "off"]).state("on")


@pipeline.stage
def extract_rows(path: str) -> Iterator[dict[str, int]]:
    yield {"id": len(path)}


@pipeline.stage(count=len)
def validate(rows: list[int]) -> list[int]:
    current_stage().dropped(1, reason="null_key")
    return rows


@pipeline.stage("named")
async def fetch(page: int) -> AsyncIterator[int]:
    yield page


@pipeline.run()
def main() -> int:
    return 0


assert_type(extract_rows("x"), "Iterator[dict[str, int]]")
assert_type(validate([1]), list[int])
assert_type(fetch(1), "AsyncIterator[int]")
assert_type(main(), int)

with pipeline.run("id", attributes={"a": 1}, links=[{}], parent={}, flush=False) as run:
    assert_type(run, Run)
    assert_type(run.records(), dict[str, int])
    with pipeline.stage("load") as stage:
        assert_type(stage, Stage)
        stage.records(3)
        stage.set_attribute("file", "x")
        stage.reads("s3://landing/orders.csv", Path("prices.csv"), ("snowflake://org", "A.B.C"))
        stage.reads("lines", schema={"price": "float64"})
        stage.writes("orders", columns={"total": [("lines", "price")]}, rows=3, size=120)
    with pipeline.batch([1, 2], links=[{}]) as records:
        assert_type(records, Batch)
        for _ in records:
            records.failed(reason="bad")


async def asynchronous() -> None:
    async with pipeline.run(), pipeline.stage("x"), pipeline.batch([1]) as batch:
        async for _ in batch:
            batch.skipped()


waiting: queue.Queue[int] = queue.Queue()
assert_type(pipeline.queue("parsed"), Queue)
pipeline.queue("parsed").watch(waiting)
pipeline.lag(dt.datetime.now(dt.UTC))

inject({})
with attached([("traceparent", b"")]):
    extract({})
assert_type(environment(), dict[str, str])
assert_type(kafka_headers(), list[tuple[str, bytes]])
assert_type(wrap(len)([1]), int)
with ThreadPoolExecutor(2) as pool:
    assert_type(pool.submit(len, [1]).result(), int)

server, thread = start_http_server(8000, addr="localhost")
server.shutdown()
write_to_textfile("orders.prom")
push_to_gateway("gateway:9091", "orders", grouping_key={"instance": "a"}, timeout=5)

with capture(fixed_ids=True, clock=ManualClock()) as captured:
    assert_type(captured, Capture)
    assert_type(captured.metric("x_total", status="success"), float | None)

with pipeline.stage("observe") as stage:
    checks = [NotNull("id", on_fail="break"), Between("amount", min=0, severity="critical")]
    assert_type(stage.observe([1], "orders", checks=checks, level="basic"), list[int])
    assert_type(stage.observe([1], Dataset("orders"), updated_at="at"), list[int])
assert_type(check([{"id": 1}], checks), list[CheckResult])
assert_type(load("checks.yaml"), list[Dataset])
register(Dataset("orders", checks=checks, freshness="26h"))()
