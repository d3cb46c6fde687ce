"""Each program of the stack starts, answers, stops, and takes the configuration it is given."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.stack import programs
from tests.stack.build import PROGRAMS, StackError
from tests.stack.programs import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(300)]

PROC = Path("/proc")
PORTS = {"http": 1, "grpc": 2, "health": 3, "metrics": 4}


def children(pid: int) -> set[int]:
    """Return the processes that a process has started, and that are there."""
    files = [task / "children" for task in (PROC / str(pid) / "task").iterdir()]
    return {int(child) for file in files for child in file.read_text(encoding="ascii").split()}


def answers(url: str) -> bool:
    try:
        programs.fetch(url)
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "start", "path", "expected"),
    [
        (
            "alertmanager",
            programs.alertmanager,
            "/api/v2/status",
            lambda status: status["cluster"]["status"] == "disabled",
        ),
        ("jaeger", programs.jaeger, "/api/services", lambda answer: answer["errors"] is None),
        (
            "loki",
            programs.loki,
            "/loki/api/v1/labels",
            lambda answer: answer["status"] == "success",
        ),
        (
            "prometheus",
            programs.prometheus,
            "/api/v1/status/buildinfo",
            lambda answer: answer["data"]["version"] == PROGRAMS["prometheus"].version,
        ),
    ],
)
def test_a_program_starts_answers_and_leaves_nothing(
    need: Callable[..., list[Path]],
    name: str,
    start: Callable[[], Any],
    path: str,
    expected: Callable[[Any], bool],
) -> None:
    """A program answers when its block begins; at its end process, port and folder are gone."""
    need(name)
    before = children(os.getpid())
    with start() as server:
        assert expected(server.get(path))
        assert server.process.pid in children(os.getpid())
    assert children(os.getpid()) == before
    assert not answers(server.url)
    assert not server.folder.exists()
    assert server.process.returncode in {0, -signal.SIGTERM, 128 + signal.SIGTERM}


def test_the_collector_starts_without_its_backends(need: Callable[..., list[Path]]) -> None:
    """The collector takes telemetry and shows its own metrics, whoever is there behind it."""
    need("otelcol")
    before = children(os.getpid())
    with programs.collector() as server:
        assert programs.fetch(f"{server.url}/v1/traces", body={}) == {"partialSuccess": {}}
        metrics = programs.fetch(server.url_of("metrics") + "/metrics")
        assert "otelcol_process_uptime" in metrics
    assert children(os.getpid()) == before
    assert not server.folder.exists()


def test_a_program_that_does_not_start_says_why(need: Callable[..., list[Path]]) -> None:
    """The error has the end of the program's log, and nothing is left of the program."""
    need("prometheus")
    before = children(os.getpid())
    with (
        pytest.raises(StackError, match=r"(?s)prometheus ended with .*no_such_section"),
        programs.prometheus({"no_such_section": {}}),
    ):
        pass
    assert children(os.getpid()) == before


def test_a_port_that_was_taken_meanwhile_is_chosen_anew(
    need: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two programs that choose the same port both start."""
    need("alertmanager")
    free_ports = programs._free_ports
    with programs.alertmanager() as first:
        chosen = iter([[first.ports["http"]]])
        monkeypatch.setattr(
            programs, "_free_ports", lambda count: next(chosen, None) or free_ports(count)
        )
        with programs.alertmanager() as second:
            assert second.url != first.url
            assert second.get("/api/v2/status")["uptime"]


@contextmanager
def up() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.stack", "up"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_prints_addresses_and_stops_when_asked(
    need: Callable[..., list[Path]], number: signal.Signals
) -> None:
    """`up` prints one JSON document, and a signal ends it and all that it started."""
    need("alertmanager", "jaeger", "loki", "otelcol", "prometheus")
    with up() as process:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if "is ready" in line:
                break
        assert process.poll() is None, said
        started = children(process.pid)
        assert len(started) == 5
        process.send_signal(number)
        stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert not [pid for pid in started if (PROC / str(pid)).exists()]
    addresses = json.loads(stdout)
    assert sorted(addresses) == ["alertmanager", "collector", "jaeger", "loki", "prometheus"]
    assert not answers(addresses["collector"]["health"])


def test_the_collector_takes_its_configuration(need: Callable[..., list[Path]]) -> None:
    """`local.yaml` is valid with the defaults and with every address set."""
    [otelcol] = need("otelcol")
    check(otelcol, "validate", f"--config={programs.LOCAL_COLLECTOR}")
    check(
        otelcol,
        "validate",
        f"--config={programs.LOCAL_COLLECTOR}",
        environ={
            **programs.collector_environ(PORTS),
            "PROMETHEUS_URL": "http://prometheus:9090",
        },
    )


def test_the_collector_has_the_components_of_its_manifest(need: Callable[..., list[Path]]) -> None:
    """What `builder.yaml` lists is in the program, under the names that configurations use."""
    [otelcol] = need("otelcol")
    said = check(otelcol, "components")
    names = {line.split("name: ")[1] for line in said.splitlines() if "- name: " in line}
    assert names == set(
        """
        otlp prometheus
        attributes batch cumulative_to_delta filter groupbytrace memory_limiter
        probabilistic_sampler redaction resource tail_sampling transform
        count span_metrics
        clickhouse debug file otlp_grpc otlp_http prometheus prometheus_remote_write
        bearertokenauth file_storage health_check pprof zpages
        """.split()
    )


def test_the_others_take_their_configurations(
    need: Callable[..., list[Path]], tmp_path: Path
) -> None:
    """The configurations that the tests write pass the programs' own checks."""
    promtool, amtool, loki = need("promtool", "amtool", "loki")
    (tmp_path / "prometheus.yaml").write_text(programs.prometheus_config())
    (tmp_path / "alertmanager.yaml").write_text(programs.alertmanager_config())
    (tmp_path / "loki.yaml").write_text(programs.loki_config(PORTS))
    assert "SUCCESS" in check(promtool, "check", "config", "prometheus.yaml", cwd=tmp_path)
    assert "SUCCESS" in check(amtool, "check-config", "alertmanager.yaml", cwd=tmp_path)
    check(loki, "-verify-config", "-config.file=loki.yaml", cwd=tmp_path)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_says_its_version(need: Callable[..., list[Path]], name: str) -> None:
    """The program that was built is the version that its module names."""
    [path] = need(name)
    command = ["version"] if name in {"jaeger", "pint"} else ["--version"]
    assert PROGRAMS[name].version in check(path, *command)
