"""The processes of a service have one page, which outlives each of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from otel_pipeline import diagnostics
from otel_pipeline.metrics import merge
from otel_pipeline.metrics.snapshots import Family, Point
from otel_pipeline.sdk import group as groups
from otel_pipeline.sdk.group import Group
from otel_pipeline.sdk.metrics_server import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "0123456789abcdef"

#: A member of a group in a process of its own, told what to do line by line.
MEMBER = """
import json, os, sys
from pathlib import Path
from otel_pipeline.metrics import Counter, Registry
from otel_pipeline.sdk import group as groups
from otel_pipeline.sdk.metrics_server import MetricsServer
from otel_pipeline.sdk.prometheus import Exposition

place, key, port = sys.argv[1:]
groups._PLACES = (Path(place), Path(place))
registry = Registry()
jobs = Counter("jobs", "Jobs", registry=registry)
exposition = Exposition(registry.collect)

def serve(last_port):
    try:
        return MetricsServer("127.0.0.1", last_port or int(port), exposition.render)
    except OSError:
        return None

group = groups.Group(key, collect=exposition.own_families, serve=serve)
exposition.combine(group.families)

def answer(command):
    match command.split():
        case ["join"]:
            group.join()
        case ["leave"]:
            group.leave()
        case ["inc", n]:
            jobs.inc(int(n))
        case ["url"]:
            return group.url
        case ["file"]:
            return str(group._own_file)
        case ["publish"]:
            group._publish()

for line in sys.stdin:
    print(json.dumps(answer(line)), flush=True)
"""


class Member:
    """Another process of the group."""

    def __init__(self, place: Path, key: str = KEY, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", MEMBER, place, key, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.stderr = ""
        self.tell("join")

    def tell(self, command: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(command, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self) -> None:
        _, stderr = self.process.communicate(timeout=30)
        self.stderr += stderr


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the groups of this test are."""
    monkeypatch.setattr(groups, "_PLACES", (tmp_path, tmp_path))
    diagnostics.forget()
    return tmp_path


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., Member]]:
    """Start members that are gone at the end, and have printed nothing on stderr."""
    members: list[Member] = []

    def start(**options: Any) -> Member:
        members.append(Member(place, **options))
        return members[-1]

    yield start
    for member in members:
        if member.process.returncode is None:
            member.tell("leave")
            member.end()
    assert [member.stderr for member in members] == [""] * len(members)


def folder(place: Path) -> Path:
    return place / f"otel_pipeline-{os.getuid()}" / KEY


def shown(url: str) -> float | None:
    """What the page at `url` says, or None while nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            page = response.read().decode()
    except OSError:
        return None
    return next(float(x.split()[1]) for x in page.splitlines() if x.startswith("jobs_total"))


def until(fact: Callable[[], object], seconds: float = 20.0) -> float:
    """Wait until something holds; return how long that took."""
    began = time.monotonic()
    while not fact():
        assert time.monotonic() < began + seconds, "it never came true"
        time.sleep(0.02)
    return time.monotonic() - began


def jobs(n: int) -> list[Family]:
    return [Family("jobs", "counter", "", "", (), (Point((), n, 1),), "jobs", "")]


def total(families: list[Family]) -> float:
    return sum(point.value for one in families for point in one.points)  # type: ignore[misc, union-attr]


def test_one_page_shows_the_sum_with_a_lag_of_a_second_at_most(
    start: Callable[..., Member],
) -> None:
    """Each member knows where it is, and what it counts is there within a second."""
    leader, other = start(), start()
    url = leader.tell("url")
    assert other.tell("url") == url
    leader.tell("inc 2")
    other.tell("inc 3")
    until(lambda: shown(url) == 5)
    lags = []
    for n in range(3):
        other.tell("inc 1")
        lags.append(until(lambda n=n: shown(url) == 6 + n))  # type: ignore[misc]
    assert min(lags) <= 1.0


@pytest.mark.parametrize("ending", ["leave", "kill"])
def test_another_member_takes_over_on_the_same_port(
    start: Callable[..., Member], place: Path, ending: str
) -> None:
    """With what the leader has counted, whether it left or was killed."""
    leader, other = start(), start()
    url = leader.tell("url")
    leader.tell("inc 2")
    other.tell("inc 3")
    until(lambda: shown(url) == 5)
    if ending == "kill":
        leader.kill()
    else:
        leader.tell("leave")
    until(lambda: shown(url) == 5)
    assert other.tell("url") == url
    third = start()
    third.tell("inc 1")
    third.tell("leave")
    until(lambda: shown(url) == 6)
    other.tell("leave")
    assert shown(url) is None
    assert not folder(place).exists()


def test_a_later_start_begins_at_zero(start: Callable[..., Member], place: Path) -> None:
    """Also if the members before it were killed, and left their files."""
    for end in (lambda member: member.tell("leave"), Member.kill, lambda member: None):
        first, second = start(), start()
        url = first.tell("url")
        assert shown(url) == 0
        first.tell("inc 1")
        second.tell("inc 1")
        until(lambda url=url: shown(url) == 2)  # type: ignore[misc]
        end(second)
        end(first)


def test_the_folder_is_this_users_alone(start: Callable[..., Member], place: Path) -> None:
    """Nobody else may read what was counted."""
    start()
    assert folder(place).parent.stat().st_mode & 0o777 == 0o700
    assert folder(place).stat().st_mode & 0o777 == 0o700
    assert (folder(place) / "lock").stat().st_mode & 0o777 == 0o600


def test_one_that_has_ended_is_buried_once(start: Callable[..., Member], place: Path) -> None:
    """Also if whoever did it was killed before it could remove the file."""
    group = Group(KEY)
    group.join()
    try:
        for n in range(1, 4):
            other = start()
            other.tell("inc 5")
            other.tell("publish")
            path = Path(other.tell("file"))
            content = path.read_bytes()
            other.kill()
            assert total(group.families(jobs(1))) == 1 + 5 * n
            assert not path.exists()
            for _ in range(2):
                path.write_bytes(content)
                assert total(group.families(jobs(1))) == 1 + 5 * n
                assert not path.exists()
    finally:
        group.leave()
    assert not folder(place).exists()


def test_what_was_left_twice_is_buried_once_by_the_next(
    start: Callable[..., Member], place: Path
) -> None:
    """A file that is left over beside new ones of others that have ended, too."""
    group = Group(KEY)
    group.join()
    try:
        left: dict[Path, bytes] = {}
        for _ in range(3):
            others = [start(), start()]
            for other in others:
                other.tell("inc 1")
                other.tell("publish")
            for other in others:
                path = Path(other.tell("file"))
                left[path] = path.read_bytes()
                other.kill()
            group._look()
            for path, content in left.items():
                path.write_bytes(content)
            group._look()
            left = {}
        assert total(group.families(jobs(0))) == 6
    finally:
        group.leave()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("member-7.json", b"\xff\xfe"),
        ("member-7.json", b""),
        ("member-7.json", b"[]"),
        ("member-7.json", b"{}"),
        ("member-7.json", b'{"version":1,"identity":"a","pid":1,"families":[[1]]}'),
        ("member-7.json", b'{"version":99,"identity":"a","pid":1,"families":[]}'),
        ("ended.json", b'{"version":99}'),
        ("ended.json", b"null"),
        ("origins.json", b'{"a":1}'),
        ("origins.json", b"[[1]]"),
    ],
)
def test_a_file_that_cannot_be_used_is_said_once_and_ignored(
    start: Callable[..., Member],
    place: Path,
    name: str,
    content: bytes,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Damaged, or of another version: the sum is that of the others."""
    group = Group(KEY)
    group.join()
    try:
        (folder(place) / name).write_bytes(content)
        for _ in range(2):
            (folder(place) / name).touch()
            assert total(group.families(jobs(1))) == 1
            group._publish()
        diagnostics.forget()
        assert capfd.readouterr().err.count(name) == 1
        (folder(place) / name).unlink(missing_ok=True)
        other = start()
        other.tell("inc 2")
        other.tell("leave")
        assert total(group.families(jobs(1))) == 3
    finally:
        group.leave()
    assert not folder(place).exists()


def test_files_of_others_in_the_folder_do_no_harm(place: Path) -> None:
    """Only what a member has written is read."""
    group = Group(KEY)
    group.join()
    for name in ("member-x.json", "member-.json", "member--1.json", "notes.txt", "member-0.json9"):
        (folder(place) / name).write_text("?")
    second = Group(KEY)
    second.join()
    assert total(group.families(jobs(1))) == 1
    second.leave()
    group.leave()
    assert not folder(place).exists()


def test_a_broken_endpoint_file_costs_the_url_only(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A member that does not lead says None, and goes on."""
    first, second = Group(KEY), Group(KEY)
    first.join()
    second.join()
    (folder(place) / "endpoint.json").write_text("[]")
    assert second.url is None
    assert capfd.readouterr().err.count("endpoint.json") == 1
    second.leave()
    first.leave()


def _is_a_file(base: Path) -> None:
    base.write_text("")


def _is_a_link(base: Path) -> None:
    base.with_name("elsewhere").mkdir(mode=0o700)
    base.symlink_to(base.with_name("elsewhere"))


def _is_open_to_others(base: Path) -> None:
    base.mkdir()
    base.chmod(0o755)


def _cannot_be_made(base: Path) -> None:
    base.parent.rmdir()


def _has_a_file_in_the_way(base: Path) -> None:
    base.mkdir(mode=0o700)
    (base / KEY).write_text("")


def _has_a_link_for_a_lock(base: Path) -> None:
    (base / KEY).mkdir(parents=True)
    base.chmod(0o700)
    (base / KEY / "lock").symlink_to("/dev/null")


@pytest.mark.parametrize(
    "spoil",
    [
        _is_a_file,
        _is_a_link,
        _is_open_to_others,
        _cannot_be_made,
        _has_a_file_in_the_way,
        _has_a_link_for_a_lock,
    ],
)
def test_without_a_folder_this_process_serves_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    """No exception, and the page shows what it has itself."""
    parent = tmp_path / "place"
    parent.mkdir()
    monkeypatch.setattr(groups, "_PLACES", (parent, parent))
    spoil(parent / f"otel_pipeline-{os.getuid()}")
    served: list[MetricsServer] = []

    def serve(port: int | None) -> MetricsServer:
        served.append(MetricsServer("127.0.0.1", port or 0, lambda *_: (b"jobs_total 4\n", "")))
        return served[-1]

    group = Group(KEY, serve=serve)
    group.join()
    assert group.url is not None
    assert shown(group.url) == 4
    assert group.families(jobs(1)) == jobs(1)
    group.leave()
    assert len(served) == 1
    assert shown(served[0].url) is None


def test_a_folder_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner could change what it says."""
    monkeypatch.setattr(groups, "_PLACES", (tmp_path, tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(PermissionError, match="12345 is not a folder of this user alone"):
        groups._base()


def test_a_sweep_removes_groups_without_living_members_only(
    start: Callable[..., Member], place: Path
) -> None:
    """What killed members left goes away with the next start of anything of this user's."""
    base = folder(place).parent
    living, dead = start(key="a" * 16), start(key="b" * 16)
    dead.kill()
    (base / ("c" * 16)).mkdir()
    (base / "stray").write_text("")
    group = Group(KEY)
    group.join()
    until(lambda: not (base / ("b" * 16)).exists())
    until(lambda: not (base / ("c" * 16)).exists())
    assert (base / ("a" * 16) / "member-0.json").exists()
    assert shown(living.tell("url")) == 0
    group.leave()
    assert (base / "stray").exists()


def test_two_groups_of_one_process_keep_their_locks(
    start: Callable[..., Member], place: Path
) -> None:
    """One that leaves does not let go of what the other one holds."""
    first, second = Group(KEY, collect=lambda: jobs(2)), Group(KEY, collect=lambda: jobs(3))
    first.join()
    second.join()
    first.leave()
    other = start()
    other.tell("inc 4")
    other.tell("publish")
    assert total(second.families(jobs(3))) == 9
    assert (folder(place) / "member-1.json").exists()
    other.tell("leave")
    assert total(second.families(jobs(3))) == 9
    second.leave()
    assert not folder(place).exists()


def test_leaving_writes_nothing_older_than_the_last_word(place: Path) -> None:
    """A writer that was held up writes nothing any more once its process has left."""
    reader = Group(KEY)
    reader.join()
    collecting, go_on = threading.Event(), threading.Event()
    values = iter([1, 2])

    def collect() -> list[Family]:
        value = next(values, 99)
        if value == 1:
            collecting.set()
            go_on.wait(30)
        return jobs(value)

    group = Group(KEY, collect=collect)
    group.join()
    assert collecting.wait(30)
    threading.Timer(0.5, go_on.set).start()
    group.leave()
    assert total(reader.families([])) == 2
    assert sorted(path.name for path in folder(place).glob("member*")) == ["member-0.json"]
    reader.leave()
    assert not folder(place).exists()


def test_the_last_word_waits_for_nobody_for_long(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM may have stopped the very code that was writing."""
    reader, group = Group(KEY), Group(KEY, collect=lambda: jobs(3))
    reader.join()
    group.join()
    with group._writing:
        group.leave()
    assert total(reader.families([])) == 3
    reader.leave()
    assert capfd.readouterr().err == ""
    assert not folder(place).exists()


def test_what_cannot_be_collected_does_not_stop_the_end(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is said, and the process leaves all the same."""

    def collect() -> list[Family]:
        raise RuntimeError("no values")

    reader, group = Group(KEY), Group(KEY, collect=collect)
    reader.join()
    group.join()
    group.leave()
    assert capfd.readouterr().err.count("no values") == 1
    reader.leave()
    assert not folder(place).exists()


def test_members_agree_on_a_key() -> None:
    """Processes that were configured alike find each other, and no others."""
    assert groups.key_of("a", "localhost", 9464) == groups.key_of("a", "localhost", 9464)
    different = [("a", "h", 1), ("b", "h", 1), ("a", "i", 1), ("a", "h", 2)]
    assert len({groups.key_of(*each) for each in different}) == 4
    assert groups.key_of("a", "h", 0) != groups.key_of("a", "h", 0)
    assert len(groups.key_of("\udc80", "h", 1)) == 16


def test_a_program_that_was_started_finds_the_group_of_a_free_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same service joins, another one has a group of its own; and nothing stays behind."""
    undo = groups.tell_programs(KEY, "a")
    assert groups.key_of("a", "h", 0) == KEY
    assert groups.key_of("b", "h", 0) != KEY
    undo()
    assert groups.key_of("a", "h", 0) != KEY
    monkeypatch.setenv("_OTEL_PIPELINE_GROUP", groups._hash("a") + ":../../etc")
    assert groups.key_of("a", "h", 0) != "../../etc"


PROGRAM = """
import json, sys
from otel_pipeline import Counter, configure
service, port = sys.argv[1:]
options = {"prometheus_port": int(port)} if port else {}
telemetry = configure(service, traces_exporter="none", logs_exporter="none", **options)
Counter("jobs", "Jobs").inc()
print(telemetry.metrics_url, flush=True)
sys.stdin.read()
"""


def program(service: str, port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, service, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"OTEL_PIPELINE_SPOOL_DIR": "off"},
    )


def test_programs_of_one_service_share_a_port_and_another_service_does_not() -> None:
    """The same service twice on one port has one page; another is told that it is taken."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    service = f"test-group-{os.getpid()}"
    programs: list[subprocess.Popen[str]] = []
    try:
        urls = []
        for name in (service, service, service + "-other"):
            programs.append(program(name, port))
            stdout = programs[-1].stdout
            assert stdout is not None
            urls.append(stdout.readline().strip())
        url = f"http://localhost:{port}/metrics"
        assert urls == [url, url, "None"]
        until(lambda: shown(url) == 2)
    finally:
        said = [each.communicate(timeout=60)[1] for each in programs]
    assert said[:2] == ["", ""]
    assert said[2].count("\n") == 1
    assert f"cannot be served on localhost:{port}" in said[2]
    keys = [groups.key_of(name, "localhost", port) for name in (service, service + "-other")]
    assert not any((groups._base() / key).exists() for key in keys)


def test_the_documents_of_members_are_json_of_a_known_version(place: Path) -> None:
    """What another version of the library writes is told by its number."""
    first, second = Group(KEY, collect=lambda: jobs(3)), Group(KEY)
    first.join()
    second.join()
    first._publish()
    content = json.loads((folder(place) / "member-0.json").read_text())
    assert (content["version"], content["pid"]) == (1, os.getpid())
    assert merge.load(content["families"]) == jobs(3)
    second.leave()
    first.leave()
