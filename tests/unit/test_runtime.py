"""What configure() builds of a configuration: samplers, resource, console beside OTLP."""

from __future__ import annotations

import dataclasses

import pytest
from opentelemetry.sdk.resources import Resource, ResourceDetector

from otel_pipeline import diagnostics
from otel_pipeline.config import load
from otel_pipeline.redaction import OFF
from otel_pipeline.sdk import resource as resources
from otel_pipeline.sdk.resource import make_resource
from otel_pipeline.sdk.sampling import make_sampler


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("always_on", "AlwaysOnSampler"),
        ("always_off", "AlwaysOffSampler"),
        ("traceidratio", "TraceIdRatioBased{0.25}"),
        ("parentbased_always_on", "ParentBased{root:AlwaysOnSampler"),
        ("parentbased_always_off", "ParentBased{root:AlwaysOffSampler"),
        ("parentbased_traceidratio", "ParentBased{root:TraceIdRatioBased{0.25}"),
    ],
)
def test_samplers_have_the_names_of_the_specification(name: str, words: str) -> None:
    """OTEL_TRACES_SAMPLER and its argument choose OpenTelemetry's own samplers."""
    config = load({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": "0.25"})
    assert make_sampler(config).get_description().startswith(words)


class Machine(ResourceDetector):
    """A detector that knows something, and something that was configured otherwise."""

    def detect(self) -> Resource:
        return Resource({"machine.kind": "vm", "service.version": "detected"})


class Entry:
    """An entry point."""

    def __init__(self, name: str, load: object) -> None:
        self.name = name
        self.load = lambda: load


def broken() -> None:
    raise RuntimeError("no such cloud")


def test_detectors_add_to_the_resource(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Those asked for run, what is configured wins, and one that fails is said once."""
    entries = [Entry("machine", Machine), Entry("cloud", broken), Entry("other", broken)]
    monkeypatch.setattr(resources, "entry_points", lambda **_: entries)
    diagnostics.forget("detector:")
    config = dataclasses.replace(load({}, version="1.0"), resource_detectors=("machine", "cloud"))
    found = make_resource(config, OFF).attributes
    assert found["machine.kind"] == "vm"
    assert found["service.version"] == "1.0"
    assert found["telemetry.sdk.name"] == "opentelemetry"
    said = capfd.readouterr().err
    assert said.count("no such cloud") == 1
    assert "'cloud'" in said
