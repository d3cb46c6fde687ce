"""The collector's files: valid, alike where they must be, and quiet by default."""

from __future__ import annotations

import os
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.stack.build import COLLECTOR

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

OTHERS = {"builder.yaml", "compose.yaml"}  # not for the collector to read
FILES = sorted(path.name for path in COLLECTOR.glob("*.yaml") if path.name not in OTHERS)
WHOLE = {"agent.yaml", "gateway.yaml", "local.yaml"}
#: An overlay changes the gateway, unless it is told here.
OVERLAYS = {"agent-no-token.yaml": ["agent.yaml"], "token-variable.yaml": ["agent.yaml"]}
VARIABLE = re.compile(r"\$\{env:(\w+)(?::-(.*?))?\}")


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((COLLECTOR / name).read_text(encoding="utf-8"))


def combinations() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [(name,) for name in FILES if name in WHOLE]
    for name in FILES:
        if name not in WHOLE:
            found += [(whole, name) for whole in OVERLAYS.get(name, ["gateway.yaml"])]
    return [
        *found,
        ("gateway.yaml", "token-variable.yaml"),
        ("gateway.yaml", "gateway-no-tls.yaml", "token-variable.yaml"),
        ("gateway.yaml", "gateway-no-token.yaml", "clickhouse.yaml"),
    ]


@pytest.mark.parametrize("names", combinations(), ids="+".join)
def test_a_shipped_configuration_is_valid(
    need: Callable[..., list[Path]], names: tuple[str, ...]
) -> None:
    """The collector takes each file as it stands, and each overlay on what it is for."""
    [otelcol] = need("otelcol")
    # Without a value such a variable makes the configuration invalid, and it says so.
    secrets = {"token-variable.yaml": {"OTELCOL_TOKEN": "x"}, "datadog.yaml": {"DD_API_KEY": "x"}}
    given = {key: value for name in names for key, value in secrets.get(name, {}).items()}
    result = subprocess.run(
        [otelcol, "validate", *(f"--config={COLLECTOR / name}" for name in names)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **given},
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_a_token_from_a_variable_must_be_there(need: Callable[..., list[Path]]) -> None:
    """A gateway whose token is in a variable that nobody set does not start."""
    [otelcol] = need("otelcol")
    files = ("gateway.yaml", "token-variable.yaml")
    result = subprocess.run(
        [otelcol, "validate", *(f"--config={COLLECTOR / name}" for name in files)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1
    assert "no bearer token provided" in result.stderr


def test_agent_and_gateway_mask_alike() -> None:
    """The rules of redaction are the same in both files."""
    near, front = load("agent.yaml"), load("gateway.yaml")
    for name in ("redaction/keys", "redaction", "transform/wrap", "transform/unwrap"):
        assert near["processors"][name] == front["processors"][name]


@pytest.mark.parametrize("name", [name for name in FILES if name != "local.yaml"])
def test_every_pipeline_masks(name: str) -> None:
    """What leaves a collector has gone through all that masks; only made metrics need none."""
    for pipeline, parts in load(name).get("service", {}).get("pipelines", {}).items():
        if parts["receivers"] == ["span_metrics"]:
            continue
        masks = ["redaction/keys", "redaction"]
        if not pipeline.startswith("metrics"):
            masks = ["transform/wrap", *masks, "transform/unwrap"]
        processors = parts["processors"]
        assert processors[0] == "memory_limiter"
        first = processors.index(masks[0])
        assert processors[first : first + len(masks)] == masks


@pytest.mark.parametrize("name", FILES)
def test_nothing_listens_beyond_localhost_by_default(name: str) -> None:
    """Each address at which a collector listens is of this machine, unless it is told else."""
    text = (COLLECTOR / name).read_text(encoding="utf-8")
    assert "0.0.0.0" not in text
    config = load(name)
    found = [
        *(config.get("receivers", {}).get("otlp", {}).get("protocols", {}).values()),
        *([config["extensions"]["health_check"]] if name in WHOLE else []),
    ]
    for listener in found:
        if "endpoint" in listener:
            default = VARIABLE.fullmatch(listener["endpoint"])
            assert default is not None
            assert default[2].startswith("localhost:")
    assert len(found) == 3 or name not in WHOLE


@pytest.mark.parametrize("name", FILES)
def test_every_variable_has_a_default(name: str) -> None:
    """No variable has to be set for a file to be read, but for a key that nobody can guess."""
    text = (COLLECTOR / name).read_text(encoding="utf-8")
    needed = {"datadog.yaml": ["DD_API_KEY"]}.get(name, [])
    assert [found[1] for found in VARIABLE.finditer(text) if found[2] is None] == needed


@pytest.mark.parametrize("name", ["agent.yaml", "gateway.yaml", "clickhouse.yaml"])
def test_every_exporter_keeps_and_retries_without_end(name: str) -> None:
    """Queues are on the disk, and there is no time after which something is given up."""
    for exporter in load(name)["exporters"].values():
        assert exporter["retry_on_failure"]["max_elapsed_time"] == 0
        assert exporter["sending_queue"]["storage"] == "file_storage"
        assert "batch" in exporter["sending_queue"]


def test_nothing_in_an_agent_answers_before_the_data_is_safe() -> None:
    """No processor of an agent, and none on the way of a pipeline's spans, keeps data back."""
    for name in ("agent.yaml", "gateway.yaml"):
        for pipeline, parts in load(name)["service"]["pipelines"].items():
            kinds = {part.partition("/")[0] for part in parts.get("processors", ())}
            keeps = kinds & {"batch", "groupbytrace", "tail_sampling"}
            assert keeps == ({"tail_sampling"} if pipeline == "traces/others" else set())


def test_the_guide_tells_every_variable() -> None:
    """The table of variables in the guide has each of them, with its default."""
    guide = (COLLECTOR.parent / "docs" / "how-to" / "run-the-collector.md").read_text("utf-8")
    for name in ("agent.yaml", "gateway.yaml", "clickhouse.yaml", "token-variable.yaml"):
        text = (COLLECTOR / name).read_text(encoding="utf-8")
        for variable, _ in VARIABLE.findall(text):
            assert f"`{variable}`" in guide, f"{variable} of {name}"


@pytest.mark.parametrize("which", ["agent", "gateway"])
def test_a_collector_without_its_token_does_not_start(
    need: Callable[..., list[Path]], tmp_path: Path, which: str
) -> None:
    """Where the file with the token is missing, the collector waits for it and then ends."""
    [otelcol] = need("otelcol")
    start = time.monotonic()
    result = subprocess.run(
        [otelcol, f"--config={COLLECTOR / which}.yaml"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={
            **os.environ,
            "OTELCOL_TOKEN_FILE": str(tmp_path / "absent"),
            "OTELCOL_STORAGE_DIR": str(tmp_path / "storage"),
            "OTELCOL_HEALTH": "127.0.0.1:0",
            "OTELCOL_METRICS_PORT": "0",
        },
    )
    assert result.returncode == 1
    assert "failed to read credentials file" in result.stderr
    assert 5 < time.monotonic() - start < 30
