"""Locks on bytes tell processes and threads apart, and end with their owner."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from otel_pipeline.sdk import locks
from otel_pipeline.sdk.locks import ByteLocks, is_open, locks_in

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """
import sys
from pathlib import Path
from otel_pipeline.sdk.locks import locks_in
locks = locks_in(Path(sys.argv[1]))
print(locks.take(3), flush=True)
sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """Start another process that takes byte 3, and says whether it got it."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str], *, kill: bool = False) -> None:
    if kill:
        process.kill()
    process.communicate(timeout=30)


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    """It is seen while the process lives, and free once it was killed."""
    mine = locks_in(tmp_path / "lock")
    other = holder(tmp_path / "lock")
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert mine.is_taken(3)
        assert not mine.take(3)
        assert not mine.is_taken(4)
        with mine.held(3, 0.01) as held:
            assert not held
    finally:
        end(other, kill=True)
    assert not mine.is_taken(3)
    assert mine.take(3)
    mine.close()


def test_what_this_process_holds_is_taken_for_others_until_it_is_released(tmp_path: Path) -> None:
    """Looking at a byte, and closing another user's locks, does not let go of it."""
    mine, again = locks_in(tmp_path / "lock"), locks_in(tmp_path / "lock")
    assert again is mine
    assert mine.take(3)
    assert mine.is_taken(3)
    assert not mine.take(3)
    again.close()
    assert is_open(tmp_path / "lock")
    for answer in ("False\n", "True\n"):
        other = holder(tmp_path / "lock")
        assert other.stdout is not None
        assert other.stdout.readline() == answer
        end(other)
        mine.release(3)
    mine.close()
    assert not is_open(tmp_path / "lock")


def test_one_thread_at_a_time_holds_a_byte(tmp_path: Path) -> None:
    """The kernel's locks are a process's, so threads are told apart here."""
    mine = locks_in(tmp_path / "lock")
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(50):
            with mine.held(0, 30) as held:
                assert held
                inside.append(1)
                most.append(len(inside))
                time.sleep(0)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 200
    assert set(most) == {1}
    mine.close()


def test_a_forked_child_has_none_of_its_parents_locks(tmp_path: Path) -> None:
    """It opens the file anew, and finds taken what its parent holds."""
    program = """
import os, sys
from pathlib import Path
from otel_pipeline.sdk.locks import is_open, locks_in
path = Path(sys.argv[1])
locks = locks_in(path)
assert locks.take(3)
child = os.fork()
if child == 0:
    assert not is_open(path)
    own = locks_in(path)
    fine = own is not locks and own.is_taken(3) and own.take(4)
    own.close()
    os._exit(0 if fine else 1)
status = os.waitpid(child, 0)[1]
print(status, locks.is_taken(3), locks.is_taken(4))
"""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, tmp_path / "lock"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout == "0 True False\n"
    assert result.stderr == ""


def test_a_removed_file_is_not_the_one_at_its_path(tmp_path: Path) -> None:
    """Whoever waited for the lock of a file that was removed meanwhile sees that."""
    path = tmp_path / "lock"
    old = ByteLocks(path)
    assert old.are_at(path)
    path.unlink()
    assert not old.are_at(path)
    path.touch()
    assert not old.are_at(path)
    os.close(old.file)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Nobody leads a process to a file of somebody else."""
    (tmp_path / "target").touch()
    (tmp_path / "lock").symlink_to(tmp_path / "target")
    try:
        locks_in(tmp_path / "lock")
    except OSError:
        pass
    else:
        raise AssertionError("it was opened")
    assert not locks._all or not is_open(tmp_path / "target")
