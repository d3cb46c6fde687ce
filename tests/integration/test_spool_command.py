"""The command `otel-pipeline spool`, and where the spool is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from otel_pipeline.cli import main
from otel_pipeline.config import load
from otel_pipeline.sdk import spool as spool_module
from otel_pipeline.sdk.spool import Spool, SpoolError, folder_of
from tests.integration.test_batch import encode
from tests.otlp_receiver import otlp_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.otlp_receiver import HttpReceiver


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with otlp_receiver() as running:
        yield running


@pytest.fixture
def spool(
    receiver: HttpReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Spool]:
    """A spool with two batches that an ended process left, and the variables that find it."""
    folder = tmp_path / "spool"
    monkeypatch.setenv("OTEL_PIPELINE_SPOOL_DIR", str(folder))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer now")
    made = Spool(folder, max_bytes=10_000_000, max_age=3600)
    shelf = made.shelf("orders", f"{receiver.endpoint}/v1/traces", "traces")
    shelf.put(encode(["a", "b"]), 2)
    shelf.put(encode(["c"]), 1)
    shelf.release()
    yield made
    made.close()


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    status = main(["spool", *words, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_list_shows_what_waits(
    spool: Spool, receiver: HttpReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each service, endpoint and signal has a row."""
    status, (entry,) = command(capsys, "list")
    assert status == 0
    assert entry["oldest"] > 0
    assert entry["bytes"] > 0
    assert {name: entry[name] for name in ("service", "signal", "state", "batches", "items")} == {
        "service": "orders",
        "signal": "traces",
        "state": "waiting",
        "batches": 2,
        "items": 3,
    }
    assert main(["spool", "list"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["service", "endpoint"]
    assert row.split()[:2] == ["orders", f"{receiver.endpoint}/v1/traces"]


def test_replay_sends_with_the_headers_of_now(
    spool: Spool, receiver: HttpReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """What waits is sent in order, and is gone then."""
    status, (result,) = command(capsys, "replay")
    assert (status, result["delivered"], result["left"]) == (0, 3, 0)
    assert [span.name for span in receiver.spans] == ["a", "b", "c"]
    assert receiver.requests[0].headers["authorization"] == "Bearer now"
    assert spool.entries() == []
    assert main(["spool", "replay"]) == 0
    assert main(["spool", "list"]) == 0
    assert capsys.readouterr().out == f"Nothing waits in {spool.folder}.\n" * 2


def test_replay_sets_aside_and_sends_again_when_asked(
    spool: Spool, receiver: HttpReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is refused is not tried again, unless somebody says so."""
    receiver.answer(400, text="bad")
    status, (result,) = command(capsys, "replay")
    assert (status, result["rejected"], result["reason"]) == (1, 3, "400 Bad Request: bad")
    assert [entry.state for entry in spool.entries()] == ["set_aside"]
    assert main(["spool", "list"]) == 0
    assert "set aside: 400 Bad Request: bad" in capsys.readouterr().out
    receiver.accept()
    assert command(capsys, "replay") == (0, [])
    assert command(capsys, "replay", "--set-aside")[1][0]["delivered"] == 3
    assert spool.entries() == []


def test_replay_leaves_what_cannot_be_sent(
    spool: Spool, receiver: HttpReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """A receiver that is away, or another endpoint, changes nothing."""
    receiver.stop()
    assert main(["spool", "replay"]) == 1
    assert "0 delivered, 0 rejected, 3 left: Connection refused" in capsys.readouterr().out
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
    assert command(capsys, "replay")[1][0]["reason"].startswith("it is not for http://127.0.0.1:1")
    assert sum(entry.items for entry in spool.entries()) == 3


def test_replay_leaves_a_running_process_its_own(
    spool: Spool, receiver: HttpReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a living process holds is that process's to send."""
    program = """
import sys
from pathlib import Path
from otel_pipeline.sdk.spool import Spool
spool = Spool(Path(sys.argv[1]), max_bytes=10**7, max_age=3600)
shelf = spool.shelf("orders", sys.argv[2], "traces")
shelf.adopt()
print("ready", flush=True)
sys.stdin.read()
"""
    words = [sys.executable, "-c", program, str(spool.folder), f"{receiver.endpoint}/v1/traces"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        status, (result,) = command(capsys, "replay")
        assert (status, result["left"]) == (1, 3)
        assert result["reason"] == "a running process will send it"
        other.kill()
    assert command(capsys, "replay")[0] == 0
    assert len(receiver.spans) == 3


def test_drop_deletes(spool: Spool, capsys: pytest.CaptureFixture[str]) -> None:
    """Only what was asked for goes."""
    assert command(capsys, "drop", "--set-aside") == (0, {"batches": 0})
    assert command(capsys, "drop", "--signal", "logs") == (0, {"batches": 0})
    assert main(["spool", "drop", "--service", "orders"]) == 0
    assert capsys.readouterr().out == "Dropped 2 batches.\n"
    assert spool.entries() == []


def test_the_command_says_what_is_wrong(
    spool: Spool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A spool that is off or unusable is an error with a message; one without a file is empty."""
    monkeypatch.setenv("OTEL_PIPELINE_SPOOL_DIR", "off")
    assert main(["spool", "list"]) == 2
    assert "the spool is off" in capsys.readouterr().err
    spool.close()
    (spool.folder / "spool.db").write_bytes(b"x" * 10_000)
    monkeypatch.setenv("OTEL_PIPELINE_SPOOL_DIR", str(spool.folder))
    assert main(["spool", "list"]) == 2
    assert "cannot be used" in capsys.readouterr().err
    monkeypatch.setenv("OTEL_PIPELINE_SPOOL_DIR", str(tmp_path / "none"))
    assert command(capsys, "drop") == (0, {"batches": 0})


class TestFolder:
    """Where the spool is."""

    def test_auto_is_under_the_state_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """XDG_STATE_HOME, or what stands for it, and only for an endpoint that was set."""
        config = load({"OTEL_PIPELINE_SPOOL_DIR": "auto"})
        monkeypatch.setenv("XDG_STATE_HOME", "/state")
        assert folder_of(config, explicit=True) == Path("/state/otel-pipeline/spool")
        assert folder_of(config, explicit=False) is None
        monkeypatch.setenv("XDG_STATE_HOME", "relative")
        monkeypatch.setenv("HOME", "/home/me")
        expected = Path("/home/me/.local/state/otel-pipeline/spool")
        assert folder_of(config, explicit=True) == expected

    def test_without_a_home_there_is_no_spool(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A user without a home and a state folder has none."""

        def homeless(self: Path) -> Path:
            raise RuntimeError("no home")

        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
        monkeypatch.setattr(Path, "expanduser", homeless)
        config = load({"OTEL_PIPELINE_SPOOL_DIR": "auto"})
        assert folder_of(config, explicit=True) is None

    def test_a_shared_folder_has_one_for_each_user(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In a folder of somebody else each user has an own one; an own folder is used itself."""
        config = load({"OTEL_PIPELINE_SPOOL_DIR": str(tmp_path)})
        assert folder_of(config, explicit=True) == tmp_path
        monkeypatch.setattr(os, "getuid", lambda: 4242)
        assert folder_of(config, explicit=True) == tmp_path / "user-4242"

    def test_a_folder_of_another_user_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody else can read what is written, or prepare what is read."""
        spool = Spool(tmp_path, max_bytes=1000, max_age=1)
        monkeypatch.setattr(os, "getuid", lambda: 4242)
        with pytest.raises(SpoolError, match="belongs to another user"):
            spool.shelf("a", "b", "traces").adopt()


class TestForks:
    """A child has a connection and a name of its own."""

    def test_a_child_leaves_the_parents_batches_alone(self, tmp_path: Path) -> None:
        """Parent and child write to one file, and each owns what it wrote."""
        spool = Spool(tmp_path, max_bytes=10_000_000, max_age=3600)
        shelf = spool.shelf("a", "b", "traces")
        shelf.put(b"parent", 1)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                shelf.put(b"child", 2)
                batch, _ = shelf.oldest()
                status = 0 if batch is not None and batch.payload == b"child" else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        batch, _ = shelf.oldest()
        assert batch is not None
        assert batch.payload == b"parent"
        assert shelf.adopt().recovered == 2
        spool.close()

    def test_a_fork_in_the_middle_of_a_write_means_memory_for_the_child(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A fork does not wait for ever, and the child does not touch what it cannot trust."""
        monkeypatch.setattr(spool_module, "_PATIENCE", 0.05)
        spool = Spool(tmp_path, max_bytes=10_000_000, max_age=3600)
        shelf = spool.shelf("a", "b", "traces")
        with spool.transaction():
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    shelf.put(b"child", 2)
                except SpoolError:
                    status = 0
                finally:
                    os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        shelf.put(b"parent", 1)
        spool.close()
