"""Instruments against those of prometheus_client."""

from __future__ import annotations

import random
from itertools import cycle, islice, repeat
from typing import TYPE_CHECKING, Any, Final

import prometheus_client

from benchmarks.measure import Side, benchmark
from otel_pipeline.metrics import Counter, Histogram, Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measure import Work

__all__ = ["BENCHMARKS", "incrementing", "peer_counter"]

_PEER: Final = "prometheus_client"
_LABELS: Final = ("pipeline", "stage", "status")
_NAME: Final = ("records", "Records processed")

#: Durations in seconds, spread over the default buckets.
_AMOUNTS: Final = [random.Random(4).lognormvariate(-2.5, 1.5) for _ in range(1000)]


def peer_counter() -> prometheus_client.Counter:
    """Return a bound counter of prometheus_client's."""
    parent = prometheus_client.Counter(*_NAME, _LABELS, registry=None)
    return parent.labels("orders", "load", "success")


def incrementing(child: Any) -> Work:
    """Make a work that adds one to a bound child."""

    def work(count: int) -> None:
        for _ in repeat(None, count):
            child.inc()

    return work


@benchmark("control", "prometheus_client's `inc()` against itself (noise)")
def control() -> Iterator[list[Side]]:
    """Show what the noise of the machine alone does to a ratio."""
    work = incrementing(peer_counter())
    yield [Side("the same", work), Side("the same", work)]


@benchmark("counter-inc", "bound `Counter.inc()`")
def counter_inc() -> Iterator[list[Side]]:
    """Add one to a bound child."""
    ours = Counter(*_NAME, _LABELS, registry=Registry()).labels("orders", "load", "success")
    yield [
        Side("otel_pipeline", incrementing(ours)),
        Side(_PEER, incrementing(peer_counter()), 0.45),
    ]


def _observing(child: Any) -> Work:
    def work(count: int) -> None:
        for amount in islice(cycle(_AMOUNTS), count):
            child.observe(amount)

    return work


@benchmark("histogram-observe", "bound `Histogram.observe()`")
def histogram_observe() -> Iterator[list[Side]]:
    """Observe amounts that fall into all buckets."""
    ours = Histogram("took", "Took", _LABELS, registry=Registry())
    peer = prometheus_client.Histogram("took", "Took", _LABELS, registry=None)
    values = ("orders", "load", "success")
    yield [
        Side("otel_pipeline", _observing(ours.labels(*values))),
        Side(_PEER, _observing(peer.labels(*values)), 0.4),
    ]


def _labelling(parent: Any) -> Work:
    def work(count: int) -> None:
        for _ in repeat(None, count):
            parent.labels("orders", "load", "success").inc()

    return work


@benchmark("labels-inc", "`labels(a, b, c).inc()`")
def labels_inc() -> Iterator[list[Side]]:
    """Look a child up and add one."""
    yield [
        Side("otel_pipeline", _labelling(Counter(*_NAME, _LABELS, registry=Registry()))),
        Side(_PEER, _labelling(prometheus_client.Counter(*_NAME, _LABELS, registry=None)), 0.3),
    ]


BENCHMARKS = (control, counter_inc, histogram_observe, labels_inc)
