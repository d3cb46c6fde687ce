"""The files of the compose stack are sound, and name each other rightly; nothing is run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from scripts import alert_rules
from tests.stack import shipped
from tests.stack.build import COLLECTOR, PROGRAMS
from tests.stack.shipped import PROVISIONING

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICES: dict[str, dict[str, Any]] = shipped.compose()["services"]
#: They run to do something for the collector, and are no servers.
HELPERS = {"collector-health", "collector-volume"}

PROGRAM = """
from otel_pipeline import Pipeline, configure, get_logger

configure()
with (pipeline := Pipeline("orders")).run("run-1"), pipeline.batch(range(1000)) as records:
    for record in records:
        pass
    get_logger("orders").info("loaded", rows=1000)
"""


def test_every_image_has_its_version() -> None:
    """No image is the latest, and those of one program are the same."""
    images = {name: service["image"] for name, service in SERVICES.items()}
    for image in images.values():
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", image), image
    assert images["collector-health"] == images["collector-volume"] == images["alertmanager"]


def test_the_images_are_the_versions_that_are_tested() -> None:
    """What tests run natively is what compose pulls; Prometheus's module is numbered otherwise."""
    version = PROGRAMS["prometheus"].version  # 0.315.0 is release 3.15.0
    major, minor = version.split(".")[1][0], int(version.split(".")[1][1:])
    assert SERVICES["prometheus"]["image"].endswith(f":v{major}.{minor}.{version.split('.')[2]}")
    assert SERVICES["alertmanager"]["image"].endswith(f":v{PROGRAMS['alertmanager'].version}")
    assert SERVICES["loki"]["image"].endswith(f":{PROGRAMS['loki'].version}")
    assert SERVICES["collector"]["image"].endswith(f"-contrib:{PROGRAMS['otelcol'].version}")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_bounded(name: str) -> None:
    """It has limits of memory and processors, and its own log cannot fill the disk."""
    service = SERVICES[name]
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory"}
    assert float(limits["cpus"]) <= 2
    if name != "collector-volume":
        assert service["restart"] == "unless-stopped"
        assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_do_little(name: str) -> None:
    """It writes to its volume and /tmp, has no capability, and is not root but once at a start."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    if name == "collector-volume":
        assert service["cap_add"] == ["CHOWN"]
        assert service["network_mode"] == "none"
    else:
        assert not {"cap_add", "user", "network_mode"} & set(service)


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_this_machine_only(name: str) -> None:
    """Nobody on the network reaches what has no password."""
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+:-(\d+)\}:\1", port), port


def test_published_ports_differ() -> None:
    """Two services that want one port would not start."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len({port.split(":-")[1] for port in ports}) == len(ports) == 7


def test_every_server_says_how_it_is() -> None:
    """Each has a health check with a command that its image has; the collector's is beside it."""
    checks = {
        name: service["healthcheck"]["test"][1]
        for name, service in SERVICES.items()
        if "healthcheck" in service
    }
    assert checks == {
        "alertmanager": "/bin/wget",  # busybox
        "collector-health": "/bin/wget",
        "grafana": "wget",  # Alpine
        "loki": "/usr/bin/loki",  # nothing else is in its image
        "prometheus": "/bin/wget",
        "tempo": "/tempo",  # nothing else is in its image
    }


def test_compose_can_wait_for_all() -> None:
    """`up --wait` takes no end of a service and no missing health check for a failure."""
    once = [name for name, service in SERVICES.items() if "restart" not in service]
    assert once == ["collector-volume"]
    assert SERVICES["collector"]["depends_on"] == {
        "collector-volume": {"condition": "service_completed_successfully"}
    }
    checks = [service.get("healthcheck", {}) for service in SERVICES.values()]
    assert not [check for check in checks if "disable" in check or "NONE" in check.get("test", [])]


def test_volumes_are_declared_and_used() -> None:
    """Data is in named volumes, one for each server."""
    named = {
        source
        for name in SERVICES
        for source in shipped.mounts(name).values()
        if not source.startswith("./")
    }
    assert named == set(shipped.compose()["volumes"]) == set(SERVICES) - HELPERS


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_there_and_cannot_be_written(name: str) -> None:
    """Docker would make a folder of a file that is missing, and the program would not start."""
    for volume in SERVICES[name].get("volumes", []):
        source, _, mode = volume.split(":") if volume.count(":") == 2 else (volume, "", "")
        if source.startswith("./"):
            assert mode == "ro", volume
            assert (COLLECTOR / source).exists(), volume


def test_files_that_commands_name_are_mounted() -> None:
    """Each path on a command line is that of a mounted file, or of one in a mounted folder."""
    for name, service in SERVICES.items():
        for argument in service.get("command", []):
            for path in re.findall(r"=(/etc/\S+)", argument):
                [file] = [
                    COLLECTOR / source / path[len(target) :].lstrip("/")
                    for target, source in shipped.mounts(name).items()
                    if path == target or path.startswith(f"{target}/")
                ]
                assert file.is_file() or file.name == "gateway.yaml", path


def test_compose_itself_takes_the_file() -> None:
    """Docker Compose reads it, where it is installed; no engine is needed."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        if subprocess.run([*command, "version"], capture_output=True, check=False).returncode:
            continue
        result = subprocess.run(
            [*command, "--file", shipped.COMPOSE, "config", "--quiet"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (result.returncode, result.stderr) == (0, "")
        return
    pytest.skip("there is no Docker Compose")


def test_everything_has_an_end() -> None:
    """Each program that keeps data deletes what is too old."""
    prometheus = SERVICES["prometheus"]["command"]
    assert "--storage.tsdb.retention.time=15d" in prometheus
    assert "--storage.tsdb.retention.size=8GB" in prometheus
    assert "--data.retention=120h" in SERVICES["alertmanager"]["command"]
    loki = yaml.safe_load((COLLECTOR / "loki" / "loki.yaml").read_text())
    assert loki["compactor"]["retention_enabled"] is True
    assert loki["limits_config"]["retention_period"] == "336h"
    tempo = yaml.safe_load((COLLECTOR / "tempo" / "tempo.yaml").read_text())
    assert tempo["overrides"]["defaults"]["compaction"]["block_retention"] == "336h"
    assert tempo["overrides"]["defaults"]["metrics_generator"]["processors"] == []


def test_the_alert_rules_are_those_that_the_command_writes() -> None:
    """What is shipped is neither older than the code nor changed by hand."""
    wanted = alert_rules.shipped()
    assert {path: path.read_text(encoding="utf-8") for path in wanted} == dict(wanted)
    found = {
        path
        for folder in ("prometheus/rules", "alertmanager", "loki/rules")
        for path in (COLLECTOR / folder).rglob("*.yml")
    }
    assert found - set(wanted) == {COLLECTOR / "prometheus/rules/stack.yml"}


def test_targets_are_services_of_the_stack() -> None:
    """Prometheus scrapes every server, at the port where it listens."""
    found = set()
    for name in ("alertmanager", "collector", "stack"):
        [group] = yaml.safe_load((COLLECTOR / f"prometheus/targets/{name}.yml").read_text())
        found |= {target.split(":")[0] for target in group["targets"]}
    assert found - {"localhost"} | {"prometheus"} == set(SERVICES) - HELPERS


def references(value: Any) -> Iterator[str]:
    """Give each uid of a data source that is named anywhere in a value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in {"datasourceUid", "alertmanagerUid"}:
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_data_sources_are_the_servers_of_the_stack() -> None:
    """Each has a uid of its own, the address of a service, and cannot be changed by hand."""
    found = shipped.data_sources()
    assert sorted(found) == ["alertmanager", "loki", "prometheus", "tempo"]
    for uid, source in found.items():
        assert source["type"] == uid
        assert source["access"] == "proxy"
        assert source["editable"] is False
        host = re.fullmatch(r"http://([a-z]+):\d+", source["url"])
        assert host is not None
        assert host[1] in SERVICES
    assert [uid for uid, source in found.items() if source.get("isDefault")] == ["prometheus"]


def test_data_sources_lead_to_each_other() -> None:
    """From a number to its trace, from a trace to lines and numbers, from a line to its trace."""
    found = shipped.data_sources()
    leads = {uid: set(references(source["jsonData"])) for uid, source in found.items()}
    assert leads == {
        "alertmanager": set(),
        "loki": {"tempo"},
        "prometheus": {"tempo"},
        "tempo": {"loki", "prometheus"},
    }
    data = {uid: source["jsonData"] for uid, source in found.items()}
    assert [one["name"] for one in data["prometheus"]["exemplarTraceIdDestinations"]] == [
        "trace_id"
    ]
    by_label, by_text = data["loki"]["derivedFields"]
    assert (by_label["matcherType"], by_label["matcherRegex"]) == ("label", "trace_id")
    assert by_text["matcherType"] == "regex"


def test_no_dollar_is_taken_for_a_variable() -> None:
    """Grafana replaces `$name` in provisioning files; `$$` is a dollar."""
    for file in sorted(PROVISIONING.rglob("*.yaml")):
        lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        for line in lines:
            assert "$" not in line.replace("$$", ""), (file, line)


def test_the_folder_of_dashboards_is_mounted() -> None:
    """The provider reads where compose mounts the dashboards."""
    [provider] = yaml.safe_load((PROVISIONING / "dashboards" / "otel-pipeline.yaml").read_text())[
        "providers"
    ]
    mounts = shipped.mounts("grafana")
    assert mounts[provider["options"]["path"]] == "./grafana/dashboards"
    assert (COLLECTOR / "grafana" / "dashboards").is_dir()
    assert mounts["/etc/grafana/provisioning"] == "./grafana/provisioning"


def test_the_line_that_is_printed_leads_to_its_trace() -> None:
    """The pattern for lines of stdout finds the trace id in what the library prints."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"OTEL_SDK_DISABLED": "false", "OTEL_TRACES_EXPORTER": "none"}
        | {"OTEL_LOGS_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
    )
    pattern = shipped.data_sources()["loki"]["jsonData"]["derivedFields"][1]["matcherRegex"]
    lines = [line for line in result.stdout.splitlines() if '"event":"loaded"' in line]
    assert len(lines) == 1
    assert re.search(pattern, lines[0])
