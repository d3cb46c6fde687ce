"""What `otel_pipeline.config` promises."""

from __future__ import annotations

import base64
import dataclasses
import pickle
import subprocess
import sys
from datetime import timedelta
from importlib import metadata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

from otel_pipeline.config import (
    OPTIONS,
    BatchConfig,
    OtlpConfig,
    Row,
    examine,
    load,
    parse_duration,
    rows,
)
from otel_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from otel_pipeline.config import (
        Config,
    )


def problem(environ: dict[str, str] | None = None, **arguments: Any) -> str:
    """Return the message with which these settings are refused."""
    with pytest.raises(ConfigurationError) as caught:
        load(environ or {}, **arguments)
    return str(caught.value)


def row(config: Config, variable: str) -> Row:
    return next(row for row in rows(config) if row.variable == variable)


# --- defaults ------------------------------------------------------------------------------------


def test_without_settings_the_defaults_hold() -> None:
    """The whole default configuration is this."""
    config = load({})
    otlp = OtlpConfig(
        protocol="http/protobuf",
        endpoint="http://localhost:4318/v1/traces",
        explicit=False,
        headers={},
        timeout=10.0,
        compression="none",
        certificate=None,
        client_certificate=None,
        client_key=None,
        insecure=True,
    )
    assert dataclasses.asdict(config) | {"settings": None} == {
        "service_name": "unknown_service",
        "environment": None,
        "version": None,
        "resource_attributes": {"service.name": "unknown_service"},
        "resource_detectors": (),
        "disabled": False,
        "traces": {"exporters": ("otlp",), "otlp": dataclasses.asdict(otlp)},
        "metrics": {
            "exporters": ("prometheus",),
            "otlp": dataclasses.asdict(otlp) | {"endpoint": "http://localhost:4318/v1/metrics"},
        },
        "logs": {
            "exporters": ("otlp",),
            "otlp": dataclasses.asdict(otlp) | {"endpoint": "http://localhost:4318/v1/logs"},
        },
        "prometheus_host": "localhost",
        "prometheus_port": 9464,
        "prometheus_port_explicit": False,
        "sampler": "parentbased_always_on",
        "sampler_arg": 1.0,
        "propagators": ("tracecontext", "baggage"),
        "span_limits": {},
        "log_limits": {},
        "span_batch": {"delay": 5.0, "max_queue": 2048, "max_batch": 512},
        "log_batch": {"delay": 1.0, "max_queue": 2048, "max_batch": 512},
        "metric_export_interval": 60.0,
        "metric_export_timeout": 30.0,
        "temporality": "cumulative",
        "histogram_aggregation": "explicit_bucket_histogram",
        "exemplar_filter": "trace_based",
        "cardinality_limit": 1000,
        "textfile": None,
        "pushgateway": None,
        "log_format": None,
        "log_level": 20,
        "log_stream": "stdout",
        "log_rate_limit": None,
        "log_sample": 1.0,
        "log_follow_trace": False,
        "log_datadog": False,
        "redact": True,
        "redact_keys": (),
        "redact_allow": (),
        "shutdown_timeout": 5.0,
        "lineage": "auto",
        "spool_dir": "auto",
        "spool_max_bytes": 268435456,
        "spool_max_age": 86400.0,
        "local": False,
        "local_token": None,
        "quality_history": "auto",
        "config_file": None,
        "settings": None,
        "warnings": (),
    }
    assert set(config.sources.values()) == {"default"}


def test_local_sends_metrics_too_and_soon_and_what_is_set_goes_before() -> None:
    """OTEL_PIPELINE_LOCAL changes defaults alone, and says so; the token goes with what is sent."""
    config = load(
        {
            "OTEL_PIPELINE_LOCAL": "1",
            "OTEL_PIPELINE_LOCAL_TOKEN": "secret",
            "OTEL_BSP_SCHEDULE_DELAY": "777",
        }
    )
    assert config.metrics.exporters == ("prometheus", "otlp")
    assert (config.metric_export_interval, config.log_batch.delay) == (1.0, 0.2)
    assert config.span_batch.delay == 0.777
    assert config.sources["OTEL_METRICS_EXPORTER"] == "OTEL_PIPELINE_LOCAL"
    assert config.traces.otlp.headers == {"authorization": "Bearer secret"}
    assert not config.traces.otlp.explicit
    assert load({"OTEL_PIPELINE_LOCAL_TOKEN": "secret"}).traces.otlp.headers == {}


def test_every_default_is_accepted_by_its_own_parser() -> None:
    """A default given explicitly means the same as leaving the option out."""
    environ = {option.variable: option.default for option in OPTIONS}
    given = load(environ)
    explicit = dataclasses.replace(given.traces.otlp, explicit=False)
    assert dataclasses.replace(given.traces, otlp=explicit) == load({}).traces
    assert given.sampler == load({}).sampler


def test_no_option_is_declared_twice() -> None:
    """Variables and arguments are unique, and each option says what it means in a sentence."""
    assert len({option.variable for option in OPTIONS}) == len(OPTIONS)
    assert len({option.field for option in OPTIONS}) == len(OPTIONS)
    assert [option.variable for option in OPTIONS if not option.doc.endswith(".")] == []


def test_the_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `environ` the variables of the process count."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-process")
    assert load().service_name == "from-process"


@pytest.mark.parametrize("blank", ["", "  ", "\t"])
def test_a_blank_variable_counts_as_unset(blank: str) -> None:
    """The specification treats empty variables as unset."""
    config = load({"OTEL_TRACES_EXPORTER": blank, "OTEL_EXPORTER_OTLP_ENDPOINT": blank})
    assert config == load({})
    assert set(config.sources.values()) == {"default"}


def test_importing_the_configuration_is_light() -> None:
    """Reading the environment needs neither YAML nor the SDK nor difflib nor package metadata."""
    heavy = ["yaml", "jsonschema", "opentelemetry.sdk", "difflib", "importlib.metadata", "grpc"]
    code = (
        "import sys; before = set(sys.modules)\n"
        "import otel_pipeline.config._load as module; module.load({})\n"
        f"print([name for name in {heavy} if name in sys.modules and name not in before])"
    )
    # The package itself is not what is looked at here.
    code = f"import types, sys\n{_bare_package()}\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _bare_package() -> str:
    import otel_pipeline

    return (
        "package = types.ModuleType('otel_pipeline'); "
        f"package.__path__ = {list(otel_pipeline.__path__)!r}; "
        "sys.modules['otel_pipeline'] = package"
    )


# --- precedence ----------------------------------------------------------------------------------


def test_an_argument_goes_before_a_variable_and_that_before_the_default() -> None:
    """Each setting comes from the first source that has it, and says which."""
    environ = {"OTEL_PIPELINE_LOG_LEVEL": "debug", "OTEL_PIPELINE_LOG_STREAM": "stderr"}
    config = load(environ, log_level="error")
    assert (config.log_level, config.log_stream, config.log_format) == (40, "stderr", None)
    assert config.sources["OTEL_PIPELINE_LOG_LEVEL"] == "argument"
    assert config.sources["OTEL_PIPELINE_LOG_STREAM"] == "environment"
    assert config.sources["OTEL_PIPELINE_LOG_FORMAT"] == "default"


@pytest.mark.parametrize("nothing", [None, ""])
def test_an_argument_without_a_value_counts_as_not_given(nothing: object) -> None:
    """So a caller can pass on its own optional arguments."""
    config = load({"OTEL_SERVICE_NAME": "orders"}, service_name=nothing, environment=nothing)
    assert (config.service_name, config.environment) == ("orders", None)


def test_a_bad_variable_behind_an_argument_is_not_looked_at() -> None:
    """What nobody uses cannot stop the program."""
    config = load({"OTEL_TRACES_EXPORTER": "oltp"}, traces_exporter="console")
    assert config.traces.exporters == ("console",)


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        ({"traces_exporter": ["otlp", "console"]}, {"OTEL_TRACES_EXPORTER": "otlp,console"}),
        ({"redact": False}, {"OTEL_PIPELINE_REDACT": "off"}),
        ({"disabled": True}, {"OTEL_SDK_DISABLED": "TRUE"}),
        ({"prometheus_port": 0}, {"OTEL_EXPORTER_PROMETHEUS_PORT": "0"}),
        ({"sampler_arg": 0.25}, {"OTEL_TRACES_SAMPLER_ARG": "0.25"}),
        ({"redact_keys": {"b", "a"}}, {"OTEL_PIPELINE_REDACT_KEYS": "a,b"}),
        ({"redact_allow": ("a",)}, {"OTEL_PIPELINE_REDACT_ALLOW": " a ,"}),
        ({"spool_max_age": timedelta(hours=2)}, {"OTEL_PIPELINE_SPOOL_MAX_AGE": "2h"}),
        ({"spool_dir": PurePosixPath("/var/spool")}, {"OTEL_PIPELINE_SPOOL_DIR": "/var/spool"}),
        ({"textfile": PurePosixPath("/var/x.prom")}, {"OTEL_PIPELINE_TEXTFILE": "/var/x.prom"}),
        (
            {"pushgateway": "gateway:9091", "pushgateway_grouping": {"team": "a b"}},
            {
                "OTEL_PIPELINE_PUSHGATEWAY": "http://gateway:9091/",
                "OTEL_PIPELINE_PUSHGATEWAY_GROUPING": "team=a%20b",
            },
        ),
        ({"otlp_headers": {"a": "x y,z="}}, {"OTEL_EXPORTER_OTLP_HEADERS": "A=x%20y%2Cz%3D"}),
        ({"resource_attributes": {"n": 1}}, {"OTEL_RESOURCE_ATTRIBUTES": "n=1"}),
        # Lengths of time are in seconds as arguments, also where the variable is in milliseconds.
        ({"metric_export_interval": 1.5}, {"OTEL_METRIC_EXPORT_INTERVAL": "1500"}),
        ({"metric_export_interval": "2m"}, {"OTEL_METRIC_EXPORT_INTERVAL": "120000"}),
        ({"span_batch_delay": timedelta(seconds=2)}, {"OTEL_BSP_SCHEDULE_DELAY": "2000"}),
    ],
)
def test_an_argument_means_what_its_variable_means(
    arguments: dict[str, Any], environ: dict[str, str]
) -> None:
    """Python values and the text of a variable give equal configurations."""
    assert load({}, **arguments) == load(environ) != load({})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"servicename": "x"},
            "there is no argument 'servicename'; did you mean 'service_name'?",
        ),
        ({"enviroment": "x"}, "there is no argument 'enviroment'; did you mean 'environment'?"),
        ({"xyzzy": "x"}, "there is no argument 'xyzzy'"),
        ({"version": "1\udce9"}, "argument version='1\\udce9' is not UTF-8"),
        (
            {"log_level": "inof"},
            (
                "argument log_level='inof' is not one of debug, info, warning, warn, error, "
                "critical, fatal, a number from 0 to 100; did you mean 'info'?"
            ),
        ),
        (
            {"metric_export_interval": "soon"},
            (
                "argument metric_export_interval='soon' is not a duration; give seconds (90) or "
                "units (90s, 15m, 24h, 1d, 1h30m)"
            ),
        ),
        (
            {"prometheus_port": object},
            "argument prometheus_port=<class 'object'> is of type type, which no setting takes",
        ),
        (
            {"redact_keys": ["a,b"]},
            "argument redact_keys=['a,b'] has a comma in 'a,b'; give one item each",
        ),
        (
            {"otlp_headers": b"secret"},
            "argument otlp_headers='***' is of type bytes, which no setting takes",
        ),
    ],
)
def test_a_bad_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    """The message says which argument, its value and what is allowed."""
    assert problem(**arguments) == message


# --- bad values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        (
            "OTEL_TRACES_EXPORTER",
            "oltp",
            "is not one of otlp, console, none; did you mean 'otlp'?",
        ),
        ("OTEL_TRACES_EXPORTER", "x", "is not one of otlp, console, none"),
        (
            "OTEL_METRICS_EXPORTER",
            "prometeus,otlp",
            (
                "has 'prometeus', which is not one of prometheus, otlp, console, none; "
                "did you mean 'prometheus'?"
            ),
        ),
        (
            "OTEL_LOGS_EXPORTER",
            "otlp,none",
            "has 'none' beside others; give 'none' alone or leave it out",
        ),
        (
            "OTEL_LOGS_EXPORTER",
            ",",
            "is a list without an item; leave it unset for the default",
        ),
        (
            "OTEL_SDK_DISABLED",
            "yes",
            "is not one of true, false",
        ),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "http/json",
            "is not one of http/protobuf, grpc",
        ),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "is not above 0 seconds"),
        (
            "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT",
            "soon",
            "is not a duration; give seconds (90) or units (90s, 15m, 24h, 1d, 1h30m)",
        ),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such.pem", "is not a file that can be read"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "65536", "is not a whole number from 0 to 65535"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "-1", "is not a whole number from 0 to 65535"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "1_0", "is not a whole number from 0 to 65535"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.1", "is not a number from 0 to 1"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan", "is not a number from 0 to 1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0", "is not a number of milliseconds above 0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "5s", "is not a number of milliseconds above 0"),
        ("OTEL_PIPELINE_CARDINALITY_LIMIT", "0", "is not a whole number of at least 1"),
        (
            "OTEL_PIPELINE_LOG_FORMAT",
            "jsno",
            "is not one of auto, json, console; did you mean 'json'?",
        ),
        ("OTEL_PIPELINE_REDACT", "of", "is not one of on, off; did you mean 'off'?"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "many", "is not a whole number of at least 0"),
        (
            "OTEL_PROPAGATORS",
            "tracecontext,b3",
            "has 'b3'; installed are tracecontext, baggage, none",
        ),
        ("OTEL_RESOURCE_ATTRIBUTES", "team", "is not a list such as key=value,key2=value2"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=x", "is not a list such as key=value,key2=value2"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%ff", "has a percent-encoded part that is not UTF-8"),
        ("OTEL_SERVICE_NAME", "caf\udce9", "is not UTF-8"),
        (
            "OTEL_PIPELINE_TEXTFILE",
            "/var/orders.txt",
            "does not end in .prom, and node_exporter reads no other files",
        ),
        *(
            ("OTEL_PIPELINE_PUSHGATEWAY", url, "is not a URL such as http://localhost:9091")
            for url in ("ftp://gateway", "http://", "http://gateway/#x", "http://gate way")
        ),
        (
            "OTEL_PIPELINE_PUSHGATEWAY_GROUPING",
            "orders",
            "is not a list such as key=value,key2=value2",
        ),
        (
            "OTEL_PIPELINE_PUSHGATEWAY_GROUPING",
            "job=a,a-b=c",
            "has 'a-b', which is not the name of a label",
        ),
        (
            "OTEL_PIPELINE_PUSHGATEWAY_GROUPING",
            "job=",
            "has an empty job; leave it out for the service's name",
        ),
    ],
)
def test_a_bad_variable_is_named(variable: str, value: str, reason: str) -> None:
    """The message says which variable, its value, what is allowed and the nearest right word."""
    assert problem({variable: value}) == f"{variable}={value!r} {reason}"


@pytest.mark.parametrize(
    "endpoint", ["c:port", "http://", "ftp://c:4318", "http://c:99999", "http://c d", "http://[::1"]
)
def test_an_endpoint_must_be_a_url_or_host_and_port(endpoint: str) -> None:
    """What cannot be connected to is said at once."""
    assert problem({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}) == (
        f"OTEL_EXPORTER_OTLP_ENDPOINT={endpoint!r} is not a URL such as http://localhost:4318, "
        "nor host:port for grpc"
    )


def test_an_endpoint_without_a_scheme_is_only_for_grpc() -> None:
    """The message says what to put in front."""
    environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "c:4317"}
    assert problem(environ) == (
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT='c:4317' needs http:// or https:// in front for "
        "http/protobuf"
    )


def test_an_endpoint_that_no_signal_uses_that_way_is_fine() -> None:
    """Spans by grpc to `host:port`, and nothing else by OTLP, is a whole configuration."""
    config = load(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
            "OTEL_LOGS_EXPORTER": "none",
        }
    )
    assert config.traces.otlp.endpoint == "c:4317"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in problem({"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317"})


def test_all_problems_are_told_at_once() -> None:
    """Nobody has to fix one setting to hear of the next."""
    environ = {"OTEL_TRACES_EXPORTER": "oltp", "OTEL_BSP_SCHEDULE_DELAY": "-1"}
    assert problem(environ, log_stream="out") == (
        "3 settings cannot be used:\n"
        "  argument log_stream='out' is not one of stdout, stderr; did you mean 'stdout'?\n"
        "  OTEL_TRACES_EXPORTER='oltp' is not one of otlp, console, none; did you mean 'otlp'?\n"
        "  OTEL_BSP_SCHEDULE_DELAY='-1' is not a number of milliseconds above 0"
    )


def test_a_huge_value_is_cut_in_the_message() -> None:
    """A message stays readable whatever was given."""
    assert len(problem({"OTEL_TRACES_EXPORTER": "x" * 100_000})) < 100_000 / 100


def test_telemetry_that_is_off_cannot_stop_the_program() -> None:
    """With OTEL_SDK_DISABLED=true a bad value is only a warning."""
    config = load({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "oltp"})
    assert config.disabled
    assert config.warnings == (
        "OTEL_TRACES_EXPORTER='oltp' is not one of otlp, console, none; did you mean 'otlp'?",
    )


def test_examine_puts_defaults_in_place_of_what_cannot_be_used() -> None:
    """The problems are told by variable, and the rows show what was given."""
    examined = examine({"OTEL_PIPELINE_LOG_LEVEL": "inof", "OTEL_SERVICE_NAME": "orders"})
    assert examined.config.log_level == 20
    assert examined.config.service_name == "orders"
    assert list(examined.problems) == ["OTEL_PIPELINE_LOG_LEVEL"]
    shown = row(examined.config, "OTEL_PIPELINE_LOG_LEVEL")
    assert (shown.value, shown.source) == ("inof", "environment")


def test_an_unknown_variable_of_ours_is_a_warning() -> None:
    """A slip is pointed out, and does no harm."""
    config = load({"OTEL_PIPELINE_LOGLEVEL": "debug", "OTEL_PIPELINE_XYZZY": "1", "OTEL_X": "1"})
    assert config.warnings == (
        (
            "OTEL_PIPELINE_LOGLEVEL is no variable of otel_pipeline; "
            "did you mean 'OTEL_PIPELINE_LOG_LEVEL'?"
        ),
        "OTEL_PIPELINE_XYZZY is no variable of otel_pipeline",
    )


# --- service and resource ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "arguments", "name"),
    [
        ({}, {}, "unknown_service"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=a"}, {}, "a"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name="}, {}, "unknown_service"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=a", "OTEL_SERVICE_NAME": "b"}, {}, "b"),
        ({"OTEL_SERVICE_NAME": "b"}, {"service_name": "c"}, "c"),
        ({"OTEL_SERVICE_NAME": "b"}, {"resource_attributes": {"service.name": "d"}}, "d"),
    ],
)
def test_the_service_name_comes_from_the_first_that_has_it(
    environ: dict[str, str], arguments: dict[str, Any], name: str
) -> None:
    """Argument, then OTEL_SERVICE_NAME, then the resource attributes, then the default."""
    config = load(environ, **arguments)
    assert config.service_name == config.resource_attributes["service.name"] == name
    assert row(config, "OTEL_SERVICE_NAME").value == name


def test_environment_and_version_come_from_arguments_or_attributes() -> None:
    """An argument becomes an attribute; the attribute's old name is still understood."""
    attributes = "deployment.environment.name=prod,service.version=1"
    config = load({"OTEL_RESOURCE_ATTRIBUTES": attributes})
    assert (config.environment, config.version) == ("prod", "1")
    config = load({"OTEL_RESOURCE_ATTRIBUTES": attributes}, environment="test", version="2")
    assert (config.environment, config.version) == ("test", "2")
    assert config.resource_attributes == {
        "service.name": "unknown_service",
        "deployment.environment.name": "test",
        "service.version": "2",
    }
    shown = row(config, "OTEL_RESOURCE_ATTRIBUTES")
    assert shown.value == "deployment.environment.name=test,service.version=2"
    assert shown.source == "argument"
    old = load({"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=old"})
    assert old.environment == "old"


def test_resource_attributes_are_percent_decoded_and_added_to() -> None:
    """An argument adds to the variable, and wins where both have a key."""
    environ = {"OTEL_RESOURCE_ATTRIBUTES": " team = data%20eng , k8s.pod.name=a%2Cb,"}
    config = load(environ, resource_attributes={"team": "x=y", "n": 3})
    assert config.resource_attributes == {
        "service.name": "unknown_service",
        "team": "x=y",
        "k8s.pod.name": "a,b",
        "n": "3",
    }


def test_the_service_name_says_when_it_comes_from_the_resource_attributes() -> None:
    """The source of a value that follows from another variable is that variable."""
    config = load({"OTEL_RESOURCE_ATTRIBUTES": "service.name=a"})
    assert config.sources["OTEL_SERVICE_NAME"] == "OTEL_RESOURCE_ATTRIBUTES"


def test_resource_detectors_are_those_installed() -> None:
    """`otel` only reads variables that the configuration has read already."""
    config = load({"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "otel,process"})
    assert config.resource_detectors == ("process",)
    assert problem({"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "proces"}).endswith(
        "did you mean 'process'?"
    )


# --- exporters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "exporters"),
    [
        ("prometheus", ("prometheus",)),
        ("prometheus,otlp", ("prometheus", "otlp")),
        (" OTLP , console,otlp ", ("otlp", "console")),
        ("none", ()),
    ],
)
def test_exporters_are_a_list(given: str, exporters: tuple[str, ...]) -> None:
    """Case and spaces do not matter, each counts once, and `none` is an empty list."""
    assert load({"OTEL_METRICS_EXPORTER": given}).metrics.exporters == exporters


def test_a_general_endpoint_gets_the_path_of_each_signal() -> None:
    """The base URL keeps its own path and query."""
    config = load({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c:4318/base/?x=1"})
    assert config.traces.otlp.endpoint == "https://c:4318/base/v1/traces?x=1"
    assert config.metrics.otlp.endpoint == "https://c:4318/base/v1/metrics?x=1"
    assert config.logs.otlp.endpoint == "https://c:4318/base/v1/logs?x=1"
    assert config.logs.otlp.explicit
    assert not config.logs.otlp.insecure


def test_an_endpoint_of_one_signal_is_used_as_it_is() -> None:
    """It overrides the general one for that signal alone."""
    config = load(
        {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:4318/in",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
        }
    )
    assert config.traces.otlp.endpoint == "http://t:4318/in"
    assert config.metrics.otlp.endpoint == "http://c:4318/v1/metrics"


def test_each_signal_overrides_each_general_setting(tmp_path: Path) -> None:
    """All nine settings of OTLP have a form for one signal."""
    for name in ("ca", "cert", "key"):
        (tmp_path / name).touch()
    general = {
        "PROTOCOL": "http/protobuf",
        "ENDPOINT": "http://general:1",
        "HEADERS": "a=general",
        "TIMEOUT": "1",
        "COMPRESSION": "deflate",
        "INSECURE": "false",
    }
    own = {
        "PROTOCOL": "grpc",
        "ENDPOINT": "own:2",
        "HEADERS": "B=own%20value",
        "TIMEOUT": "2.5",
        "COMPRESSION": "gzip",
        "INSECURE": "true",
        "CERTIFICATE": str(tmp_path / "ca"),
        "CLIENT_CERTIFICATE": str(tmp_path / "cert"),
        "CLIENT_KEY": str(tmp_path / "key"),
    }
    environ = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in general.items()}
    environ |= {f"OTEL_EXPORTER_OTLP_LOGS_{name}": value for name, value in own.items()}
    config = load(environ)
    assert config.logs.otlp == OtlpConfig(
        protocol="grpc",
        endpoint="own:2",
        explicit=True,
        headers={"b": "own value"},
        timeout=2.5,
        compression="gzip",
        certificate=str(tmp_path / "ca"),
        client_certificate=str(tmp_path / "cert"),
        client_key=str(tmp_path / "key"),
        insecure=True,
    )
    assert config.traces.otlp == OtlpConfig(
        protocol="http/protobuf",
        endpoint="http://general:1/v1/traces",
        explicit=True,
        headers={"a": "general"},
        timeout=1.0,
        compression="deflate",
        certificate=None,
        client_certificate=None,
        client_key=None,
        insecure=True,
    )


def test_a_general_argument_goes_before_the_variable_of_one_signal() -> None:
    """The source decides first, then how special the setting is."""
    environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:4318/in"}
    config = load(environ, otlp_endpoint="http://c:4318")
    assert config.traces.otlp.endpoint == "http://c:4318/v1/traces"
    shown = row(config, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    assert (shown.value, shown.source) == (
        "http://c:4318/v1/traces",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    )


@pytest.mark.parametrize(
    ("endpoint", "switch", "insecure"),
    [
        ("", "", True),
        ("http://c:4317", "false", True),
        ("https://c:4317", "true", False),
        ("c:4317", "", False),
        ("c:4317", "true", True),
    ],
)
def test_the_scheme_decides_on_tls_before_the_switch(
    endpoint: str, switch: str, insecure: bool
) -> None:
    """OTEL_EXPORTER_OTLP_INSECURE only counts for an endpoint without a scheme."""
    environ = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_INSECURE": switch,
    }
    otlp = load(environ).traces.otlp
    assert otlp.insecure is insecure
    assert otlp.endpoint == (endpoint or "http://localhost:4317")


def test_the_default_endpoint_is_that_of_the_protocol() -> None:
    """Also where one signal has a protocol of its own."""
    config = load({"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc"})
    assert config.logs.otlp.endpoint == "http://localhost:4317"
    assert config.traces.otlp.endpoint == "http://localhost:4318/v1/traces"
    general = load({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert row(general, "OTEL_EXPORTER_OTLP_ENDPOINT").value == "http://localhost:4317"


@pytest.mark.parametrize("given", ["CLIENT_CERTIFICATE", "CLIENT_KEY"])
def test_certificate_and_key_of_the_client_go_together(given: str, tmp_path: Path) -> None:
    """One without the other is a slip."""
    (tmp_path / "file").touch()
    other = ({"CLIENT_CERTIFICATE", "CLIENT_KEY"} - {given}).pop()
    path = str(tmp_path / "file")
    assert problem({f"OTEL_EXPORTER_OTLP_{given}": path}) == (
        f"OTEL_EXPORTER_OTLP_{given}={path!r} needs OTEL_EXPORTER_OTLP_{other} too"
    )


def test_a_bad_key_is_told_once(tmp_path: Path) -> None:
    """That the certificate then lacks its key is not told as well."""
    (tmp_path / "cert").touch()
    environ = {
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(tmp_path / "cert"),
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/no/such",
    }
    examined = examine(environ)
    assert list(examined.problems) == ["OTEL_EXPORTER_OTLP_CLIENT_KEY"]
    assert examined.config.traces.otlp.client_certificate is None


# --- secrets -------------------------------------------------------------------------------------


def test_headers_are_decoded_and_never_shown() -> None:
    """Names are in lower case; neither rows nor the repr hold a value."""
    config = load({"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20s3cret, x-b=s3cret"})
    assert config.traces.otlp.headers == {"authorization": "Bearer s3cret", "x-b": "s3cret"}
    assert row(config, "OTEL_EXPORTER_OTLP_HEADERS").value == "Authorization=***,x-b=***"
    assert "s3cret" not in repr(config) + repr(rows(config)) + repr(config.settings)


@pytest.mark.parametrize(
    "value", ["s3cret", "a=s3cret,s3cret", "a b=s3cret", "a=s3cret%0d%0aX:1", "a=s3cret%ff"]
)
def test_headers_that_http_cannot_carry_are_refused_without_being_shown(value: str) -> None:
    """A header cannot smuggle in a line, and a message cannot leak a secret."""
    message = problem({"OTEL_EXPORTER_OTLP_HEADERS": value})
    assert message.startswith("OTEL_EXPORTER_OTLP_HEADERS='")
    assert "s3cret" not in message


@pytest.mark.parametrize(
    ("given", "endpoint", "shown"),
    [
        ("http://u:s3cret@c:4318", "http://c:4318/v1/traces", "http://***@c:4318"),
        ("https://s3cret@c/x", "https://c/x/v1/traces", "https://***@c/x"),
        ("http://c/?key=s3cret", "http://c/v1/traces?key=s3cret", "http://c/?***"),
    ],
)
def test_credentials_in_a_url_are_masked(given: str, endpoint: str, shown: str) -> None:
    """Rows show a URL without its credentials and its query."""
    config = load({"OTEL_EXPORTER_OTLP_ENDPOINT": given})
    assert config.traces.otlp.endpoint == endpoint
    assert row(config, "OTEL_EXPORTER_OTLP_ENDPOINT").value == shown
    assert "s3cret" not in repr(rows(config))


def test_credentials_of_a_url_become_a_header() -> None:
    """So nothing that names the endpoint can leak them; a header that was set wins."""
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://us%40er:p%3Aw@c:4318",
        "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "authorization=mine",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "u:p@c:4317",
    }
    config = load(environ)
    token = base64.b64encode(b"us@er:p:w").decode()
    assert config.traces.otlp.headers == {"authorization": f"Basic {token}"}
    assert config.traces.otlp.endpoint == "http://c:4318/v1/traces"
    assert config.logs.otlp.headers == {"authorization": "mine"}
    assert config.metrics.otlp.endpoint == "c:4317"
    assert "authorization" in config.metrics.otlp.headers


@pytest.mark.parametrize("url", ["ftp://u:s3@cret@c", "http://s3/cret@c", "http://u:s3?cret@c"])
def test_a_bad_url_is_masked_in_its_message(url: str) -> None:
    """Credentials stay out of messages too, also those that ought to be percent-encoded."""
    message = problem({"OTEL_EXPORTER_OTLP_ENDPOINT": url})
    scheme = url.partition(":")[0]
    assert message.startswith(f"OTEL_EXPORTER_OTLP_ENDPOINT='{scheme}://***@c' is not a URL")


# --- other settings ------------------------------------------------------------------------------


def test_batches_are_read_in_milliseconds() -> None:
    """The standard variables for spans and log records."""
    config = load(
        {
            "OTEL_BSP_SCHEDULE_DELAY": "250",
            "OTEL_BSP_MAX_QUEUE_SIZE": "10",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10",
            "OTEL_BLRP_SCHEDULE_DELAY": "0.5",
        }
    )
    assert config.span_batch == BatchConfig(delay=0.25, max_queue=10, max_batch=10)
    assert config.log_batch == BatchConfig(delay=0.0005, max_queue=2048, max_batch=512)


def test_a_batch_larger_than_its_queue_is_refused() -> None:
    """But a queue smaller than the default batch only makes the batch smaller."""
    assert problem({"OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "4096"}) == (
        "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE='4096' is more than OTEL_BLRP_MAX_QUEUE_SIZE=2048"
    )
    config = load({"OTEL_BSP_MAX_QUEUE_SIZE": "100"})
    assert config.span_batch == BatchConfig(delay=5.0, max_queue=100, max_batch=100)
    assert row(config, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE").value == "100"


@pytest.mark.parametrize(
    ("given", "level"),
    [
        ("DEBUG", 10),
        ("warn", 30),
        ("Warning", 30),
        ("fatal", 50),
        ("critical", 50),
        ("15", 15),
        ("0", 0),
    ],
)
def test_a_log_level_is_a_name_or_a_number(given: str, level: int) -> None:
    """As stdlib logging counts them."""
    assert load({"OTEL_PIPELINE_LOG_LEVEL": given}).log_level == level


def test_a_log_level_is_no_number_beyond_any_level() -> None:
    """Such a number is a slip."""
    assert "a number from 0 to 100" in problem({"OTEL_PIPELINE_LOG_LEVEL": "1000"})


@pytest.mark.parametrize(("given", "expected"), [("OFF", "off"), ("Auto", "auto"), ("/x", "/x")])
def test_the_spool_is_a_word_or_a_path(given: str, expected: str) -> None:
    """Words are understood in any case; paths stay as they are."""
    assert load({"OTEL_PIPELINE_SPOOL_DIR": given}).spool_dir == expected


@pytest.mark.parametrize("word", ["on", "TRUE", "yes", "1"])
def test_a_switch_of_ours_has_several_words(word: str) -> None:
    """Whichever way round somebody is used to."""
    assert load({"OTEL_PIPELINE_REDACT": word}).redact
    assert not load({"OTEL_PIPELINE_REDACT": "No"}).redact


@pytest.mark.parametrize("port", [0, 65535])
def test_every_port_may_be_asked_for(port: int) -> None:
    """From the one that stands for any free one to the last."""
    config = load({"OTEL_EXPORTER_PROMETHEUS_PORT": str(port)})
    assert (config.prometheus_port, config.prometheus_port_explicit) == (port, True)


def test_a_path_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the folder of the user."""
    monkeypatch.setenv("HOME", "/home/me")
    assert load({"OTEL_PIPELINE_SPOOL_DIR": "~/spool"}).spool_dir == "/home/me/spool"


def test_limits_that_were_set_are_kept_apart() -> None:
    """They are given as the SDK's SpanLimits and LogRecordLimits take them."""
    config = load(
        {
            "OTEL_ATTRIBUTE_COUNT_LIMIT": "7",
            "OTEL_SPAN_LINK_COUNT_LIMIT": "0",
            "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": "9",
        }
    )
    assert config.span_limits == {"max_attributes": 7, "max_links": 0}
    assert config.log_limits == {"max_attributes": 7, "max_attribute_length": 9}


def test_the_limits_have_the_names_of_the_sdk() -> None:
    """Each limit is an argument of the SDK's own class."""
    from opentelemetry.sdk._logs import LogRecordLimits
    from opentelemetry.sdk.trace import SpanLimits

    environ = {option.variable: "5" for option in OPTIONS if option.topic == "Limits"}
    config = load(environ)
    limits = SpanLimits(**config.span_limits)
    assert set(vars(limits).values()) == {5}
    assert set(vars(LogRecordLimits(**config.log_limits)).values()) == {5}


def test_propagators_may_be_those_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is not built in is looked up among the installed packages."""
    b3 = metadata.EntryPoint("b3", "b3:B3", "opentelemetry_propagator")
    monkeypatch.setattr(metadata, "entry_points", lambda **_: metadata.EntryPoints([b3]))
    assert load({"OTEL_PROPAGATORS": "b3,baggage"}).propagators == ("b3", "baggage")
    assert load({"OTEL_PROPAGATORS": "none"}).propagators == ()


# --- as a value ----------------------------------------------------------------------------------


def test_configurations_with_the_same_effect_are_equal() -> None:
    """Where a value came from makes no difference."""
    assert load({"OTEL_SERVICE_NAME": "a"}) == load({}, service_name="a")
    assert load({"OTEL_SERVICE_NAME": "a"}) != load({}, service_name="b")


def test_a_configuration_is_frozen_and_can_be_pickled() -> None:
    """A child process can be given the configuration of its parent."""
    config = load({"OTEL_EXPORTER_OTLP_HEADERS": "a=b"})
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    assert copy.sources == config.sources
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.service_name = "x"  # type: ignore[misc]


def test_rows_show_every_option_in_order() -> None:
    """Nothing that can be set stays hidden."""
    shown = rows(load({"OTEL_PIPELINE_SPOOL_MAX_AGE": "90s"}))
    assert [row.variable for row in shown] == [option.variable for option in OPTIONS]
    assert shown[-1].topic == "Limits"
    assert row(load({"OTEL_PIPELINE_SPOOL_MAX_AGE": "90s"}), "OTEL_PIPELINE_SPOOL_MAX_AGE") == Row(
        variable="OTEL_PIPELINE_SPOOL_MAX_AGE",
        value="90s",
        source="environment",
        doc="Oldest batch that the spool keeps: 90s, 15m, 24h, 1d.",
        default="24h",
        topic="Delivery",
    )


def test_only_options_with_a_mask_are_secret() -> None:
    """These are the ones that can hold credentials."""
    secret = {option.variable for option in OPTIONS if option.secret}
    assert secret == {
        f"OTEL_EXPORTER_OTLP_{signal}{name}"
        for signal in ("", "TRACES_", "METRICS_", "LOGS_")
        for name in ("ENDPOINT", "HEADERS")
    } | {"OTEL_PIPELINE_LOCAL_TOKEN", "OTEL_PIPELINE_PUSHGATEWAY"}


def test_credentials_of_a_gateway_are_kept_apart_and_masked() -> None:
    """What is shown of a Pushgateway has no password, and its job is the service's name."""
    config = load(
        {"OTEL_PIPELINE_PUSHGATEWAY": "https://me:p%40ssword9@gateway/base/"}, service_name="orders"
    )
    assert config.pushgateway is not None
    assert config.pushgateway.url == "https://gateway/base"
    assert config.pushgateway.grouping == {"job": "orders"}
    token = base64.b64encode(b"me:p@ssword9").decode()
    assert config.pushgateway.headers == {"authorization": f"Basic {token}"}
    shown = f"{config}{rows(config)}"
    assert "ssword9" not in shown
    assert token not in shown


# --- durations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (90, 90.0),
        (0.25, 0.25),
        (0, 0.0),
        ("90", 90.0),
        ("1e3", 1000.0),
        ("90s", 90.0),
        ("500ms", 0.5),
        ("15m", 900.0),
        ("24h", 86400.0),
        ("1d", 86400.0),
        ("1w", 604800.0),
        ("1h30m", 5400.0),
        (" 1H 30M ", 5400.0),
        ("1.5h", 5400.0),
        (timedelta(minutes=2), 120.0),
    ],
    ids=repr,
)
def test_a_duration_has_many_forms(given: Any, seconds: float) -> None:
    """Numbers are seconds; text may have units, which add up."""
    assert parse_duration(given) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "soon",
        "-5",
        "5 parsecs",
        "h",
        "1h30",
        "nan",
        "inf",
        "1e999",
        -1,
        float("nan"),
        10**400,
        True,
        None,
        [],
        timedelta(seconds=-1),
        "٣s",
    ],
    ids=lambda given: repr(given)[:20],
)
def test_anything_else_is_no_duration(given: Any) -> None:
    """The message shows the value and what is allowed."""
    with pytest.raises(ConfigurationError, match="is not a duration; give seconds") as caught:
        parse_duration(given)
    assert str(caught.value).startswith(repr(given)[:150])


# --- declarative configuration -------------------------------------------------------------------

FULL = """
file_format: "1.0"
disabled: false
resource:
  attributes_list: "team=data%20eng,service.version=0"
  attributes:
    - {name: service.name, value: orders}
    - {name: service.version, value: "2.0"}
    - {name: replicas, value: 3, type: int}
    - {name: absent, value: }
  detection/development:
    detectors: [{host: }, {service: }]
propagator:
  composite: [{baggage: }]
  composite_list: tracecontext
attribute_limits: {attribute_count_limit: 64}
tracer_provider:
  processors:
    - batch:
        schedule_delay: 2000
        export_timeout: 3000
        max_queue_size: 1000
        max_export_batch_size: 100
        exporter:
          otlp_http:
            endpoint: http://collector:4318/v1/traces
            compression: gzip
            timeout: 4000
            encoding: protobuf
            headers_list: "a=list,b=list"
            headers: [{name: A, value: "s3cret, too"}]
    - simple:
        exporter: {console: }
  limits: {event_count_limit: 5, attribute_value_length_limit: 6}
  sampler:
    parent_based:
      root: {trace_id_ratio_based: {ratio: 0.5}}
      remote_parent_sampled: {always_on: }
      remote_parent_not_sampled: {always_off: }
meter_provider:
  readers:
    - pull:
        exporter:
          prometheus/development:
            host: 0.0.0.0
            port: 0
            scope_info_enabled: false
            target_info_enabled/development: true
            translation_strategy: underscore_escaping_with_suffixes
    - periodic:
        interval: 5000
        timeout: 1000
        exporter:
          otlp_grpc:
            endpoint: collector:4317
            tls: {insecure: true}
            temporality_preference: low_memory
            default_histogram_aggregation: base2_exponential_bucket_histogram
  exemplar_filter: always_on
logger_provider:
  processors:
    - simple:
        exporter:
          otlp_http:
  limits: {attribute_count_limit: 7}
"""


@pytest.fixture
def declare(tmp_path: Path) -> Any:
    """Write a file of declarative configuration and return its path."""
    pytest.importorskip("opentelemetry.configuration")

    def write(text: str, name: str = "otel.yaml") -> str:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def refused(path: str) -> str:
    """Return why a file is refused, without its name."""
    return problem({"OTEL_CONFIG_FILE": path}).removeprefix(f"OTEL_CONFIG_FILE={path!r} ")


def test_a_file_configures_what_its_variables_would(declare: Any) -> None:
    """Everything that can be translated is."""
    path = declare(FULL)
    environ = {
        "OTEL_SERVICE_NAME": "orders",
        "OTEL_RESOURCE_ATTRIBUTES": "team=data%20eng,service.version=2.0,replicas=3",
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "host,service_instance",
        "OTEL_PROPAGATORS": "baggage,tracecontext",
        "OTEL_ATTRIBUTE_COUNT_LIMIT": "64",
        "OTEL_TRACES_EXPORTER": "otlp,console",
        "OTEL_BSP_SCHEDULE_DELAY": "2000",
        "OTEL_BSP_MAX_QUEUE_SIZE": "1000",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "gzip",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "4",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=s3cret%2C%20too,b=list",
        "OTEL_SPAN_EVENT_COUNT_LIMIT": "5",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "6",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.5",
        "OTEL_METRICS_EXPORTER": "prometheus,otlp",
        "OTEL_EXPORTER_PROMETHEUS_HOST": "0.0.0.0",
        "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
        "OTEL_METRIC_EXPORT_INTERVAL": "5000",
        "OTEL_METRIC_EXPORT_TIMEOUT": "1000",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "collector:4317",
        "OTEL_EXPORTER_OTLP_METRICS_INSECURE": "true",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "lowmemory",
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": (
            "base2_exponential_bucket_histogram"
        ),
        "OTEL_METRICS_EXEMPLAR_FILTER": "always_on",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "1",
        "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "7",
    }
    config = load({"OTEL_CONFIG_FILE": path})
    assert dataclasses.replace(config, config_file=None) == load(environ)
    assert config.config_file == path
    assert config.sources["OTEL_TRACES_EXPORTER"] == "file"
    assert config.sources["OTEL_CONFIG_FILE"] == "environment"


def test_a_file_in_json_is_read_too(declare: Any) -> None:
    """And a signal that it leaves out goes nowhere, as the specification has it."""
    config = load({"OTEL_CONFIG_FILE": declare('{"file_format": "1.0"}', "otel.json")})
    assert config.traces.exporters == config.metrics.exporters == config.logs.exporters == ()
    assert config.propagators == ()


def test_a_file_hides_standard_variables_but_not_ours(declare: Any) -> None:
    """Not even their mistakes count; our own variables and arguments still hold."""
    environ = {
        "OTEL_CONFIG_FILE": declare('file_format: "1.0"'),
        "OTEL_TRACES_EXPORTER": "oltp",
        "OTEL_SERVICE_NAME": "hidden",
        "OTEL_PIPELINE_LOG_LEVEL": "debug",
    }
    config = load(environ, logs_exporter="console")
    assert (config.service_name, config.traces.exporters) == ("unknown_service", ())
    assert (config.log_level, config.logs.exporters) == (10, ("console",))


def test_a_file_can_be_an_argument(declare: Any) -> None:
    """It goes before the variable."""
    path = declare("file_format: '1.0'\nresource: {attributes: [{name: service.name, value: a}]}")
    config = load({"OTEL_CONFIG_FILE": "/no/such"}, config_file=path)
    assert (config.service_name, config.config_file) == ("a", path)


def test_a_file_may_use_variables(declare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`${NAME}` is the only way in for the environment."""
    monkeypatch.setenv("MY_NAME", "from-environment")
    text = "file_format: '1.0'\nresource: {attributes: [{name: service.name, value: '${MY_NAME}'}]}"
    assert load({"OTEL_CONFIG_FILE": declare(text)}).service_name == "from-environment"


CONSOLE = "processors: [{simple: {exporter: {console: }}}]"


def test_a_file_without_a_sampler_leaves_the_default(declare: Any) -> None:
    """Which is the one that the specification names for files too."""
    path = declare(f"file_format: '1.0'\ntracer_provider: {{{CONSOLE}}}")
    assert load({"OTEL_CONFIG_FILE": path}).sampler == "parentbased_always_on"


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ("always_on: ", "always_on"),
        ("always_off: ", "always_off"),
        ("trace_id_ratio_based: {ratio: 0.5}", "traceidratio"),
        ("parent_based: {root: {always_off: }}", "parentbased_always_off"),
        ("parent_based: {root: {always_on: }}", "parentbased_always_on"),
    ],
)
def test_a_file_names_the_sampler(declare: Any, sampler: str, expected: str) -> None:
    """Each sampler that a variable can name."""
    text = f"file_format: '1.0'\ntracer_provider: {{{CONSOLE}, sampler: {{{sampler}}}}}"
    config = load({"OTEL_CONFIG_FILE": declare(text)})
    assert (config.sampler, config.traces.exporters) == (expected, ("console",))


UNSUPPORTED = """
file_format: "1.0"
mine: {}
resource:
  attributes: [{name: list, value: [a], type: string_array}]
  schema_url: http://schema
tracer_provider:
  processors:
    - mine: {}
    - simple: {exporter: {otlp_file/development: }}
    - batch: {schedule_delay: 1, exporter: {otlp_http: {encoding: json, headers_list: s3cret}}}
    - batch: {schedule_delay: 2, exporter: {otlp_http: }}
  id_generator: {random: }
  sampler: {mine: {}}
meter_provider:
  readers:
    - pull: {exporter: {mine: {}}}
    - pull: {exporter: {prometheus/development: {scope_info_enabled: true}}}
    - periodic: {exporter: {console: {temporality_preference: delta}}}
    - periodic: {exporter: {mine: {}}}
  views: [{selector: {}, stream: {}}]
"""


def test_what_no_variable_can_say_is_refused_by_name(declare: Any) -> None:
    """Nothing that a file asks for is left out in silence."""
    first, *others = refused(declare(UNSUPPORTED)).split("; ")
    assert first == "cannot be used here: resource.schema_url is not supported"
    assert others == [
        "resource.attributes list: a list is not supported",
        "tracer_provider.id_generator is not supported",
        "tracer_provider.processors[0].mine is not supported",
        "tracer_provider.processors[1].exporter.otlp_file/development is not supported",
        "tracer_provider.processors[2].exporter.otlp_http.encoding is not supported",
        (
            "tracer_provider.processors[2].exporter.otlp_http.headers_list is not a list such as "
            "key=value,key2=value2"
        ),
        "it has several values for OTEL_BSP_SCHEDULE_DELAY, which can only be one",
        "tracer_provider can have one exporter of each kind",
        "tracer_provider.sampler.mine is not supported",
        "meter_provider.views is not supported",
        "meter_provider.readers[0].pull.exporter.mine is not supported",
        (
            "meter_provider.readers[1].pull.exporter.prometheus/development.scope_info_enabled is "
            "not supported"
        ),
        (
            "meter_provider.readers[2].periodic.exporter.console.temporality_preference is not "
            "supported"
        ),
        "meter_provider.readers[3].periodic.exporter.mine is not supported",
        "mine is not supported",
    ]


@pytest.mark.parametrize(
    ("parent_based", "reason"),
    [
        (
            "root: {always_on: }, local_parent_sampled: {always_off: }",
            ".local_parent_sampled can only be always_on",
        ),
        (
            "root: {parent_based: {root: {always_on: }}}",
            ".root.parent_based needs a root that is not parent_based itself",
        ),
        (
            "remote_parent_sampled: {always_on: }",
            " needs a root that is not parent_based itself",
        ),
    ],
)
def test_a_sampler_by_parent_is_what_a_variable_can_name(
    declare: Any, parent_based: str, reason: str
) -> None:
    """Its root is a plain sampler, and a parent's decision is followed."""
    sampler = f"sampler: {{parent_based: {{{parent_based}}}}}"
    text = f"file_format: '1.0'\ntracer_provider: {{{CONSOLE}, {sampler}}}"
    path = "tracer_provider.sampler.parent_based"
    assert refused(declare(text)) == f"cannot be used here: {path}{reason}"


def test_a_bad_value_in_a_file_names_its_variable(declare: Any) -> None:
    """The same parsers check files and variables."""
    text = "file_format: '1.0'\nmeter_provider: {readers: [{periodic: {interval: 0, "
    assert problem({"OTEL_CONFIG_FILE": declare(text + "exporter: {console: }}}]}")}) == (
        "OTEL_METRIC_EXPORT_INTERVAL='0' is not a number of milliseconds above 0, "
        "in the configuration file"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "cannot be read: Failed to parse YAML"),
        ("", "cannot be read: Configuration file is empty"),
        ("file_format: '9.0'", "cannot be read: Unsupported file_format '9.0'"),
        ("file_format: '1.0'\ntracer_provider: s3cret", "cannot be read: Configuration does not"),
        ("file_format: '1.0'\nresource: {attributes: [{name: s3cret}]}", "cannot be read: Conf"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    declare: Any, text: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The message says why, shows nothing of what stands there, and is the only one."""
    message = refused(declare(text))
    assert message.startswith(reason)
    assert "s3cret" not in message
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_not_utf8_is_refused(declare: Any, tmp_path: Path) -> None:
    """Like any other that cannot be read."""
    declare("")
    (tmp_path / "otel.yaml").write_bytes(b"\xff\xfe\xfa")
    assert refused(str(tmp_path / "otel.yaml")).startswith("cannot be read: 'utf-8' codec")


def test_a_missing_file_is_refused() -> None:
    """Whether or not the package that reads files is installed."""
    assert refused("/no/such.yaml") == "is not a file that can be read"


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "opentelemetry.configuration", None)
    path = tmp_path / "otel.yaml"
    path.touch()
    message = refused(str(path))
    assert message.startswith("needs a package that is missing (")
    assert message.endswith('): pip install "otel-pipeline[config-file]"')
