"""Label sets beyond the limit are folded so that totals and error ratios stay right."""

from __future__ import annotations

import pytest

from otel_pipeline import diagnostics, semconv
from otel_pipeline.metrics import Counter, Registry, cardinality, from_spec
from otel_pipeline.metrics.cardinality import VOCABULARY_LIMIT
from otel_pipeline.semconv import OTHER


@pytest.fixture
def registry(caplog):
    diagnostics.forget("overflow:")
    diagnostics.LOGGER.addHandler(caplog.handler)
    registry = Registry()
    registry.limit = 100
    yield registry
    diagnostics.LOGGER.removeHandler(caplog.handler)


def totals(registry, name):
    (family,) = (family for family in registry.collect() if family.name == name)
    return {point.labels: point.value for point in family.points}


def test_within_the_limit_every_label_set_is_itself(registry, caplog):
    """The guard is silent up to the last label set allowed."""
    counter = Counter("c", "", ["user"], registry=registry)
    for _ in range(2):
        for user in range(100):
            counter.labels(user).inc()
    assert totals(registry, "c") == {(str(user),): 2 for user in range(100)}
    assert (len(registry.collect()), caplog.messages) == (1, [])


def test_beyond_it_the_widest_label_is_folded_and_the_narrow_ones_stay(registry):
    """The ratio of errors is the same as without a limit."""
    counter = Counter("c", "", ["user", "status"], registry=registry)
    for user in range(1000):
        counter.labels(f"u{user}", "ok").inc(3)
        counter.labels(f"u{user}", "error").inc()
    seen = totals(registry, "c")
    assert len(seen) == 102
    assert {status for user, status in seen if user == OTHER} == {"ok", "error"}
    by_status = dict.fromkeys(("ok", "error"), 0)
    for (_, status), value in seen.items():
        by_status[status] += value
    assert by_status == {"ok": 3000, "error": 1000}


def test_the_next_wide_label_follows(registry):
    """With two wide labels both are folded when one is not enough."""
    counter = Counter("c", "", ["user", "item", "status"], registry=registry)
    for number in range(500):
        counter.labels(f"u{number}", f"i{number % 50}", "ok").inc()
    seen = totals(registry, "c")
    assert len(seen) == 101
    assert seen[OTHER, OTHER, "ok"] == 400


@pytest.mark.parametrize("turn", [1, -1], ids=["widest first", "widest last"])
def test_the_widest_goes_first_and_a_fold_that_exists_is_enough(registry, turn):
    """A second label is kept where folding the widest leads to a series that is there."""
    counter = Counter("c", "", ["a", "b"], registry=registry)
    counter.labels(*(OTHER, "i1")[::turn])
    for number in range(99):
        counter.labels(*(f"u{number}", f"i{number % 40}")[::turn])
    counter.labels(*("new", "i1")[::turn]).inc()
    counter.labels(*("new", "i2")[::turn]).inc()
    seen = totals(registry, "c")
    assert (seen[(OTHER, "i1")[::turn]], seen[OTHER, OTHER]) == (1, 1)


@pytest.mark.parametrize("kept", ["pipeline", "stage"])
def test_pipeline_and_stage_are_kept(registry, kept):
    """However many there are up to the ceiling, each keeps its own series."""
    counter = Counter("c", "", [kept, "user"], registry=registry)
    for number in range(300):
        counter.labels(f"p{number}", f"u{number}").inc()
    assert len({labels[0] for labels in totals(registry, "c")}) == 300


def test_a_label_of_20_values_is_kept_and_one_of_21_is_not(registry):
    """The bound is on the values, the new one included."""
    registry.limit = 20
    twenty = Counter("twenty", "", ["a", "b"], registry=registry)
    for a in range(20):
        for b in range(10):
            twenty.labels(a, b).inc()
    assert len(totals(registry, "twenty")) == 200
    more = Counter("more", "", ["a"], registry=registry)
    for a in range(21):
        more.labels(a).inc()
    assert set(totals(registry, "more")) == {(str(a),) for a in range(20)} | {(OTHER,)}


def test_at_the_ceiling_everything_is_folded(registry, monkeypatch):
    """Memory is bounded whatever the labels are called, and the total is exact."""
    monkeypatch.setattr(cardinality, "_CEILING", 1000)
    counter = Counter("c", "", ["pipeline"], registry=registry)
    for number in range(3000):
        counter.labels(number).inc()
    seen = totals(registry, "c")
    assert len(seen) == 1001
    assert seen[OTHER,] == 2000


def test_a_folded_look_up_is_counted_and_said_once(registry, caplog):
    """The operator learns the metric, the label, its values and what to do."""
    counter = Counter("orders", "", ["user", "status"], registry=registry)
    for user in range(150):
        counter.labels(user, "ok").inc()
    counter.labels(user="0", status="ok").inc()
    assert totals(registry, "otel_pipeline_label_overflow") == {("orders_total",): 50}
    (message,) = caplog.messages
    assert message == (
        "metric orders_total has too many label sets: label 'user' has 100 values, and further "
        "ones are counted as '__other__'. Drop that label, or raise OTEL_PIPELINE_CARDINALITY_LIMIT"
    )


def test_a_child_that_was_folded_is_the_one_of_the_rest(registry):
    """Label sets that are folded alike share one child, which counts exactly."""
    registry.limit = 21
    counter = Counter("c", "", ["user"], registry=registry)
    for user in range(21):
        counter.labels(user)
    assert counter.labels("x") is counter.labels("y") is counter.labels(OTHER)


def test_room_that_is_made_is_used(registry):
    """After a removal new label sets are themselves again, and only what is left is counted."""
    counter = Counter("c", "", ["user"], registry=registry)
    for user in range(101):
        counter.labels(user).inc()
    registry.limit = 5
    counter.clear()
    for user in range(10):
        counter.labels(user).inc()
    assert totals(registry, "c") == {(str(user),): 1 for user in range(10)}


def test_a_label_of_the_vocabulary_may_have_a_limit_of_its_own(registry, caplog):
    """The reasons of rejected records stop at 50, pipelines and stages do not."""
    rejected = from_spec(semconv.RECORDS_REJECTED, registry)
    for stage in ("a", "b"):
        for reason in range(60):
            rejected.labels("orders", stage, f"r{reason}").inc()
    seen = totals(registry, "pipeline_records_rejected")
    assert seen["orders", "a", OTHER] == seen["orders", "b", OTHER] == 10
    assert len({reason for *_, reason in seen} - {OTHER}) == 50
    assert totals(registry, "otel_pipeline_label_overflow") == {
        ("pipeline_records_rejected_total",): 20
    }
    assert "label 'reason' has 50 values" in caplog.text


def test_the_vocabulary_has_a_budget_of_its_own(registry):
    """The user's limit does not fold the library's own series."""
    registry.limit = 1
    items = from_spec(semconv.ITEMS_PRODUCED, registry)
    for signal in range(VOCABULARY_LIMIT + 1):
        items.labels(f"s{signal}").inc()
    assert len(totals(registry, "otel_pipeline_items_produced")) == VOCABULARY_LIMIT + 1


def test_the_overflow_metric_does_not_count_itself(registry, caplog):
    """Its own fold is no look-up that anyone needs to hear of."""
    overflow = from_spec(semconv.LABEL_OVERFLOW, registry)
    for name in range(VOCABULARY_LIMIT + 5):
        overflow.labels(f"m{name}")
    assert ("otel_pipeline_label_overflow_total",) not in totals(
        registry, "otel_pipeline_label_overflow"
    )
    assert caplog.messages == []


def test_a_lower_limit_holds_from_then_on(registry):
    """`configure()` may set the limit after metrics were used."""
    counter = Counter("c", "", ["user"], registry=registry)
    for user in range(100):
        counter.labels(user)
    registry.limit = 5
    counter.labels("new").inc()
    counter.labels("0").inc()
    seen = totals(registry, "c")
    assert (len(seen), seen[OTHER,], seen["0",]) == (101, 1, 1)
