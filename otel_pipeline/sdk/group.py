"""The processes of one user and service on a host: one `/metrics` that shows their sum.

Each member writes what it has counted to a file of its own, about once a second and when it ends.
Whoever makes the page adds those files up with what it has itself. The files of members that have
ended are added to one file for all of them and removed, so there are never more files than
processes. Who is alive is told by the kernel: a member holds a lock on a byte of the lock file, and
a lock ends with its process. One lock makes a member the leader, which serves `/metrics`; when it
ends, another one takes the lock, and the port.

```text
/dev/shm/otel_pipeline-1000/3f0c…/
    lock           byte 0: held to read or change the folder; byte 1: the leader's; 16…: members'
    member-0.json  what the member with the lock on byte 16 has counted
    ended.json     the sum over members that have ended
    origins.json   processes whose forked children join, such as a server's master process
    endpoint.json  where the leader serves
```
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import stat
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

from otel_pipeline import diagnostics
from otel_pipeline.metrics import merge
from otel_pipeline.metrics.merge import Snapshot
from otel_pipeline.sdk.locks import is_open, locks_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from otel_pipeline.metrics.merge import Limits
    from otel_pipeline.metrics.snapshots import Family
    from otel_pipeline.sdk.locks import ByteLocks
    from otel_pipeline.sdk.metrics_server import MetricsServer

__all__ = ["Group", "key_of", "tell_programs"]

T = TypeVar("T")

#: Seconds between two writes: a live member lags by a second at most.
_INTERVAL: Final = 0.7
#: The share of a member's time that writing may take before it writes less often.
_MOST_SHARE: Final = 0.1
#: Seconds to wait for others who read or change the folder.
_PATIENCE: Final = 2.0
#: The same when this process ends.
_QUICK: Final = 0.3
#: The same for a thread that is writing what this process has counted.
_LONG: Final = 1.0
_VERSION: Final = 1
#: Where the groups' folders are: in memory, or else on disk. What a user's sessions and services
#: have of their own (TMPDIR, XDG_RUNTIME_DIR) would keep them apart.
_PLACES: Final = (Path("/dev/shm"), Path("/tmp"))  # noqa: S108  the folder in it is this user's

_MUTEX: Final = 0
_LEADER: Final = 1
_FIRST_MEMBER: Final = 16


#: Tells programs that this one starts which group it has joined: `SERVICE HASH:KEY`. They would
#: find it by its port, unless that is any free one.
_VARIABLE: Final = "_OTEL_PIPELINE_GROUP"


def key_of(service: str, host: str, port: int) -> str:
    """Return the key of the group that a process belongs to.

    Args:
        service: The service's name.
        host: Where it serves.
        port: On which port; 0 for any free one.

    Returns:
        The same for all processes that were configured alike. With port 0 it is that of the
        process which started this one for the same service, or a new one.
    """
    if port:
        return _hash(f"{service}\0{host}\0{port}")
    known, _, key = os.environ.get(_VARIABLE, "").partition(":")
    if known == _hash(service) and re.fullmatch("[0-9a-f]{16}", key):
        return key
    return secrets.token_hex(8)


def tell_programs(key: str, service: str) -> Callable[[], None]:
    """Let programs that this process starts find its group, and return the undo."""
    os.environ[_VARIABLE] = mark = f"{_hash(service)}:{key}"

    def undo() -> None:
        if os.environ.get(_VARIABLE) == mark:
            del os.environ[_VARIABLE]

    return undo


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _base() -> Path:
    """Return the folder of all groups of this user, made if need be.

    Raises:
        OSError: There is no place for it that is this user's alone.
    """
    memory, disk = _PLACES
    parent = memory if os.access(memory, os.W_OK) else disk
    base = parent / f"otel_pipeline-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{base} is not a folder of this user alone")
    return base


class _Document(NamedTuple):
    """What a member has written."""

    identity: str
    pid: int
    families: Sequence[Family]

    @classmethod
    def of(cls, content: Any) -> _Document:
        """Return what the file of a member says."""
        _check_version(content)
        families = tuple(merge.load(content["families"]))
        return cls(str(content["identity"]), int(content["pid"]), families)


class _Ended(NamedTuple):
    """The sum over members that have ended, and who was taken in last."""

    taken: Sequence[str] = ()
    families: Sequence[Family] = ()

    @classmethod
    def of(cls, content: Any) -> _Ended:
        """Return what the file of the ended says."""
        _check_version(content)
        return cls(tuple(content["taken"]), tuple(merge.load(content["families"])))


class _Endpoint(NamedTuple):
    """Where the leader serves; None where it cannot."""

    url: str | None
    port: int | None

    @classmethod
    def of(cls, content: Any) -> _Endpoint:
        """Return what the leader's file says."""
        return cls(content["url"], content["port"])


def _check_version(content: Any) -> None:
    if content["version"] != _VERSION:
        raise ValueError(f"it has version {content['version']}, not {_VERSION}")


def _origins_of(content: Any) -> list[list[int]]:
    return [[int(pid), int(started)] for pid, started in content]


class _View(NamedTuple):
    """What the other members had when the folder was last read."""

    live: Sequence[_Document] = ()
    ended: Sequence[Family] = ()


class Group:
    """This process's membership of a group; from `join` to `leave`, and in forked children.

    Where there is no folder for it, this process serves alone.

    Args:
        key: Says which group; see `key_of`.
        collect: Gives what this process has counted.
        serve: Starts to serve on the port of the leader before it, or where it was configured to
            (None); returns the server, or None if it cannot.
        limits_of: As in `merge.merge`.
    """

    def __init__(
        self,
        key: str,
        *,
        collect: Callable[[], list[Family]] = list,
        serve: Callable[[int | None], MetricsServer | None] = lambda _: None,
        limits_of: Callable[[str], Limits] = merge.default_limits,
    ) -> None:
        self.key = key
        self._folder: Path | None = None
        self._collect = collect
        self._serve = serve
        self._limits_of = limits_of
        self._alone_because: OSError | None = None
        self._reset()

    @property
    def folder(self) -> Path:
        """The group's folder."""
        if self._folder is None:
            self._folder = _base() / self.key
        return self._folder

    def _reset(self) -> None:
        """Be no member, with nothing that another thread could hold; also after a fork."""
        self._writing = threading.Lock()  # held to write what this process has counted
        self._locks: ByteLocks | None = None
        self._member: int | None = None
        self._identity = secrets.token_hex(16)
        self._server: MetricsServer | None = None
        self._leads = False
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._view = _View()
        self._read: dict[str, tuple[tuple[int, ...], Any]] = {}

    # --- Joining and leaving ----------------------------------------------------------------------

    def join(self) -> None:
        """Become a member, and the leader if there is none; serve alone if that cannot be."""
        try:
            self._become_member()
            self._lead_if_nobody_does()
        except OSError as error:
            self._alone_because = error
            if self._server is None:
                self._server = self._serve(None)
            return
        self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="otel-pipeline-group", daemon=True)
        self._thread.start()

    def _become_member(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not self._enter():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the other processes do not let go of {self.folder}")

    def _enter(self) -> bool:
        """Take a member's lock; False if the folder was just being removed, or is in use."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        path = self.folder / "lock"
        try:
            locks = locks_in(path)
        except FileNotFoundError:
            return False
        self._locks = locks
        entered = False
        try:
            with locks.held(_MUTEX, _PATIENCE) as held:
                if held and locks.are_at(path):
                    self._take_place(locks)
                    entered = True
        finally:
            if not entered:
                self._let_go()
        return entered

    def _take_place(self, locks: ByteLocks) -> None:
        if not self._is_in_use():
            self._clear()
        # A file without a lock is that of a member that has ended, whose values are wanted.
        in_use = {number for number, _ in self._files()}
        free = (n for n in itertools.count() if n not in in_use)
        self._member = next(n for n in free if locks.take(_FIRST_MEMBER + n))
        self._remember_origin()
        # Before it is published: one that ends at once leaves a file that says who it was.
        self._write(self._own_file, self._document([]))

    def _let_go(self) -> None:
        """Be no member any more."""
        locks, member, leads = self._locks, self._member, self._leads
        self._locks = self._member = None
        self._leads = False
        if locks is not None:
            if member is not None:
                locks.release(_FIRST_MEMBER + member)
            if leads:
                locks.release(_LEADER)
            locks.close()

    def leave(self) -> None:
        """Write what was counted a last time, stop serving, and leave; the last one tidies up."""
        if self._locks is None or self._member is None:
            if self._server is not None:
                self._server.stop()
            return
        locks, member = self._locks, self._member
        self._ending.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_QUICK)
        try:
            self._publish(last=True)
        except Exception as error:  # noqa: BLE001  what others need is done all the same
            self._warn(error)
        if self._server is not None:
            self._server.stop()
        try:
            with self._holding(_QUICK) as held:
                locks.release(_FIRST_MEMBER + member)
                self._member = None
                if self._leads:
                    self._leads = False
                    locks.release(_LEADER)
                if held and not self._is_in_use():
                    shutil.rmtree(self.folder, ignore_errors=True)
                elif held:
                    self._forget_origin()
        except Exception as error:  # noqa: BLE001  nothing that telemetry does may raise
            self._warn(error)
        finally:
            # `_ending` stays set, for a thread that is still at work.
            self._let_go()
            self._server = None
            self._view = _View()

    def forked(self) -> None:
        """Join as a process of its own, in a forked child."""
        self._reset()
        try:
            if self._alone_because is None:
                self._become_member()
                self._start()
            else:
                self._warn(self._alone_because)
        except Exception as error:  # noqa: BLE001  nothing that telemetry does may raise
            self._warn(error)

    def publish(self) -> None:
        """Let the others see now what this process has counted."""
        try:
            self._publish()
        except Exception as error:  # noqa: BLE001  nothing that telemetry does may raise
            self._warn(error)

    def _is_in_use(self) -> bool:
        """Return whether another member, or a process that may fork more of them, is alive."""
        assert self._locks is not None  # noqa: S101
        return any(
            number != self._member and self._locks.is_taken(_FIRST_MEMBER + number)
            for number, _ in self._files()
        ) or bool(self._living_origins())

    def _clear(self) -> None:
        """Begin at 0: what is here is of an earlier start."""
        for path in self.folder.glob("*.json*"):
            path.unlink(missing_ok=True)

    # --- The files --------------------------------------------------------------------------------

    @property
    def _own_file(self) -> Path:
        return self.folder / f"member-{self._member}.json"

    def _files(self) -> Iterator[tuple[int, Path]]:
        for path in self.folder.glob("member-*.json"):
            number = path.stem.removeprefix("member-")
            if number.isdecimal():
                yield int(number), path

    @contextlib.contextmanager
    def _holding(self, timeout: float = _PATIENCE) -> Iterator[bool]:
        """Let nobody else read or change the folder; yields False if that took too long."""
        locks = self._locks
        if locks is None:
            yield False
            return
        with locks.held(_MUTEX, timeout) as held:
            yield held

    def _write(self, path: Path, content: object) -> None:
        """Replace a file at once: whoever reads it sees the old one or the new one."""
        draft = path.with_suffix(f".json{os.getpid()}-{threading.get_ident()}")
        draft.write_text(json.dumps(content, separators=(",", ":")), encoding="ascii")
        draft.replace(path)

    def _load(self, path: Path, parse: Callable[[Any], T]) -> T | None:
        """Return what a file says, or None; read again only if it has changed."""
        try:
            found = path.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            known = self._read.get(path.name)
            if known is None or known[0] != stamp:
                known = self._read[path.name] = (stamp, self._parsed(path, parse))
        except FileNotFoundError:
            return None
        return cast("T", known[1])  # a file is always parsed by the same

    @staticmethod
    def _parsed(path: Path, parse: Callable[[Any], T]) -> T | None:
        try:
            return parse(json.loads(path.read_bytes()))
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  it may be anything: damaged, or of another version
            diagnostics.warn_once(
                f"group:{path}",
                "%s cannot be read, so /metrics is without what it holds: %s: %s",
                path,
                type(error).__name__,
                error,
            )
            return None

    def _document(self, families: list[Family]) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "identity": self._identity,
            "pid": os.getpid(),
            "families": merge.dump(families),
        }

    def _publish(self, *, last: bool = False) -> bool:
        """Write what this process has counted, if that is of any use to others.

        Args:
            last: Whether this is the last time, after which nothing older may be written.

        Returns:
            Whether it is.
        """
        # Whoever holds it may stand still for good: SIGTERM has interrupted it to end the process.
        held = self._writing.acquire(timeout=_LONG)
        if not held and not last:
            raise TimeoutError("what this process has counted takes too long to write")
        try:
            if not self._may_write(last=last) or not self._has_others():
                return False
            document = self._document(self._collect())
            if self._may_write(last=last):
                self._write(self._own_file, document)
            return True
        finally:
            if held:
                self._writing.release()

    def _may_write(self, *, last: bool) -> bool:
        return self._member is not None and self._ending.is_set() == last

    def _has_others(self) -> bool:
        return (
            any(number != self._member for number, _ in self._files())
            or (self.folder / "ended.json").exists()
            or bool(self._living_origins())
        )

    # --- The sum ----------------------------------------------------------------------------------

    def families(self, own: list[Family]) -> list[Family]:
        """Return the sum of what this process has, and all others of the group, alive or ended."""
        if self._member is None:
            return own
        try:
            view = self._look()
        except Exception as error:  # noqa: BLE001  what was read before is still worth showing
            self._warn(error)
            view = self._view
        if not view.live and not view.ended:
            return own
        return merge.merge(
            [
                Snapshot(own, os.getpid()),
                *[Snapshot(document.families, document.pid) for document in view.live],
                Snapshot(view.ended, alive=False),
            ],
            self._limits_of,
        )

    def _look(self) -> _View:
        """Read what the others have, and bury those that have ended."""
        with self._holding() as held:
            if not held:
                return self._view
            live: list[tuple[Path, _Document]] = []
            over: list[tuple[Path, _Document]] = []
            for number, path in sorted(self._files()):
                if number == self._member or self._locks is None:
                    continue
                # First this: what one that has ended leaves in its file is its last word.
                alive = self._locks.is_taken(_FIRST_MEMBER + number)
                document = self._load(path, _Document.of)
                if document is not None:
                    (live if alive else over).append((path, document))
            ended = self._bury(over)
            self._view = _View([document for _, document in live], ended)
            return self._view

    def _bury(self, over: list[tuple[Path, _Document]]) -> Sequence[Family]:
        """Add those that have ended to the sum of all that have, and remove their files.

        The sum names those that it has taken in last, so that one whose file could not be removed
        any more is not taken in twice.
        """
        path = self.folder / "ended.json"
        known = self._load(path, _Ended.of) or _Ended()
        if not over:
            return known.families
        new = [document for _, document in over if document.identity not in known.taken]
        ended = known.families
        if new:
            snapshots = [Snapshot(doc.families, doc.pid, alive=False) for doc in new]
            ended = merge.merge([Snapshot(ended, alive=False), *snapshots], self._limits_of)
            taken = [document.identity for _, document in over]
            self._write(path, {"version": _VERSION, "taken": taken, "families": merge.dump(ended)})
        for member_file, _ in over:
            member_file.unlink(missing_ok=True)
            self._read.pop(member_file.name, None)
        return ended

    # --- The leader -------------------------------------------------------------------------------

    @property
    def url(self) -> str | None:
        """Where the leader serves, or None if it does not."""
        if self._server is not None:
            return self._server.url
        deadline = time.monotonic() + _PATIENCE
        while self._locks is not None:
            endpoint = self._load(self.folder / "endpoint.json", _Endpoint.of)
            if endpoint is not None:
                return endpoint.url
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)  # whoever leads is about to write it
        return None

    def _lead_if_nobody_does(self) -> None:
        assert self._locks is not None  # noqa: S101
        if not self._leads:
            self._leads = self._locks.take(_LEADER)
            if not self._leads:
                return
        if self._server is not None:
            return
        endpoint = self._load(self.folder / "endpoint.json", _Endpoint.of)
        self._server = self._serve(endpoint and endpoint.port)
        if self._server is not None or endpoint is None:
            url, port = (self._server.url, self._server.port) if self._server else (None, None)
            self._write(self.folder / "endpoint.json", {"url": url, "port": port})

    def _run(self) -> None:
        ending, interval = self._ending, _INTERVAL
        if self._leads:
            _sweep(self.folder)
        while not ending.wait(interval):
            began = time.perf_counter()
            try:
                self._lead_if_nobody_does()
                if self._publish() and self._leads:
                    self._look()
            except Exception as error:  # noqa: BLE001  the thread never dies
                self._warn(error)
            interval = max(_INTERVAL, (time.perf_counter() - began) / _MOST_SHARE)

    def _warn(self, error: Exception) -> None:
        if self._locks is None and self._ending.is_set():
            return  # this process has left meanwhile
        diagnostics.warn_once(
            "group",
            "/metrics cannot show the sum over the processes of this service: %s: %s",
            type(error).__name__,
            error,
        )

    # --- Origins ----------------------------------------------------------------------------------

    def _origins(self) -> list[list[int]]:
        return self._load(self.folder / "origins.json", _origins_of) or []

    def _living_origins(self) -> list[list[int]]:
        return [
            origin
            for origin in self._origins()
            if origin[0] != os.getpid() and _started_at(origin[0]) == origin[1]
        ]

    def _remember_origin(self) -> None:
        """Note the process that this one was forked from: its later children belong here, too."""
        pid = _origin()
        started = None if pid is None else _started_at(pid)
        known = self._living_origins()
        if started is not None and [pid, started] not in known:
            self._write(self.folder / "origins.json", [*known, [pid, started]])

    def _forget_origin(self) -> None:
        """Say that no children of this process will join any more."""
        known = self._origins()
        others = [origin for origin in known if origin[0] != os.getpid()]
        if others != known:
            self._write(self.folder / "origins.json", others)


def _origin() -> int | None:
    """Return the process of this program that this one was forked from, or that spawned it."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    spawner = multiprocessing and multiprocessing.parent_process()
    if spawner is not None:
        return int(spawner.pid)
    if multiprocessing and getattr(multiprocessing.current_process(), "_inheriting", False):
        return None  # it is still importing the program, which its spawner has done, too
    parent = os.getppid()
    # A forked child has its parent's layout of memory; a program that was started has its own.
    layout = _layout(os.getpid())
    return parent if layout is not None and layout == _layout(parent) else None


def _layout(pid: int) -> tuple[str, ...] | None:
    """Return where code and stack of a process begin, from Linux's /proc/PID/stat."""
    fields = _status(pid)
    # Fields 26 (startcode) and 28 (startstack) of proc(5); 0 or 1 where they are not shown.
    found = (fields[23], fields[25]) if len(fields) > 25 else ("0", "0")  # noqa: PLR2004
    return None if set(found) & {"0", "1"} else found


def _started_at(pid: int) -> int | None:
    """Return when a process began, in ticks since the machine did; None if there is none."""
    fields = _status(pid)
    return int(fields[19]) if len(fields) > 19 and fields[0] != "Z" else None  # noqa: PLR2004


def _status(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third one on, which follows the name."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _sweep(own: Path) -> None:
    """Remove what groups of this user left whose last members were killed."""
    with contextlib.suppress(OSError):
        for folder in list(own.parent.iterdir()):
            with contextlib.suppress(OSError):
                if folder != own and not is_open(folder / "lock"):
                    _remove_unused(folder)


def _remove_unused(folder: Path) -> None:
    group = Group(folder.name)
    group._locks = locks = locks_in(folder / "lock")  # noqa: SLF001  one class
    try:
        with locks.held(_MUTEX, 0) as held:
            if held and not group._is_in_use():  # noqa: SLF001
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        locks.close()
