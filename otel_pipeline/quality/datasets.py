"""Datasets that are declared once, with their checks, and looked up by name."""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Final

from otel_pipeline.config._parse import shorten
from otel_pipeline.errors import ConfigurationError
from otel_pipeline.quality.checks import params
from otel_pipeline.quality.checks.model import param, with_own_names
from otel_pipeline.quality.checks.whole import Freshness
from otel_pipeline.quality.segments import MOST_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LEVELS", "Dataset", "declared", "register"]

#: Columns of a dataset whose categories are counted.
MOST_CATEGORIES: Final = 20
#: How much is looked at, from little to much.
LEVELS: Final = ("basic", "standard", "full")


@dataclass(frozen=True)
class Dataset:
    """A dataset, and what one wants to be true of it.

    Args:
        name: Its name, a short fixed word: `orders`.
        checks: Its checks. No two have the same name.
        freshness: The age at which it is stale, as seconds or text such as `26h`. Where
            `updated_at` is given too, that is checked, unless a check does already.
        updated_at: The column with the time of each row.
        level: How closely `observe` looks: `basic`, `standard` or `full`.
        monitors: The monitors that judge it.
        categories: Columns of few values, such as a carrier or a status, whose shares the monitors
            watch. The values are kept in the monitors' history.
        segments: One or two columns whose values split the dataset into parts, such as an origin:
            monitors watch the rows and nulls of each part, too. Findings name the part, so
            declare only columns whose values may be read by all who read the log.

    Raises:
        ConfigurationError: Something of this cannot be used.

    Metrics:
        `dataset_freshness_limit_seconds`, once it is observed.

    Example:
        >>> from otel_pipeline.quality import Dataset, NotNull, register
        >>> undo = register(Dataset("docs-orders", checks=[NotNull("id")], freshness="26h"))
        >>> undo()
    """

    name: str = param(params.text("The name of the dataset."))
    _: KW_ONLY
    checks: Any = dataclasses.field(default=())
    freshness: Any = param(params.duration("The age at which the dataset is stale."), None)
    updated_at: str | None = param(params.column("The column with the time of each row."), None)
    level: str = param(params.choice("How closely the data are looked at.", LEVELS), "basic")
    monitors: Any = dataclasses.field(default=None)
    categories: Any = param(
        params.columns("Columns of few values whose shares monitors watch.", MOST_CATEGORIES), ()
    )
    segments: Any = param(
        params.columns("One or two columns whose values split the dataset.", MOST_COLUMNS), ()
    )

    def __post_init__(self) -> None:
        """Check and convert what was given."""
        for one in dataclasses.fields(self):
            given = getattr(self, one.name)
            if "param" not in one.metadata or given is one.default:
                continue
            try:
                object.__setattr__(self, one.name, one.metadata["param"].parse(given))
            except (TypeError, ValueError) as error:
                raise ConfigurationError(
                    f"dataset {self.name!r}: {one.name} {shorten(given)} {error}"
                ) from None
        checks = with_own_names(self.name, self.checks)
        ages = any(isinstance(check, Freshness) for check in checks)
        if self.freshness is not None and self.updated_at is not None and not ages:
            checks = (*checks, Freshness(self.updated_at, self.freshness))
        object.__setattr__(self, "checks", checks)


_declared: dict[str, Dataset] = {}
_lock = threading.Lock()


def register(*datasets: Dataset) -> Callable[[], None]:
    """Declare datasets, so that `stage.observe(data, "orders")` finds their checks.

    A later declaration of a name replaces an earlier one.

    Args:
        datasets: The datasets, such as `quality.load("checks.yaml")` gives.

    Returns:
        A function that takes it back.
    """
    with _lock:
        before = dict(_declared)
        _declared.update({one.name: one for one in datasets})

    def undo() -> None:
        with _lock:
            for one in datasets:
                if one.name in before:
                    _declared[one.name] = before[one.name]
                else:
                    _declared.pop(one.name, None)

    return undo


def declared(name: str) -> Dataset | None:
    """Return the dataset of a name, if it was declared."""
    return _declared.get(name)
