"""Facts about the configuration that hold for every input."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from hypothesis import example, given
from hypothesis import strategies as st

from otel_pipeline.config import OPTIONS, examine, load, parse_duration, rows
from otel_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from otel_pipeline.config import Config

VARIABLES = [option.variable for option in OPTIONS if option.variable != "OTEL_CONFIG_FILE"]
SECRETS = [option.variable for option in OPTIONS if option.variable.endswith("_HEADERS")]
# What stands in real variables, and anything else.
PLAUSIBLE = st.sampled_from(
    ["otlp", "none,otlp", "true", "0", "-1", "1e9", "24h", "a=b,c=%20", "http://u:p@c:1/x?y", "c:1"]
)
ANYTHING = st.text(max_size=30)
# Letters that are in no name, message or number, so that finding one means that it leaked.
SECRET = st.text("ÄÖÜ", min_size=4, max_size=10)


def outcome(environ: dict[str, str], **arguments: Any) -> tuple[Config | None, str]:
    """Return the configuration, or the message of the error instead."""
    try:
        return load(environ, **arguments), ""
    except ConfigurationError as error:
        return None, str(error)


@given(st.dictionaries(st.sampled_from(VARIABLES), PLAUSIBLE | ANYTHING, max_size=8))
@example({"OTEL_EXPORTER_OTLP_ENDPOINT": "//[", "OTEL_RESOURCE_ATTRIBUTES": "=,="})
def test_any_environment_gives_a_configuration_or_its_own_error(environ: dict[str, str]) -> None:
    """Whatever the variables hold, the only exception is a ConfigurationError that names one."""
    examined = examine(environ)
    assert len(rows(examined.config)) == len(OPTIONS)
    assert pickle.loads(pickle.dumps(examined.config)) == examined.config
    config, error = outcome(environ)
    assert (config is None) == bool(examined.problems)
    assert config is None or config == examined.config
    assert all(message in error for message in examined.problems.values())


@given(
    st.dictionaries(
        st.sampled_from([option.field for option in OPTIONS if option.field != "config_file"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | ANYTHING
        | st.binary(max_size=5)
        | st.lists(ANYTHING, max_size=3)
        | st.dictionaries(ANYTHING, ANYTHING | st.integers(), max_size=3),
        max_size=8,
    )
)
def test_any_arguments_give_a_configuration_or_its_own_error(arguments: dict[str, Any]) -> None:
    """Whatever is passed, the only exception is a ConfigurationError."""
    config, error = outcome({}, **arguments)
    assert (config is None) == bool(error)


@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda key: key.strip() and key != "service.name"),
        st.text(st.characters(codec="utf-8")).filter(lambda value: value.strip() == value),
        max_size=5,
    ).filter(lambda pairs: all(key.strip() == key for key in pairs))
)
def test_resource_attributes_arrive_as_they_were_given(attributes: dict[str, str]) -> None:
    """An argument survives the text form that it is checked in."""
    found = load({}, resource_attributes=attributes).resource_attributes
    assert found == {"service.name": "unknown_service"} | attributes


@given(st.sampled_from(SECRETS), SECRET, st.sampled_from(["a={}", "{}", "a=b,{}", "a b={}", "={}"]))
def test_no_header_value_is_ever_shown(variable: str, secret: str, form: str) -> None:
    """Neither an error nor a row nor a repr holds it, well-formed or not."""
    environ = {variable: form.format(secret)}
    examined = examine(environ)
    shown = [repr(examined.config), repr(rows(examined.config)), repr(examined.problems)]
    assert "".join(shown).isascii()


@given(SECRET, st.sampled_from(["http://{}@c", "http://u:{}@c:1/x", "ftp://u:{}@c", "{}@c:1"]))
def test_no_password_of_a_url_is_ever_shown(secret: str, form: str) -> None:
    """Neither an error nor a row nor a repr holds it."""
    for password in (secret, f"{secret}@{secret}", f"{secret}/x:@"):
        environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": form.format(password)}
        examined = examine(environ)
        shown = [repr(examined.config), repr(rows(examined.config)), repr(examined.problems)]
        assert "".join(shown).isascii()


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from("smhdw")), min_size=1, max_size=4)
)
def test_the_parts_of_a_duration_add_up(parts: list[tuple[int, str]]) -> None:
    """Text with units is the sum of its parts."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert parse_duration(text) == sum(number * units[unit] for number, unit in parts)


@given(ANYTHING | st.floats() | st.integers())
def test_a_duration_is_never_negative_nor_infinite(value: Any) -> None:
    """What is not a length of time is refused."""
    try:
        seconds = parse_duration(value)
    except ConfigurationError:
        return
    assert 0 <= seconds < float("inf")
