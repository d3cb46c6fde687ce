"""The last page of metrics: a file that is replaced as a whole, a push, and what goes wrong."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import prometheus_client
import pytest

import otel_pipeline
from otel_pipeline import Counter, configure, metrics, push_to_gateway, write_to_textfile
from otel_pipeline.metrics import Registry
from otel_pipeline.metrics.snapshots import Family, Point
from otel_pipeline.sdk.last_values import LastValues, Textfile
from tests.pushgateway import pushgateway, samples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Nothing else leaves the process.
OFF: dict[str, Any] = dict.fromkeys(
    ("traces_exporter", "metrics_exporter", "logs_exporter"), "none"
)
ROWS = Counter("last_values_rows", "Rows")


@pytest.fixture
def umask() -> Iterator[None]:
    """Let others read what is written, as most machines do, whatever this one does."""
    before = os.umask(0o022)
    yield
    os.umask(before)


class Destination:
    """A destination that keeps what it gets, and can fail or wait."""

    grace = 0.0

    def __init__(self, *, at_flush: bool = True, problem: str = "") -> None:
        self.at_flush = at_flush
        self.pages: list[bytes] = []
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self._problem = problem

    def put(self, page: bytes, timeout: float) -> None:
        self.gate.wait(60)
        if self.error is not None:
            raise self.error
        self.pages.append(page)

    def problem(self) -> str:
        return self._problem

    def complaint(self, reason: str) -> str:
        return f"not there: {reason}"


# --- the exporter --------------------------------------------------------------------------------


def test_the_last_page_goes_out_at_once_and_again_if_it_has_changed() -> None:
    """What the other exporters did meanwhile is on the page; an equal one is not put twice."""
    for pages, expected in ([b"1", b"2"], [b"1", b"2"]), ([b"1", b"1"], [b"1"]):
        destination, left = Destination(), iter(pages)
        exporter = LastValues(destination, lambda left=left: next(left))  # type: ignore[misc]
        exporter.close(5)
        exporter.shutdown(5)
        assert destination.pages == expected


def test_a_flush_puts_the_page_only_where_it_is_wanted() -> None:
    """A file is written at each flush, a Pushgateway gets the last page only."""
    for at_flush, expected in (True, [b"page"]), (False, []):
        destination = Destination(at_flush=at_flush)
        exporter = LastValues(destination, lambda: b"page")
        exporter.flush(0)
        assert exporter.flush(5)
        assert not exporter.away
        assert destination.pages == expected
        exporter.shutdown(5)


def test_what_hangs_is_left_behind_and_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither a flush nor the end waits longer than it was told to."""
    destination = Destination()
    destination.gate.clear()
    exporter = LastValues(destination, lambda: b"page")
    assert not exporter.flush(0.01)
    exporter.shutdown(0.01)
    assert capfd.readouterr().err == "otel_pipeline: not there: no answer in time\n"
    destination.gate.set()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (URLError(TimeoutError("timed out")), "no answer in time"),
        (ValueError("odd"), "odd"),
        (ValueError(), "ValueError"),
    ],
)
def test_a_failure_is_said_once_and_never_raised(
    error: Exception, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A flush and the end fail, and there is one line."""
    destination = Destination()
    destination.error = error
    exporter = LastValues(destination, lambda: b"page")
    assert not exporter.flush(5)
    exporter.shutdown(5)
    assert capfd.readouterr().err == f"otel_pipeline: not there: {reason}\n"


def test_a_second_try_at_the_end_can_make_it_good(capfd: pytest.CaptureFixture[str]) -> None:
    """What failed while the others still sent is tried again when they are done."""
    destination = Destination()
    destination.error = OSError("not yet")
    failed = threading.Event()

    def put(page: bytes, timeout: float, put=destination.put) -> None:
        try:
            put(page, timeout)
        finally:
            destination.error = None
            failed.set()

    destination.put = put  # type: ignore[method-assign]
    exporter = LastValues(destination, lambda: b"page")
    exporter.close(5)
    assert failed.wait(5)
    exporter.shutdown(5)
    assert destination.pages == [b"page"]
    assert capfd.readouterr().err == ""


def test_a_problem_is_said_at_the_start_and_not_again(capfd: pytest.CaptureFixture[str]) -> None:
    """The operator hears at once that it cannot work; the end is quiet."""
    destination = Destination(problem="no folder")
    destination.error = OSError("no folder")
    exporter = LastValues(destination, lambda: b"page")
    assert capfd.readouterr().err == "otel_pipeline: not there: no folder\n"
    exporter.shutdown(5)
    assert capfd.readouterr().err == ""


# --- the file ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("umask")
def test_the_file_can_be_read_by_others_and_nothing_else_is_left(tmp_path: Path) -> None:
    """Its mode is 0644, less what the umask takes, also when it replaces another."""
    path = tmp_path / "orders.prom"
    path.write_text("old")
    path.chmod(0o600)
    write_to_textfile(path)
    assert path.stat().st_mode & 0o777 == 0o644
    os.umask(0o077)
    write_to_textfile(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert samples(path.read_text())["last_values_rows_total"] == 0


def test_a_reader_keeps_the_file_that_it_has_opened(tmp_path: Path) -> None:
    """A new page is another file: nobody reads half of one and half of the other."""
    path = tmp_path / "orders.prom"
    write_to_textfile(str(path))
    with path.open() as reader:
        ROWS.inc(5)
        try:
            write_to_textfile(path)
            assert samples(reader.read())["last_values_rows_total"] == 0
            assert samples(path.read_text())["last_values_rows_total"] == 5
        finally:
            ROWS.reset()


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    """The function raises, and its temporary file is gone."""
    folder = tmp_path / "orders.prom"
    folder.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_to_textfile(folder)
    assert list(tmp_path.iterdir()) == [folder]
    with pytest.raises(FileNotFoundError):
        write_to_textfile(tmp_path / "missing" / "orders.prom")


def test_what_a_killed_process_left_is_in_nobody_s_way(tmp_path: Path) -> None:
    """A temporary file of an earlier process with the same number is replaced."""
    left = tmp_path / f".otel-pipeline-{os.getpid()}-{threading.get_ident()}.tmp"
    left.write_text("half")
    write_to_textfile(tmp_path / "orders.prom")
    assert [path.name for path in tmp_path.iterdir()] == ["orders.prom"]


def test_the_folder_is_looked_at_when_the_program_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would keep the file from being written is known before anything is lost."""
    path = tmp_path / "orders.prom"
    assert Textfile(str(path)).problem() == ""
    assert Textfile(str(path / "x.prom")).problem() == f"there is no folder {path}"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert Textfile(str(path)).problem() == f"the folder {tmp_path} cannot be written to"
    path.mkdir()
    assert Textfile(str(path)).problem() == "it is a folder"


def test_any_registry_can_be_written(tmp_path: Path) -> None:
    """A registry of the library's own, or of prometheus_client, instead of everything."""
    own = Registry()
    own.add_source(lambda: [Family("own", "gauge", "", "", (), (Point((), 2, 0),), "own", "")])
    theirs = prometheus_client.CollectorRegistry()
    prometheus_client.Gauge("theirs", "Theirs", registry=theirs).set(3)
    path = tmp_path / "x.prom"
    write_to_textfile(path, own)
    assert samples(path.read_text()) == {"own": 2}
    write_to_textfile(path, theirs)
    assert samples(path.read_text()) == {"theirs": 3}


def test_configure_writes_at_flush_and_at_the_end(tmp_path: Path) -> None:
    """The file follows each flush, and holds the last values after the end."""
    path = tmp_path / "orders.prom"
    try:
        with configure("orders", textfile=path, **OFF) as telemetry:
            ROWS.inc(2)
            assert telemetry.flush(5)
            assert samples(path.read_text())["last_values_rows_total"] == 2
            ROWS.inc()
            assert telemetry.metrics_url is None
    finally:
        ROWS.reset()
    assert samples(path.read_text())["last_values_rows_total"] == 3


# --- the push ------------------------------------------------------------------------------------


def test_a_push_has_its_grouping_key_and_credentials() -> None:
    """The path is prometheus_client's, and credentials go into a header."""
    with pushgateway() as gateway:
        url = gateway.url.replace("//", "//me:p%40ss@")
        push_to_gateway(url, "orders", grouping_key={"instance": "", "team": "a"}, timeout=5)
        (push,) = gateway.pushes
    assert (push.method, push.path) == ("PUT", "/metrics/job/orders/instance@base64/=/team/a")
    assert push.authorization == "Basic bWU6cEBzcw=="
    assert "last_values_rows_total" in push.samples


def test_a_push_of_code_raises_what_prometheus_client_raises() -> None:
    """Whoever calls the function decides what a failure means."""
    with pushgateway() as gateway:
        gateway.status = 500
        with pytest.raises(OSError, match="500") as raised:
            push_to_gateway(gateway.url, "orders")
        raised.value.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (
            400,
            b"pushed metrics are\ninvalid",
            ("400 Bad Request: pushed metrics are invalid", "GROUPING"),
        ),
        (401, b"", ("(401 Unauthorized)", "USER:PASSWORD")),
        (503, b"", ("(503 Service Unavailable)", "Start a Pushgateway")),
    ],
)
def test_a_refusal_is_said_with_its_remedy(
    status: int, answer: bytes, words: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    """One line says what the server said and what to do, and shows no credentials."""
    with pushgateway() as gateway:
        gateway.status, gateway.answer = status, answer
        url = gateway.url.replace("//", "//me:hunter2@")
        configure("orders", pushgateway=url, **OFF).shutdown()
        assert {push.authorization for push in gateway.pushes} == {"Basic bWU6aHVudGVyMg=="}
    (said,) = capfd.readouterr().err.splitlines()
    assert [word for word in words if word not in said] == []
    assert "hunter2" not in said


def test_the_functions_stand_beside_the_instruments() -> None:
    """They can be imported from `otel_pipeline` and from `otel_pipeline.metrics`."""
    assert metrics.push_to_gateway is otel_pipeline.push_to_gateway is push_to_gateway
    assert metrics.write_to_textfile is otel_pipeline.write_to_textfile is write_to_textfile
    with pytest.raises(AttributeError, match="no attribute 'push'"):
        metrics.push  # noqa: B018
