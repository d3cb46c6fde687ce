"""Locks on bytes of a file, which tell the processes of a machine apart and end with their owner.

A lock is POSIX's: the kernel lets go of it when its process ends, however it ends, and a forked
child does not have it. A process loses all its locks on a file when it closes any descriptor of
that file, so there is one descriptor for each, and it is never closed while locks matter.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ByteLocks", "is_open", "locks_in"]

#: Seconds between two attempts to get a lock that another process holds.
_RETRY: Final = 0.005


class ByteLocks:
    """The locks on bytes of one file that this process has, and a look at those of others."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self.file = os.open(path, flags, 0o600)
        self._mine: dict[int, object] = {}
        self.users = 0

    def take(self, byte: int) -> bool:
        """Lock a byte until `release` or the end of the process; False if it is taken."""
        # The kernel tells processes apart, and this tells threads.
        claim = object()
        if self._mine.setdefault(byte, claim) is not claim:
            return False
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError:
            del self._mine[byte]
            return False
        return True

    def release(self, byte: int) -> None:
        """Let go of a byte."""
        fcntl.lockf(self.file, fcntl.LOCK_UN, 1, byte)
        self._mine.pop(byte, None)

    def is_taken(self, byte: int) -> bool:
        """Return whether a process that is alive, such as this one, has locked the byte."""
        if byte in self._mine:
            return True
        if not self.take(byte):
            return True
        self.release(byte)
        return False

    def are_at(self, path: Path) -> bool:
        """Return whether the file is still the one at `path`."""
        try:
            return _identity(path.stat()) == _identity(os.fstat(self.file))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Use it no more; its last user in this process lets go of everything."""
        with _guard:
            self.users -= 1
            if not self.users:
                _all.pop(_identity(os.fstat(self.file)), None)
                os.close(self.file)

    @contextlib.contextmanager
    def held(self, byte: int, timeout: float) -> Iterator[bool]:
        """Hold a byte for the code inside; yields False if it could not be had in time."""
        deadline = time.monotonic() + timeout
        while not (taken := self.take(byte)) and time.monotonic() < deadline:
            time.sleep(_RETRY)
        try:
            yield taken
        finally:
            if taken:
                self.release(byte)


#: One for each file, by device and inode: closing a second descriptor would end the locks.
_all: dict[tuple[int, int], ByteLocks] = {}
_guard = threading.Lock()


def locks_in(path: Path) -> ByteLocks:
    """Return the locks of this process on the file, which is made if need be; to be closed."""
    with _guard:
        found = None
        with contextlib.suppress(FileNotFoundError):
            found = _all.get(_identity(path.stat()))
        if found is None:
            made = ByteLocks(path)
            found = _all.setdefault(_identity(os.fstat(made.file)), made)
        found.users += 1
        return found


def is_open(path: Path) -> bool:
    """Return whether this process has the locks of a file already."""
    try:
        return _identity(path.stat()) in _all
    except FileNotFoundError:
        return False


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _in_child() -> None:
    """Forget the locks, which are the parent's; the descriptors do no harm."""
    global _guard  # noqa: PLW0603  a lock cannot be renewed in place
    _guard = threading.Lock()
    _all.clear()


os.register_at_fork(after_in_child=_in_child)
