"""Workers of a server have one page of metrics, also when they are replaced all the time."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest

from otel_pipeline.sdk import group as groups
from tests.otlp_receiver import otlp_receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.otlp_receiver import HttpReceiver

APP = """
import os
from otel_pipeline import Counter, Pipeline, configure

configure(os.environ["SERVICE"])
HANDLED = Counter("handled", "Requests handled")
pipeline = Pipeline("web")


def app(environ, respond):
    with pipeline.stage("handle") as stage:
        stage.records(1)
        HANDLED.inc(1000)
    body = str(os.getpid()).encode()
    respond("200 OK", [("Content-Length", str(len(body))), ("Connection", "close")])
    return [body]
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(fact: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as response:
        return str(response.read().decode())


def answers(url: str) -> bool:
    try:
        get(url)
    except OSError:
        return False
    return True


class Server:
    """gunicorn with two workers that are replaced after a few requests."""

    def __init__(self, folder: Path, receiver: HttpReceiver, *options: str) -> None:
        (folder / "served.py").write_text(APP)
        self.port, self.metrics_port = free_port(), free_port()
        self.service = f"test-gunicorn-{os.getpid()}-{self.port}"
        self.errors = folder / "stderr"
        with self.errors.open("w") as stderr:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-W", "ignore", "-m", "gunicorn", "--workers=2",
                    "--max-requests=5", "--max-requests-jitter=3", "--log-level=warning",
                    "--no-control-socket", f"--bind=127.0.0.1:{self.port}", *options, "served:app",
                ],
                cwd=folder,
                stderr=stderr,
                env={
                    "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
                    "OTEL_EXPORTER_PROMETHEUS_PORT": str(self.metrics_port),
                    "OTEL_METRICS_EXPORTER": "prometheus,otlp",
                    "OTEL_PIPELINE_SPOOL_DIR": "off",
                    "SERVICE": self.service,
                    "HOME": str(folder),
                },
            )  # fmt: skip
        self.url = f"http://127.0.0.1:{self.port}/"

    @property
    def folder(self) -> Path:
        key = groups.key_of(self.service, "localhost", self.metrics_port)
        return groups._base() / key

    def handled(self) -> float | None:
        """What the page says, or None while the leader is being replaced."""
        try:
            page = get(f"http://localhost:{self.metrics_port}/metrics")
        except OSError:
            return None
        lines = [line for line in page.splitlines() if line.startswith("handled_total")]
        return float(lines[0].split()[1]) if lines else None

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


@contextlib.contextmanager
def gunicorn(folder: Path, receiver: HttpReceiver, *options: str) -> Iterator[Server]:
    server = Server(folder, receiver, *options)
    try:
        until(lambda: answers(server.url))
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait(30)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_recycled_workers_count_exactly(tmp_path: Path, preload: bool) -> None:
    """Every request is in the sum and in the trace, and no process or port is left at the end."""
    with otlp_receiver() as receiver:
        options = ["--preload"] if preload else []
        with gunicorn(tmp_path, receiver, *options) as server:
            asked = 60
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                pids = {int(pid) for pid in pool.map(get, [server.url] * (asked - 1))}
            assert len(pids) > 4
            until(lambda: server.handled() == asked * 1000)
            server.terminate()
            assert not any(map(is_running, pids))
            assert server.handled() is None
        spans = receiver.spans
        last: dict[str, int] = {}
        for metric in receiver.metrics:
            if metric.proto.name == "handled":
                (point,) = metric.proto.sum.data_points
                last[metric.resource["service.instance.id"]] = point.as_int
    assert [span.name for span in spans] == ["web handle"] * asked
    assert len({span.span_id for span in spans}) == asked
    assert {span.resource["process.pid"] for span in spans} >= pids
    assert sum(last.values()) == asked * 1000
    assert server.errors.read_text() == ""
    if not preload:
        # When the last worker ended, the master could have started another one of the same service.
        # So the folder stays until something of this user's starts.
        group = groups.Group(groups.key_of("test-gunicorn-sweep", "localhost", 0))
        group.join()
        until(lambda: not server.folder.exists())
        group.leave()
    assert not server.folder.exists()
