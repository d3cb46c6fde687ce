"""What the OpenTelemetry SDK recorded, as families of a Prometheus page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from otel_pipeline import diagnostics
from otel_pipeline.metrics.names import otel_name
from otel_pipeline.metrics.snapshots import HistogramPoint
from otel_pipeline.sdk.prometheus import Exposition
from otel_pipeline.sdk.sdk_reader import SnapshotReader, families_from_sdk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.metrics.snapshots import Family

CUMULATIVE = AggregationTemporality.CUMULATIVE


class Sdk:
    """A meter provider, the reader on it, and the page made of what it holds."""

    def __init__(self, *views: View) -> None:
        self.provider = MeterProvider(shutdown_on_exit=False, views=views)
        self.reader = SnapshotReader()
        self.provider.add_metric_reader(self.reader)
        self.exposition = Exposition(list)
        self.exposition.attach(self.reader, None)

    def meter(self, name: str = "scope") -> Any:
        return self.provider.get_meter(name)

    def text(self) -> str:
        body = self.exposition.render()[0].decode()
        list(parse_text(body))
        list(parse_openmetrics(self.exposition.render("application/openmetrics-text")[0].decode()))
        return body

    def lines(self) -> list[str]:
        return [line for line in self.text().splitlines() if not line.startswith("#")]


@pytest.fixture
def sdk() -> Iterator[Sdk]:
    diagnostics.forget()
    made = Sdk()
    yield made
    made.provider.shutdown()


def snapshot(*metrics: Metric) -> MetricsData:
    scope = ScopeMetrics(InstrumentationScope("scope"), metrics, "")
    return MetricsData([ResourceMetrics(Resource({}), [scope], "")])


def counter(name: str, attributes: Any, value: Any = 1, unit: str = "") -> Metric:
    point = NumberDataPoint(attributes, 0, 0, value)
    return Metric(name, "", unit, Sum([point], CUMULATIVE, is_monotonic=True))


class TestFaultsOfTheUpstreamExporter:
    """Each of its known faults cannot be reached."""

    def test_a_second_scope_keeps_its_own_label_names(self, sdk: Sdk) -> None:
        """Values never land under label names of the scope that came first."""
        sdk.meter("a").create_counter("jobs").add(1, {"queue": "fast"})
        sdk.meter("b").create_counter("jobs").add(2, {"region": "eu", "zone": "1"})
        assert sdk.lines() == [
            'jobs_total{queue="fast"} 1.0',
            'jobs_total{region="eu",zone="1"} 2.0',
        ]

    def test_another_description_makes_no_second_family(self, sdk: Sdk) -> None:
        """HELP and TYPE of a name stand there once, with the first help text."""
        sdk.meter("a").create_counter("jobs", description="First").add(1, {"n": "1"})
        sdk.meter("b").create_counter("jobs", description="Second").add(1, {"n": "2"})
        assert sdk.text().splitlines() == [
            "# HELP jobs_total First",
            "# TYPE jobs_total counter",
            'jobs_total{n="1"} 1.0',
            'jobs_total{n="2"} 1.0',
        ]

    def test_a_counter_with_and_without_total_is_one_family(self, sdk: Sdk) -> None:
        """`records_total` and `records` do not become two families of one name."""
        sdk.meter().create_counter("records_total").add(1, {"n": "1"})
        sdk.meter().create_counter("records").add(1, {"n": "2"})
        assert sdk.text().count("# TYPE records_total") == 1

    def test_fifty_flushes_leave_one_line_for_a_series(self, sdk: Sdk) -> None:
        """Flushing the provider collects, but only the newest snapshot is shown."""
        jobs = sdk.meter().create_counter("jobs")
        for _ in range(50):
            jobs.add(1)
            sdk.provider.force_flush()
            sdk.reader.force_flush()
        assert sdk.lines() == ["jobs_total 50.0"]

    def test_an_exponential_histogram_is_shown_in_classic_buckets(self) -> None:
        """It does not make the page fail, and its buckets lie on powers of two."""
        sdk = Sdk(View(instrument_name="*", aggregation=ExponentialBucketHistogramAggregation()))
        sizes = sdk.meter().create_histogram("size", unit="By")
        for value in (0, 1, 4, 4):
            sizes.record(value)
        counts = {line.split()[0]: float(line.split()[1]) for line in sdk.lines()}
        assert counts['size_bytes_bucket{le="0.0"}'] == 1
        assert counts['size_bytes_bucket{le="1.0"}'] == 2
        assert counts['size_bytes_bucket{le="2.0"}'] == 2
        assert counts['size_bytes_bucket{le="4.0"}'] == 4
        assert counts["size_bytes_count"] == 4
        assert counts["size_bytes_sum"] == 9

    def test_keys_that_become_the_same_label_are_joined(self, sdk: Sdk) -> None:
        """`k.a` and `k_a` make one label with both values, in the order of the keys."""
        sdk.meter().create_counter("jobs").add(1, {"k_a": "2", "k.a": "1"})
        assert sdk.lines() == ['jobs_total{k_a="1;2"} 1.0']

    def test_an_attribute_called_le_does_not_spoil_a_histogram(self, sdk: Sdk) -> None:
        """The label of the buckets is theirs alone."""
        sizes = sdk.meter().create_histogram("size", explicit_bucket_boundaries_advisory=[1])
        sizes.record(1, {"le": "x"})
        assert sdk.lines() == [
            'size_bucket{key_le="x",le="1.0"} 1.0',
            'size_bucket{key_le="x",le="+Inf"} 1.0',
            'size_count{key_le="x"} 1.0',
            'size_sum{key_le="x"} 1.0',
        ]

    def test_neither_scope_nor_resource_stands_on_a_series(self, sdk: Sdk) -> None:
        """Their attributes are no labels."""
        sdk.provider.get_meter("scope", "1.0", attributes={"a": "b"}).create_counter("jobs").add(1)
        assert sdk.lines() == ["jobs_total 1.0"]

    def test_bounds_are_floats_in_both_formats(self, sdk: Sdk) -> None:
        """A bound is written `1.0` however it was declared."""
        sizes = sdk.meter().create_histogram("size", explicit_bucket_boundaries_advisory=[1])
        sizes.record(1)
        openmetrics = sdk.exposition.render("application/openmetrics-text")[0].decode()
        assert 'le="1.0"' in sdk.text()
        assert 'le="1.0"' in openmetrics


class TestNames:
    """Names follow OpenTelemetry's Prometheus compatibility specification."""

    @pytest.mark.parametrize(
        ("name", "unit", "shown"),
        [
            ("http.requests", "", "http_requests_total"),
            ("requests", "{request}", "requests_total"),
            ("requests", "1", "requests_total"),
            ("load", "s", "load_seconds_total"),
            ("load.seconds", "s", "load_seconds_total"),
            ("load.seconds.total", "s", "load_seconds_total"),
            ("seconds.spent", "s", "seconds_spent_total"),
            ("sent", "By", "sent_bytes_total"),
            ("speed", "m/s", "speed_meters_per_second_total"),
            ("rate", "{request}/s", "rate_per_second_total"),
            ("rate", "By/min", "rate_bytes_per_min_total"),
            ("things", "widgets", "things_widgets_total"),
            ("things", "odd unit!", "things_odd_unit_total"),
            ("a..b__c", "", "a_b_c_total"),
            ("1st", "", "_1st_total"),
            ("größe", "", "gr_e_total"),
            ("_total", "", "__total"),
            ("", "", "__total"),
        ],
    )
    def test_of_counters(self, name: str, unit: str, shown: str) -> None:
        """Characters that Prometheus lacks become `_`; units and `_total` are added once."""
        (family,) = families_from_sdk(snapshot(counter(name, {}, unit=unit)))
        assert f"{family.name}_total" == shown

    def test_a_gauge_of_unit_1_is_a_ratio(self, sdk: Sdk) -> None:
        """`_ratio` is added to gauges only, not to a sum that may fall."""
        sdk.meter().create_gauge("used", unit="1").set(0.5)
        sdk.meter().create_up_down_counter("open", unit="1").add(1)
        assert sdk.lines() == ["used_ratio 0.5", "open 1.0"]

    def test_the_unit_line_is_there_when_the_name_ends_with_it(self, sdk: Sdk) -> None:
        """OpenMetrics wants a UNIT to be the end of the name."""
        sdk.meter().create_gauge("load", unit="s").set(1)
        sdk.meter().create_gauge("seconds.idle", unit="s").set(1)
        families = {family.name: family.unit for family in sdk.exposition.families()}
        assert families == {"load_seconds": "seconds", "seconds_idle": ""}

    @pytest.mark.parametrize(
        "unit",
        """amperes bytes celsius days gibibytes gigabytes grams hertz hours joules kibibytes
        mebibytes megabytes meters microseconds milliseconds minutes nanoseconds percent seconds
        terabytes volts watts ratio widgets""".split(),
    )
    def test_of_the_library_survive_opentelemetry(self, sdk: Sdk, unit: str) -> None:
        """What an instrument of the library is called in OpenTelemetry leads back to its name."""
        name, ucum = otel_name(f"load_{unit}", unit, "gauge")
        sdk.meter().create_gauge(name, unit=ucum).set(1)
        assert sdk.lines() == [f"load_{unit} 1.0"]


class TestLabels:
    """Attributes become labels that Prometheus takes."""

    @pytest.mark.parametrize(
        ("attributes", "labels"),
        [
            ({"http.method": "GET"}, {"http_method": "GET"}),
            ({"1st": "x"}, {"_1st": "x"}),
            ({"é": "ü"}, {"_": "ü"}),
            ({"": "x"}, {"_": "x"}),
            ({"__name__": "x"}, {"_name_": "x"}),
            ({"job": "x", "le": "1"}, {"job": "x", "le": "1"}),
            ({"empty": "", "full": "x"}, {"full": "x"}),
            ({"yes": True, "n": 1}, {"yes": "true", "n": "1"}),
            ({"f": 0.5, "none": None}, {"f": "0.5", "none": "null"}),
            ({"list": ["a", "ü"]}, {"list": '["a", "ü"]'}),
            ({"bad": "a\0b\ud800"}, {"bad": "a\ufffdb\ufffd"}),
            ({"object": float}, {"object": "\"<class 'float'>\""}),
            ({3: "x"}, {"_3": "x"}),
        ],
    )  # fmt: skip
    def test_of_a_counter(self, attributes: Any, labels: dict[str, str]) -> None:
        """Names are made legal, values text; an empty value is the same as none."""
        (family,) = families_from_sdk(snapshot(counter("jobs", attributes)))
        (point,) = family.points
        assert dict(zip(family.labelnames, point.labels, strict=True)) == labels

    def test_a_value_that_cannot_be_printed_is_marked(self) -> None:
        """A broken `__str__` does not cost the series."""

        class Broken:
            def __str__(self) -> str:
                raise RuntimeError

        (family,) = families_from_sdk(snapshot(counter("jobs", {"x": Broken()})))
        assert family.points[0].labels == ("<unprintable Broken>",)


class TestClashes:
    """What cannot stand on one page together."""

    def test_the_same_series_of_two_scopes_adds_up(self, sdk: Sdk, capsys: Any) -> None:
        """Counters, histograms and sums add up, a gauge shows the later; it is said once."""
        for scope, amount in (("a", 1), ("b", 2)):
            meter = sdk.meter(scope)
            meter.create_counter("jobs").add(amount)
            meter.create_up_down_counter("open").add(amount)
            meter.create_gauge("load").set(amount)
            meter.create_histogram("size", explicit_bucket_boundaries_advisory=[1]).record(amount)
        expected = [
            "jobs_total 3.0",
            "open 3.0",
            "load 2.0",
            'size_bucket{le="1.0"} 1.0',
            'size_bucket{le="+Inf"} 2.0',
            "size_count 2.0",
            "size_sum 3.0",
        ]
        assert sdk.lines() == expected
        assert sdk.lines() == expected
        assert capsys.readouterr().err.count("metric 'jobs': several scopes") == 1

    def test_a_histogram_with_other_bounds_is_left_out_of_the_same_series(
        self, sdk: Sdk, capsys: Any
    ) -> None:
        """Buckets that do not fit cannot be added; with labels of its own it stands beside."""
        for scope, bound in (("a", 1), ("b", 2)):
            meter = sdk.meter(scope)
            sizes = meter.create_histogram("size", explicit_bucket_boundaries_advisory=[bound])
            sizes.record(bound)
            sizes.record(bound, {"scope": scope})
        assert [line for line in sdk.lines() if "_count" not in line and "_sum" not in line] == [
            'size_bucket{le="1.0"} 1.0',
            'size_bucket{le="+Inf"} 1.0',
            'size_bucket{le="1.0",scope="a"} 1.0',
            'size_bucket{le="+Inf",scope="a"} 1.0',
            'size_bucket{le="2.0",scope="b"} 1.0',
            'size_bucket{le="+Inf",scope="b"} 1.0',
        ]
        assert "other bucket bounds" in capsys.readouterr().err

    def test_another_type_of_a_name_is_left_out(self, sdk: Sdk, capsys: Any) -> None:
        """The first type of a name wins; the other is said once."""
        sdk.meter("a").create_gauge("jobs").set(1)
        sdk.meter("b").create_histogram("jobs").record(1)
        assert sdk.lines() == ["jobs 1.0"]
        assert "histogram 'jobs' is left out of /metrics" in capsys.readouterr().err

    def test_a_metric_of_a_kind_that_nobody_knows_is_left_out(self, capsys: Any) -> None:
        """The others stay."""
        diagnostics.forget()
        strange: Any = Metric("strange", "", "", None)  # type: ignore[arg-type]
        families = families_from_sdk(snapshot(strange, counter("jobs", {})))
        assert [family.name for family in families] == ["jobs"]
        assert "strange is left out of /metrics" in capsys.readouterr().err


def exponential(**changes: Any) -> Family:
    fields: dict[str, Any] = {
        "attributes": {},
        "start_time_unix_nano": 0,
        "time_unix_nano": 0,
        "count": 0,
        "sum": 0,
        "scale": 0,
        "zero_count": 0,
        "positive": Buckets(0, []),
        "negative": Buckets(0, []),
        "flags": 0,
        "min": 0,
        "max": 0,
    }
    point = ExponentialHistogramDataPoint(**(fields | changes))
    data = ExponentialHistogram([point], CUMULATIVE)
    (family,) = families_from_sdk(snapshot(Metric("size", "", "", data)))
    return family


def buckets(family: Family) -> dict[float, int]:
    (point,) = family.points
    assert isinstance(point, HistogramPoint)
    return dict(zip((*family.bounds, math.inf), point.counts, strict=True))


class TestExponentialHistograms:
    """Classic buckets in place of exponential ones."""

    def test_without_observations_there_is_one_bound(self) -> None:
        """An empty one is still a histogram."""
        assert buckets(exponential()) == {0.0: 0, math.inf: 0}

    def test_buckets_keep_their_counts(self) -> None:
        """Each count is found under its bucket's upper bound; gaps are there with 0."""
        family = exponential(count=7, zero_count=1, positive=Buckets(-1, [2, 0, 4]))
        assert buckets(family) == {0.0: 1, 0.5: 0, 1.0: 2, 2.0: 0, 4.0: 4, math.inf: 0}

    def test_finer_buckets_are_merged(self) -> None:
        """A scale above the finest shown is coarsened, exactly."""
        family = exponential(count=16, scale=5, positive=Buckets(0, [1] * 16))
        assert buckets(family) == {0.0: 0, 1.0: 0, 2**0.25: 8, 2**0.5: 8, math.inf: 0}

    def test_a_wide_range_has_a_bounded_number_of_buckets(self) -> None:
        """From the smallest to the largest float there are 40 buckets at most."""
        counts = [1] * 2046
        family = exponential(count=2046, scale=0, positive=Buckets(-1022, counts))
        shown = buckets(family)
        assert len(shown) <= 43
        assert sum(shown.values()) == 2046

    def test_what_is_above_all_floats_is_in_the_last_bucket(self) -> None:
        """A bound that is no float is infinity."""
        assert buckets(exponential(count=3, positive=Buckets(1023, [3])))[math.inf] == 3

    def test_negative_values_are_below_zero(self) -> None:
        """They share the bucket of 0, so that the count stays right."""
        family = exponential(count=3, zero_count=1, negative=Buckets(0, [2]))
        assert buckets(family) == {0.0: 3, math.inf: 0}

    def test_bounds_of_two_scrapes_match(self) -> None:
        """The coarser grid is part of the finer one."""
        fine = exponential(count=4, scale=2, positive=Buckets(0, [1] * 4))
        coarse = exponential(count=1, scale=0, positive=Buckets(0, [1]))
        assert set(coarse.bounds) <= set(fine.bounds)


class TestExemplars:
    """Spans that stand for many."""

    def test_of_counters_and_histograms_are_shown(self, sdk: Sdk) -> None:
        """Each carries the ids of the span, and attributes that a view left out."""
        tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
        jobs = sdk.meter().create_counter("jobs")
        sizes = sdk.meter().create_histogram("size", explicit_bucket_boundaries_advisory=[1])
        with tracer.start_as_current_span("work") as span:
            jobs.add(3)
            sizes.record(2)
        context = span.get_span_context()
        body = sdk.exposition.render("application/openmetrics-text")[0].decode()
        list(parse_openmetrics(body))
        ids = f'# {{span_id="{context.span_id:016x}",trace_id="{context.trace_id:032x}"}}'
        assert f"jobs_total 3.0 {ids} 3.0 " in body
        assert f'size_bucket{{le="+Inf"}} 1.0 {ids} 2.0 ' in body
        assert 'size_bucket{le="1.0"} 0.0\n' in body

    def test_labels_that_are_too_long_are_left_out(self) -> None:
        """The ids are kept: together an exemplar's labels have 128 characters."""
        sdk = Sdk(View(instrument_name="jobs", attribute_keys=set()))
        tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
        with tracer.start_as_current_span("work"):
            sdk.meter().create_counter("jobs").add(1, {"short": "x"})
        assert 'short="x"' in sdk.exposition.render("application/openmetrics-text")[0].decode()
        with tracer.start_as_current_span("work"):
            sdk.meter().create_counter("jobs").add(1, {"long": "x" * 100})
        body = sdk.exposition.render("application/openmetrics-text")[0].decode()
        assert "trace_id" in body
        assert "xxx" not in body


class TestReader:
    """The reader on the SDK's provider."""

    def test_before_anything_was_recorded_there_is_nothing(self, sdk: Sdk) -> None:
        """Nothing is no error."""
        assert families_from_sdk(sdk.reader.read()) == []

    def test_removed_from_its_provider_it_reads_nothing(self, sdk: Sdk, capsys: Any) -> None:
        """And says nothing."""
        sdk.meter().create_counter("jobs").add(1)
        assert sdk.reader.read() is not None
        sdk.provider.remove_metric_reader(sdk.reader)
        assert sdk.reader.read() is None
        assert capsys.readouterr().err == ""

    def test_values_are_totals(self, sdk: Sdk) -> None:
        """Reading takes nothing away."""
        jobs = sdk.meter().create_counter("jobs")
        jobs.add(1)
        sdk.lines()
        jobs.add(1)
        assert sdk.lines() == ["jobs_total 2.0"]

    def test_the_page_agrees_with_the_snapshot(self, sdk: Sdk) -> None:
        """Start times and OpenTelemetry's names are kept for other readers."""
        sdk.meter().create_counter("jobs.done", unit="s").add(1)
        data = sdk.reader.read()
        assert data is not None
        (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
        start = metric.data.data_points[0].start_time_unix_nano
        (family,) = families_from_sdk(data)
        assert (family.otel_name, family.otel_unit) == ("jobs.done", "s")
        assert family.points[0].start == start  # type: ignore[union-attr]
