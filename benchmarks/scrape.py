"""A scrape of many series over HTTP, against prometheus_client's with the same series."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import prometheus_client

from benchmarks.measure import Side, benchmark
from otel_pipeline import start_http_server
from otel_pipeline.metrics import Counter, Histogram, Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measure import Benchmark, Work

__all__ = ["BENCHMARKS"]

_SAMPLES_OF_A_HISTOGRAM = 17


def _fill(counter: Any, histogram: Any, series: int) -> None:
    """Make so many series: half of them counters, half of them the samples of histograms."""
    histograms = series // 2 // _SAMPLES_OF_A_HISTOGRAM
    for number in range(histograms):
        histogram.labels("orders", f"stage {number}").observe(number / 1000)
    for number in range(series - histograms * _SAMPLES_OF_A_HISTOGRAM):
        counter.labels("orders", f"stage {number}", "success").inc(number)


def _getting(url: str) -> Work:
    def work(count: int) -> None:
        for _ in range(count):
            with urlopen(url) as page:
                page.read()

    return work


def _lines(url: str) -> int:
    with urlopen(url) as page:
        return sum(not line.startswith(b"#") for line in page)


def _scrape(series: int, title: str) -> Benchmark:
    @benchmark(f"scrape-{title}", f"scrape of {title} series", threads=(1,))
    def scrape() -> Iterator[list[Side]]:
        own, theirs = Registry(), prometheus_client.CollectorRegistry()
        own.limit = series
        labels = ["pipeline", "stage", "status"]
        _fill(
            Counter("records", "Records", labels, registry=own),
            Histogram("took", "Took", labels[:2], registry=own),
            series,
        )
        # The library has no `_created` series; with the same series means without them.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        _fill(
            prometheus_client.Counter("records", "Records", labels, registry=theirs),
            prometheus_client.Histogram("took", "Took", labels[:2], registry=theirs),
            series,
        )
        with ExitStack() as undo:
            urls = []
            for server, thread in (
                start_http_server(0, "127.0.0.1", own),
                prometheus_client.start_http_server(0, "127.0.0.1", theirs),
            ):
                undo.callback(thread.join)
                undo.callback(getattr(server, "server_close", lambda: None))
                undo.callback(server.shutdown)
                urls.append(f"http://127.0.0.1:{server.server_port}/metrics")
            if {_lines(url) for url in urls} != {series}:
                message = f"{title} series were meant, {list(map(_lines, urls))} are there"
                raise AssertionError(message)
            yield [
                Side("otel_pipeline", _getting(urls[0])),
                Side("prometheus_client", _getting(urls[1]), 1.0),
            ]
        prometheus_client.enable_created_metrics()  # type: ignore[no-untyped-call]

    return scrape


BENCHMARKS = (_scrape(1_000, "1k"), _scrape(10_000, "10k"), _scrape(100_000, "100k"))
