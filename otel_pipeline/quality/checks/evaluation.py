"""Run the checks of a dataset over its data, which come whole or in parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otel_pipeline.quality.checks.keys import KeyProgress
from otel_pipeline.quality.checks.model import CheckError, CheckResult, with_own_names
from otel_pipeline.quality.checks.rows import RowCheck
from otel_pipeline.quality.checks.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import narwhals as nw

    from otel_pipeline.quality.checks.model import Check, Progress

__all__ = ["Evaluation", "Split", "check", "reason_of"]


@dataclass(slots=True)
class _Running:
    """A check, what it has seen, and why it could not be made, if so."""

    check: Check
    progress: Progress
    error: str | None = None

    @property
    def splits(self) -> bool:
        """Whether bad rows are taken out."""
        return self.check.on_fail == "quarantine"


@dataclass(frozen=True, slots=True)
class Split:
    """How the rows of a part are split by the checks that take bad rows out.

    Attributes:
        good: The narwhals frame of the rows that stay.
        bad: The frame of the others.
        checks: The checks that took some out.
        failed: For each of these, whether it took each bad row.
        taken: For each row of the part, whether it is bad; empty for a lazy frame.
    """

    good: Any
    bad: Any
    checks: list[Check]
    failed: list[list[bool]]
    taken: list[bool]


class Evaluation:
    """The checks of one pass over a dataset.

    Args:
        checks: The checks; each has a name of its own.

    Attributes:
        rows: How many rows were looked at.
    """

    def __init__(self, checks: Sequence[Check]) -> None:
        self._running = [_Running(check, check.progress()) for check in checks]
        self.rows = 0

    def fail(self, reason: str) -> None:
        """Say that no check can be made on a part of the data."""
        for one in self._running:
            one.error = one.error or reason

    def refuse(self, checks: Sequence[Check], reason: str) -> None:
        """Say that some checks could not be made."""
        names = {check.name for check in checks}
        for one in self._running:
            if one.check.name in names:
                one.error = one.error or reason

    def add(self, table: Table) -> Split | None:
        """Look at a part of the data.

        Returns:
            How its rows are split, if some are taken out.
        """
        expressions = self._expressions(table)
        found: dict[int, Any] = {}  # what takes rows out of this part, by the check's place
        for index, failing in self._count(table, expressions).items():
            one = self._running[index]
            one.progress.failing += failing  # type: ignore[attr-defined]
            if failing and one.splits:
                found[index] = expressions[index]
        for index, one in enumerate(self._running):
            if one.error is not None or isinstance(one.check, RowCheck):
                continue
            try:
                if not (one.splits and isinstance(one.progress, KeyProgress)):
                    one.progress.add(table)
                elif any(mask := one.progress.mask(table)):
                    backend = table.frame.implementation
                    found[index] = table.nw.new_series(
                        _mask(index), mask, table.nw.Boolean, backend=backend
                    )
            except Exception as error:  # noqa: BLE001  libraries and users' functions raise anything
                one.error = reason_of(error, one.check, table)
        return self._split(table, found) if found else None

    def _expressions(self, table: Table) -> dict[int, nw.Expr]:
        expressions = {}
        for index, one in enumerate(self._running):
            if one.error is None and isinstance(one.check, RowCheck):
                try:
                    expressions[index] = one.check.failing(table)
                except Exception as error:  # noqa: BLE001  as above
                    one.error = reason_of(error, one.check, table)
        return expressions

    def _count(self, table: Table, expressions: dict[int, nw.Expr]) -> dict[int, int]:
        """Return in how many rows each expression holds: all in one go, if none is at fault."""
        try:
            rows, counts = table.how_many(list(expressions.values()))
        except Exception:  # noqa: BLE001  as above
            rows, counts = table.how_many([])[0], []
        self.rows += rows
        found = dict(zip(expressions, counts, strict=False))
        for index in expressions.keys() - found.keys():
            try:
                found[index] = table.how_many([expressions[index]])[1][0]
            except Exception as error:  # noqa: BLE001  as above
                one = self._running[index]
                one.error = reason_of(error, one.check, table)
        return found

    def _split(self, table: Table, found: dict[int, Any]) -> Split:
        nw = table.nw
        names = [_mask(index) for index in found]
        masked = table.frame.with_columns(**{_mask(index): mask for index, mask in found.items()})
        bad = nw.any_horizontal(*map(nw.col, names), ignore_nulls=True)
        taken = Table(masked.filter(bad)).in_memory()
        return Split(
            good=masked.filter(~bad).select(*table.schema),
            bad=taken.select(*table.schema),
            checks=[self._running[index].check for index in found],
            failed=[taken[name].to_list() for name in names],
            taken=[] if table.is_lazy else masked.select(bad=bad)["bad"].to_list(),
        )

    def results(self) -> list[CheckResult]:
        """Return how each check ended, now that all data were seen."""
        return [self._result(one) for one in self._running]

    def _result(self, one: _Running) -> CheckResult:
        check = one.check
        failing = None
        passed = True
        if one.error is None:
            try:
                passed, message, failing = one.progress.verdict(self.rows)
            except Exception as error:  # noqa: BLE001  as above
                one.error = reason_of(error)
        if one.error is not None:
            message = one.error
        stops = check.on_error == "closed" if one.error is not None else not passed
        return CheckResult(
            check=check.name,
            kind=check.kind,
            result="error" if one.error is not None else "pass" if passed else "fail",
            message=message,
            severity=check.severity,
            on_fail=check.on_fail,
            rows=self.rows if failing is not None else None,
            failing=failing,
            # Rows that could not be judged cannot be taken out either.
            breaks=stops and (check.on_fail == "break" or (one.error is not None and one.splits)),
        )


def _mask(index: int) -> str:
    return f"otel_pipeline bad {index}"


def reason_of(error: BaseException, check: Check | None = None, table: Table | None = None) -> str:
    """Return why a check could not be made; an error of a library may quote values of the data."""
    if isinstance(error, CheckError):
        return str(error)
    if isinstance(error, ImportError) and error.name:
        return f'{error.name} is not installed: pip install "otel-pipeline[quality]"'
    types = table.types if table is not None else {}
    about = [
        f"{name!r} is {types[name]}" for name in (check.about() if check else ()) if name in types
    ]
    told = f", in which column {' and '.join(about)}" if about else ""
    return f"it cannot be made on these data{told} ({type(error).__name__})"


def check(data: object, checks: Iterable[Check]) -> list[CheckResult]:
    """Check data without a pipeline: nothing is raised, counted, logged or taken out.

    Args:
        data: A frame of pandas, Polars or PyArrow, a relation of DuckDB, rows, or an iterator of
            rows, which is consumed.
        checks: The checks.

    Returns:
        How each of them ended, in order.

    Raises:
        ConfigurationError: Two checks have one name, or something is no check.

    Example:
        >>> from otel_pipeline.quality import Between, NotNull, check
        >>> orders = [{"id": 1, "amount": 5}, {"id": None, "amount": 7}]
        >>> for one in check(orders, [NotNull("id"), Between("amount", min=0)]):
        ...     print(one.check, one.result, one.message)
        not_null_id fail 1 of 2 rows (50.00%) fail
        between_amount pass 0 of 2 rows (0.00%) fail
    """
    evaluation = Evaluation(with_own_names("data", checks))
    try:
        for table in Table.each_of(data):
            evaluation.add(table)
    except CheckError as error:
        evaluation.fail(str(error))
    return evaluation.results()
