"""The page of metrics: its two formats, and what is on it."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from otel_pipeline import diagnostics
from otel_pipeline.metrics import Counter, Enum, Gauge, Histogram, Info, Registry, Summary
from otel_pipeline.metrics.snapshots import (
    EnumPoint,
    Exemplar,
    Family,
    HistogramPoint,
    InfoPoint,
    Point,
    SummaryPoint,
)
from otel_pipeline.sdk.prometheus import Exposition
from otel_pipeline.sdk.sdk_reader import SnapshotReader

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(autouse=True)
def _say_everything_again() -> None:
    diagnostics.forget()


def family(name: str, kind: Any, *points: Any, labelnames: Any = (), **rest: Any) -> Family:
    return Family(name, kind, f"Help of {name}.", "", labelnames, points, name, "", **rest)


def page(*families: Family, accept: str = "", names: Any = ()) -> str:
    return Exposition(lambda: families).render(accept, names)[0].decode()


ALL_KINDS = (
    Family(
        "orders",
        "counter",
        'Orders: "all" of\nthem, \\ too.',
        "",
        ("shop", "channel"),
        (
            Point(("north", "web"), 3, 0, Exemplar(1, 1.5, TRACE, SPAN)),
            Point(('a "b"\\\n', ""), 2.5, 0, Exemplar(2.5, 2.0, labels=(("kürzel", '"ü"\n'),))),
        ),
        "orders",
        "",
    ),
    Family("queue", "gauge", "Waiting.", "", (), (Point((), float("nan"), 0),), "queue", ""),
    Family(
        "wait_seconds",
        "histogram",
        "Waits.",
        "seconds",
        ("a", "z"),
        (
            HistogramPoint(
                ("1", "2"), (1, 0, 2), 12.5, 0, (Exemplar(0.5, 1.25, TRACE, SPAN), None, None)
            ),
        ),
        "wait",
        "s",
        bounds=(1.0, 2.5),
    ),
    Family("size", "summary", "Sizes.", "", (), (SummaryPoint((), 2, 1e9, 0),), "size", ""),
    Family(
        "build", "info", "Build.", "", ("on",), (InfoPoint(("x",), {"tag": "1.0"}),), "build", ""
    ),
    Family("state", "enum", "", "", (), (EnumPoint((), "on"),), "state", "", states=("off", "on")),
)

TEXT_PAGE = r"""# HELP orders_total Orders: "all" of\nthem, \\ too.
# TYPE orders_total counter
orders_total{channel="web",shop="north"} 3.0
orders_total{channel="",shop="a \"b\"\\\n"} 2.5
# HELP queue Waiting.
# TYPE queue gauge
queue NaN
# HELP wait_seconds Waits.
# TYPE wait_seconds histogram
wait_seconds_bucket{a="1",le="1.0",z="2"} 1.0
wait_seconds_bucket{a="1",le="2.5",z="2"} 1.0
wait_seconds_bucket{a="1",le="+Inf",z="2"} 3.0
wait_seconds_count{a="1",z="2"} 3.0
wait_seconds_sum{a="1",z="2"} 12.5
# HELP size Sizes.
# TYPE size summary
size_count 2.0
size_sum 1e+09
# HELP build_info Build.
# TYPE build_info gauge
build_info{on="x",tag="1.0"} 1.0
# HELP state 
# TYPE state gauge
state{state="off"} 0.0
state{state="on"} 1.0
"""  # noqa: W291  an empty help text ends with a space

OPENMETRICS_PAGE = r"""# HELP orders Orders: \"all\" of\nthem, \\ too.
# TYPE orders counter
orders_total{channel="web",shop="north"} 3.0 # {span_id="b7ad6b7169203331",trace_id="0af7651916cd43dd8448eb211c80319c"} 1.0 1.5
orders_total{channel="",shop="a \"b\"\\\n"} 2.5 # {k_rzel="\"ü\"\n"} 2.5 2.0
# HELP queue Waiting.
# TYPE queue gauge
queue NaN
# HELP wait_seconds Waits.
# TYPE wait_seconds histogram
# UNIT wait_seconds seconds
wait_seconds_bucket{a="1",le="1.0",z="2"} 1.0 # {span_id="b7ad6b7169203331",trace_id="0af7651916cd43dd8448eb211c80319c"} 0.5 1.25
wait_seconds_bucket{a="1",le="2.5",z="2"} 1.0
wait_seconds_bucket{a="1",le="+Inf",z="2"} 3.0
wait_seconds_count{a="1",z="2"} 3.0
wait_seconds_sum{a="1",z="2"} 12.5
# HELP size Sizes.
# TYPE size summary
size_count 2.0
size_sum 1e+09
# HELP build Build.
# TYPE build info
build_info{on="x",tag="1.0"} 1.0
# HELP state 
# TYPE state stateset
state{state="off"} 0.0
state{state="on"} 1.0
# EOF
"""  # noqa: E501, W291  lines of the format


class TestFormats:
    """The same families in both formats."""

    def test_the_text_page(self) -> None:
        """Text 0.0.4, with types that it knows and without exemplars."""
        assert page(*ALL_KINDS) == TEXT_PAGE
        assert [metric.type for metric in parse_text(TEXT_PAGE)] == [
            "counter", "gauge", "histogram", "summary", "gauge", "gauge",
        ]  # fmt: skip

    def test_the_openmetrics_page(self) -> None:
        """OpenMetrics 1.0, with exemplars, units and an end."""
        assert page(*ALL_KINDS, accept=OPENMETRICS) == OPENMETRICS_PAGE
        assert [metric.type for metric in parse_openmetrics(OPENMETRICS_PAGE)] == [
            "counter", "gauge", "histogram", "summary", "info", "stateset",
        ]  # fmt: skip

    def test_of_all_instruments(self) -> None:
        """Instruments come out under prometheus_client's names and types."""
        registry = Registry()
        Counter("orders", "Orders", ["shop"], registry=registry).labels("north").inc()
        Gauge("queue", "Waiting", registry=registry).set(2)
        Histogram("wait", "Waits", buckets=(1, 2), unit="seconds", registry=registry).observe(1.5)
        Summary("size", "Sizes", unit="bytes", registry=registry).observe(3)
        Info("build", "Build", registry=registry).info({"tag": "1.0"})
        Enum("state", "State", states=["off", "on"], registry=registry).state("on")
        body = Exposition(registry.collect).render()[0].decode()
        assert [line for line in body.splitlines() if not line.startswith("#")] == [
            'orders_total{shop="north"} 1.0',
            "queue 2.0",
            'wait_seconds_bucket{le="1.0"} 0.0',
            'wait_seconds_bucket{le="2.0"} 1.0',
            'wait_seconds_bucket{le="+Inf"} 1.0',
            "wait_seconds_count 1.0",
            "wait_seconds_sum 1.5",
            "size_bytes_count 1.0",
            "size_bytes_sum 3.0",
            'build_info{tag="1.0"} 1.0',
            'state{state="off"} 0.0',
            'state{state="on"} 1.0',
        ]

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (0, "0.0"),
            (-3, "-3.0"),
            (999_999, "999999.0"),
            (1_000_000, "1e+06"),
            (1_234_567, "1.234567e+06"),
            (10**30, "1e+30"),
            (0.1, "0.1"),
            (1e-7, "1e-07"),
            (float("inf"), "+Inf"),
            (float("-inf"), "-Inf"),
            (True, "1.0"),
        ],
    )
    def test_numbers_are_written_as_go_does(self, value: float, shown: str) -> None:
        """Large ones have an exponent, as prometheus_client writes them."""
        assert page(family("x", "gauge", Point((), value, 0))).endswith(f"\nx {shown}\n")

    @pytest.mark.parametrize(
        ("value", "shown"), [("\\", r"\\"), ("\n", r"\n"), ('"', r"\""), ("\r", "\r")]
    )
    def test_label_values_are_escaped(self, value: str, shown: str) -> None:
        """Each of the three characters alone; all others stay as they are."""
        body = page(family("x", "gauge", Point((value,), 1, 0), labelnames=("l",)))
        assert body.endswith(f'\nx{{l="{shown}"}} 1.0\n')
        (found,) = parse_text(body)
        assert found.samples[0].labels == {"l": value}

    def test_a_histogram_with_negative_bounds_has_no_sum(self) -> None:
        """It could fall; OpenMetrics then has no count either."""
        waits = family(
            "x", "histogram", HistogramPoint((), (1, 2), -1, 0, (None, None)), bounds=(-1.0,)
        )
        text, openmetrics = page(waits), page(waits, accept=OPENMETRICS)
        assert "x_count 3.0" in text
        assert "x_sum" not in text
        assert "x_count" not in openmetrics
        list(parse_text(text))
        list(parse_openmetrics(openmetrics))

    def test_what_utf_8_and_prometheus_cannot_carry_is_replaced(self) -> None:
        """A lone surrogate or NUL in a help text or an info does not cost the page."""
        body = page(
            Family("a", "gauge", "x\ud800y", "", (), (Point((), 1, 0),), "a", ""),
            family("b", "info", InfoPoint((), {"k": "n\0l"})),
        )
        assert "# HELP a x\ufffdy\n" in body
        assert 'b_info{k="n\ufffdl"} 1.0' in body

    def test_exemplar_names_that_collide_do_not_spoil_the_line(self) -> None:
        """A label stands there once."""
        exemplar = Exemplar(1, 1.0, labels=(("é", "1"), ("ü", "2")))
        body = page(family("x", "counter", Point((), 1, 0, exemplar)), accept=OPENMETRICS)
        assert 'x_total 1.0 # {_="2"} 1.0 1.0\n' in body
        list(parse_openmetrics(body))


class TestNegotiation:
    """Which format a client gets."""

    @pytest.mark.parametrize(
        ("accept", "content_type"),
        [
            ("", "text/plain; version=0.0.4; charset=utf-8"),
            ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
            ("text/plain", "text/plain; version=0.0.4; charset=utf-8"),
            (
                "text/plain;version=1.0.0;escaping=allow-utf-8",
                "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            ),
            (
                "application/openmetrics-text",
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            ),
            (
                "application/openmetrics-text;version=0.0.1",
                "text/plain; version=0.0.4; charset=utf-8",
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8,text/plain;q=0.3",
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=dots",
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
            ),
            (
                "application/openmetrics-text;version=new",
                "text/plain; version=0.0.4; charset=utf-8",
            ),
        ],
    )
    def test_the_accept_header_decides(self, accept: str, content_type: str) -> None:
        """As prometheus_client does, but a wrong version is no failure and none is made up."""
        body, chosen = Exposition(list).render(accept)
        assert chosen == content_type
        assert body == (b"# EOF\n" if "openmetrics" in content_type else b"")

    @pytest.mark.parametrize(
        "accept", ["", "text/plain;version=1.0.0", "application/openmetrics-text;version=1.0.0"]
    )
    def test_the_type_is_that_of_prometheus_client(self, accept: str) -> None:
        """Where both speak a format they name it alike."""
        assert Exposition(list).render(accept)[1] == choose_encoder(accept)[1]


class TestNames:
    """Asking for some samples only."""

    def test_only_these_samples_are_shown(self) -> None:
        """A family without any of them is not there at all."""
        body = page(*ALL_KINDS, names=["orders_total", "wait_seconds_count", "build_info"])
        assert [line.split()[2] if line[0] == "#" else line for line in body.splitlines()] == [
            "orders_total",
            "orders_total",
            'orders_total{channel="web",shop="north"} 3.0',
            'orders_total{channel="",shop="a \\"b\\"\\\\\\n"} 2.5',
            "wait_seconds",
            "wait_seconds",
            'wait_seconds_count{a="1",z="2"} 3.0',
            "build_info",
            "build_info",
            'build_info{on="x",tag="1.0"} 1.0',
        ]

    def test_a_name_that_is_not_there_gives_an_empty_page(self) -> None:
        """A family's name is no sample's."""
        assert page(*ALL_KINDS, names=["orders"]) == ""


class TestSources:
    """What comes from where, and what happens when it fails."""

    def test_the_registry_wins_over_the_sdk(self, capsys: Any) -> None:
        """A family of the SDK that would show a name of the library's is left out, said once."""
        provider = MeterProvider(shutdown_on_exit=False)
        provider.add_metric_reader(reader := SnapshotReader())
        meter = provider.get_meter("scope")
        meter.create_counter("orders").add(7)
        meter.create_gauge("wait.count").set(7)
        meter.create_gauge("free").set(7)
        waits = family("wait", "histogram", HistogramPoint((), (1,), 1, 0, (None,)))
        exposition = Exposition(lambda: [family("orders", "gauge", Point((), 1, 0)), waits])
        exposition.attach(reader, None)
        for _ in range(2):
            assert [f.name for f in exposition.families()] == ["orders", "wait", "free"]
        said = capsys.readouterr().err
        assert (
            said.count("counter 'orders' is left out of /metrics: 'orders' is on the page already")
            == 1
        )
        assert said.count("gauge 'wait_count' is left out") == 1

    def test_one_name_twice_is_shown_once(self) -> None:
        """Even if the registry were to give it twice."""
        twice = family("x", "gauge", Point((), 1, 0))
        assert page(twice, twice).count("# TYPE x gauge") == 1

    def test_the_resource_is_target_info(self) -> None:
        """Its attributes are labels of one sample, in both formats."""
        reader = SnapshotReader()
        provider = MeterProvider(shutdown_on_exit=False)
        provider.add_metric_reader(reader)
        exposition = Exposition(list)
        undo = exposition.attach(reader, Resource({"service.name": "orders", "replicas": 2}))
        sample = 'target_info{replicas="2",service_name="orders"} 1.0\n'
        assert exposition.render()[0].decode() == (
            f"# HELP target_info Target metadata\n# TYPE target_info gauge\n{sample}"
        )
        assert exposition.render(OPENMETRICS)[0].decode() == (
            f"# HELP target Target metadata\n# TYPE target info\n{sample}# EOF\n"
        )
        undo()
        assert exposition.render()[0] == b""

    def test_a_source_that_fails_hides_no_other(self, capsys: Any) -> None:
        """What the others hold is shown; the failure is said once."""

        def fail() -> list[Family]:
            raise RuntimeError("no luck")

        provider = MeterProvider(shutdown_on_exit=False)
        provider.add_metric_reader(reader := SnapshotReader())
        provider.get_meter("scope").create_gauge("free").set(7)
        exposition = Exposition(fail)
        exposition.attach(reader, None)
        assert [f.name for f in exposition.families()] == ["free"]
        assert [f.name for f in exposition.families()] == ["free"]
        assert capsys.readouterr().err.count("no luck") == 1

    def test_an_sdk_that_fails_does_not_hide_the_registry(self, capsys: Any) -> None:
        """Neither does a page get lost when the SDK cannot be read."""

        class Broken(SnapshotReader):
            def read(self, timeout: float = 10.0) -> Any:
                raise TimeoutError("too slow")

        exposition = Exposition(lambda: [family("x", "gauge", Point((), 1, 0))])
        exposition.attach(Broken(), None)
        assert [f.name for f in exposition.families()] == ["x"]
        assert "too slow" in capsys.readouterr().err

    def test_a_family_that_cannot_be_rendered_is_left_out(self, capsys: Any) -> None:
        """The rest is a page all the same."""
        body = page(
            family("bad", "gauge", Point((), "no number", 0)),  # type: ignore[arg-type]
            family("huge", "counter", Point((), 10**400, 0)),
            family("good", "gauge", Point((), 1, 0)),
        )
        assert body == "# HELP good Help of good.\n# TYPE good gauge\ngood 1.0\n"
        said = capsys.readouterr().err
        assert "gauge 'bad' is left out of /metrics" in said
        assert "counter 'huge' is left out of /metrics" in said
