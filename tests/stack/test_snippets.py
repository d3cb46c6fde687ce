"""Configurations in the documentation are accepted, and name what the library prints."""

from __future__ import annotations

import datetime as dt
import json
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.stack import shipped
from tests.stack.build import COLLECTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DOCS = Path(__file__).parents[2] / "docs"
BEYOND = DOCS / "explanation" / "beyond-one-machine.md"
STDOUT = DOCS / "how-to" / "loki-from-stdout.md"

PROGRAM = """
from otel_pipeline import Pipeline, configure, get_logger

configure("orders-etl", environment="prod", log_format="json")
with (pipeline := Pipeline("orders")).run("run-1"), pipeline.stage("load"):
    get_logger("orders").info("loaded", rows=3)
"""


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found


OVERLAYS = [
    text for text in blocks(BEYOND, "yaml") if text.startswith("# otelcol --config=gateway.yaml")
]
OF_CONTRIB = [text for text in blocks(BEYOND, "yaml") if text.startswith("# contrib: ")]


def test_every_configuration_says_how_it_is_used() -> None:
    """Each one is a file for the gateway, or needs a collector with more in it."""
    assert len(OVERLAYS) == 4
    assert len(OF_CONTRIB) == 2
    assert len(blocks(BEYOND, "yaml")) == 6


@pytest.mark.parametrize("text", OVERLAYS)
def test_the_collector_accepts_a_file_for_the_gateway(
    need: Callable[..., list[Path]], tmp_path: Path, text: str
) -> None:
    """What the page changes of `gateway.yaml` is valid together with it."""
    [otelcol] = need("otelcol")
    program, base, own = shlex.split(text.splitlines()[0].removeprefix("# "))
    assert (program, base) == ("otelcol", "--config=gateway.yaml")
    (tmp_path / own.removeprefix("--config=")).write_text(text)
    # Without the TLS that this machine has no certificate for.
    configs = [COLLECTOR / "gateway.yaml", COLLECTOR / "gateway-compose.yaml"]
    result = subprocess.run(
        [otelcol, "validate", *(f"--config={config}" for config in configs), own],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
        env={"OTELCOL_STORAGE_DIR": str(tmp_path / "storage")},
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("text", OF_CONTRIB)
def test_a_configuration_for_contrib_is_whole(text: str) -> None:
    """What its pipelines name is declared in it, or in the file that it goes with."""
    config = yaml.safe_load(text)
    for pipeline in config["service"]["pipelines"].values():
        assert set(pipeline["exporters"]) <= set(config["exporters"])
        if "receivers" in config:
            assert set(pipeline["receivers"]) <= set(config["receivers"])


@cache
def printed() -> dict[str, Any]:
    """Return the line that the library prints."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "LOGS", "METRICS")},
    )
    [line] = [line for line in result.stdout.splitlines() if '"loaded"' in line]
    return json.loads(line)


def test_promtail_and_alloy_take_fields_that_are_printed() -> None:
    """Both make the same labels, those that Loki makes of OTLP and two more, of printed fields."""
    promtail, _, _ = (yaml.safe_load(text) for text in blocks(STDOUT, "yaml"))
    stages = {
        name: value
        for stage in promtail["scrape_configs"][0]["pipeline_stages"]
        for name, value in stage.items()
    }
    fields = stages["json"]["expressions"]
    assert set(fields.values()) <= set(printed())
    assert set(stages["labels"]) == set(fields) - {"timestamp"}
    assert stages["timestamp"] == {"source": "timestamp", "format": "RFC3339Nano"}

    [alloy] = [text for text in blocks(STDOUT, "text") if "loki.process" in text]
    in_alloy = dict(re.findall(r'^      (\w+) += "(\w+)",$', alloy, re.MULTILINE))
    assert set(in_alloy.values()) <= set(printed())
    kept = {"trace_id", "span_id", "run_id"}
    assert {name: field for name, field in in_alloy.items() if name not in kept} == fields
    labels = set(re.findall(r'^      (\w+) += "",$', alloy, re.MULTILINE))
    assert labels == set(stages["labels"])
    assert re.findall(r'(\w+) = ""[, ]', alloy[alloy.index("structured_metadata") :]) == [
        "trace_id",
        "span_id",
        "run_id",
    ]
    assert alloy.count("{") == alloy.count("}")


def test_the_labels_of_agents_are_those_of_otlp() -> None:
    """A query by service finds lines that came either way."""
    loki = yaml.safe_load(
        re.sub(r"\$\{\w+:-(.*?)\}", r"\1", (COLLECTOR / "loki" / "loki.yaml").read_text())
    )
    [config] = loki["limits_config"]["otlp_config"]["resource_attributes"]["attributes_config"]
    by_otlp = {name.replace(".", "_") for name in config["attributes"]}
    promtail = blocks(STDOUT, "yaml")[0]
    assert by_otlp - {"service_namespace"} == {
        name for name in ("deployment_environment_name", "service_name") if f"{name}:" in promtail
    }


def operators(config: dict[str, Any]) -> Iterator[str]:
    """Give the attributes that a filelog receiver's operators read."""
    yield from re.findall(r"attributes\.(\w+)", json.dumps(config["receivers"]["filelog"]))


def test_the_collector_takes_fields_that_are_printed() -> None:
    """The receiver reads fields that are there, and knows the levels that it would not know."""
    config = yaml.safe_load(blocks(STDOUT, "yaml")[1])
    assert set(operators(config)) <= set(printed())
    [parser] = [
        one for one in config["receivers"]["filelog"]["operators"] if one["type"] == "json_parser"
    ]
    assert parser["severity"]["mapping"] == {"warn": "warning", "fatal": "critical"}
    assert parser["timestamp"]["layout"] == "2006-01-02T15:04:05.999999999Z07:00"
    for name, length in {"trace_id": 32, "span_id": 16, "trace_flags": 2}.items():
        assert re.fullmatch(f"[0-9a-f]{{{length}}}", printed()[name])
    [pipeline] = config["service"]["pipelines"].values()
    assert pipeline["receivers"] == ["filelog"]


def test_the_time_that_is_printed_is_the_one_that_agents_read() -> None:
    """It is RFC 3339 with fractions, in UTC."""
    text = printed()["timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", text)
    assert dt.datetime.fromisoformat(text).tzinfo == dt.UTC


def test_the_derived_field_of_the_page_is_the_shipped_one() -> None:
    """What the page shows of Grafana's configuration is in it."""
    [field] = yaml.safe_load(blocks(STDOUT, "yaml")[2])["derivedFields"]
    [shipped_field] = [
        one
        for one in shipped.data_sources()["loki"]["jsonData"]["derivedFields"]
        if one["name"] == field["name"]
    ]
    assert field.items() <= shipped_field.items()
