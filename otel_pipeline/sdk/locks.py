"""Locks on bytes of a file, which tell the processes of a machine apart and end with their owner.

A lock is POSIX's: the kernel lets go of it when its process ends, however it ends, and a forked
child does not have it. A process loses all its locks on a file when it closes any descriptor of
that file, so there is one descriptor for each, and it is never closed while locks matter.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ByteLocks", "is_open", "locks_in"]

#: Seconds between two attempts to get a lock that another process holds.
_RETRY: Final = 0.005


class ByteLocks:
    """The locks on bytes of one file that this process has, and a look at those of others.

    Not for threads of one process: they share their process's locks.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(path, flags, 0o600)
        self._mine: set[int] = set()

    def take(self, byte: int) -> bool:
        """Lock a byte until `release` or the end of the process; False if it is taken."""
        if byte in self._mine:
            return False
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError:
            return False
        self._mine.add(byte)
        return True

    def release(self, byte: int) -> None:
        """Let go of a byte."""
        self._mine.discard(byte)
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)

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
            return _identity(path.stat()) == _identity(os.fstat(self._file))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let go of everything, also of the file: for its last user in this process."""
        _all.pop(_identity(os.fstat(self._file)), None)
        os.close(self._file)

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


def locks_in(path: Path) -> ByteLocks:
    """Return the locks of this process on the file, which is made if need be."""
    with contextlib.suppress(FileNotFoundError):
        known = _all.get(_identity(path.stat()))
        if known is not None:
            return known
    locks = ByteLocks(path)
    return _all.setdefault(_identity(path.stat()), locks)


def is_open(path: Path) -> bool:
    """Return whether this process has the locks of a file already."""
    return _identity(path.stat()) in _all


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


# A lock is its process's, so a forked child has none; the descriptors do no harm.
os.register_at_fork(after_in_child=_all.clear)
