"""The ledger: every item is somewhere, at every moment."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_pipeline.sdk.ledger import Ledger, Ledgers

if TYPE_CHECKING:
    from otel_pipeline.sdk.ledger import Account


def balanced(account: Account) -> bool:
    return account["produced"] + account["recovered"] == (
        account["delivered"]
        + account["rejected"]
        + account["dropped"]
        + account["pending_memory"]
        + account["pending_disk"]
    )


def test_a_new_ledger_is_off_and_empty() -> None:
    """A snapshot has the keys of the contract, in order, and starts at zero."""
    assert list(Ledger().snapshot().items()) == [
        ("state", "off"),
        ("produced", 0),
        ("recovered", 0),
        ("delivered", 0),
        ("rejected", 0),
        ("dropped", 0),
        ("pending_memory", 0),
        ("pending_disk", 0),
    ]


def test_each_move_takes_items_from_one_place_to_the_next() -> None:
    """Produced items wait in memory until delivered, rejected, dropped or put on disk."""
    ledger = Ledger("owned")
    ledger.produce(10)
    ledger.produce()
    ledger.deliver(4)
    ledger.reject(1)
    ledger.drop(2)
    ledger.to_disk(3)
    assert ledger.snapshot() == {
        "state": "owned",
        "produced": 11,
        "recovered": 0,
        "delivered": 4,
        "rejected": 1,
        "dropped": 2,
        "pending_memory": 1,
        "pending_disk": 3,
    }


def test_recovered_items_come_from_disk_and_are_delivered_from_memory() -> None:
    """What an earlier process left counts as recovered, not as produced."""
    ledger = Ledger("owned")
    ledger.recover(5)
    assert (ledger.snapshot()["pending_disk"], ledger.snapshot()["pending_memory"]) == (5, 0)
    ledger.from_disk(5)
    assert (ledger.snapshot()["pending_disk"], ledger.snapshot()["pending_memory"]) == (0, 5)
    ledger.deliver(5)
    account = ledger.snapshot()
    assert (account["produced"], account["recovered"], account["delivered"]) == (0, 5, 5)
    assert account["pending_memory"] == account["pending_disk"] == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["produce", "deliver", "reject", "drop", "recover", "to_disk"]),
            st.integers(0, 1000),
        )
    )
)
def test_the_account_balances_after_any_moves(moves: list[tuple[str, int]]) -> None:
    """produced + recovered is always the sum of where items are."""
    ledger = Ledger()
    for name, n in moves:
        getattr(ledger, name)(n)
        assert balanced(ledger.snapshot())


def test_the_account_balances_at_every_moment_under_threads() -> None:
    """Snapshots taken while other threads move items balance, and no count is lost."""
    ledger = Ledger("owned")
    done = threading.Event()
    wrong: list[Account] = []

    def look() -> None:
        while not done.is_set():
            account = ledger.snapshot()
            if not balanced(account) or account["pending_memory"] < 0:
                wrong.append(account)

    def work() -> None:
        for _ in range(5000):
            ledger.produce(3)
            ledger.deliver(1)
            ledger.reject(1)
            ledger.drop(1)

    looker = threading.Thread(target=look)
    workers = [threading.Thread(target=work) for _ in range(4)]
    for thread in [looker, *workers]:
        thread.start()
    for thread in workers:
        thread.join()
    done.set()
    looker.join()
    assert wrong == []
    account = ledger.snapshot()
    assert [account["produced"], account["delivered"], account["rejected"], account["dropped"]] == [
        60_000,
        20_000,
        20_000,
        20_000,
    ]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_starts_at_zero_even_when_the_lock_was_held() -> None:
    """The child has a fresh lock, counts only its own items, and knows when it began."""
    ledger = Ledger("owned")
    ledger.produce(7)
    before = time.time_ns()
    read, write = os.pipe()
    with ledger._lock:
        pid = os.fork()
        if pid == 0:
            ledger.produce(2)
            account = ledger.snapshot()
            fresh = ledger.start >= before and account["state"] == "owned"
            os.write(write, f"{account['produced']} {account['pending_memory']} {fresh}".encode())
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 100) == b"2 2 True"
    os.close(read)
    os.close(write)
    assert ledger.snapshot()["produced"] == 7


def test_three_signals_have_a_ledger_each() -> None:
    """`Ledgers.snapshot` has one account for each signal, which began together."""
    before = time.time_ns()
    ledgers = Ledgers()
    ledgers.traces.produce(1)
    ledgers.metrics.produce(2)
    ledgers.logs.produce(3)
    snapshot = ledgers.snapshot()
    assert {signal: account["produced"] for signal, account in snapshot.items()} == {
        "traces": 1,
        "metrics": 2,
        "logs": 3,
    }
    assert before <= ledgers.start <= time.time_ns()
