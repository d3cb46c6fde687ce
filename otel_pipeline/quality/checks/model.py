"""What every check has: its name, how grave a failure is, and what happens then."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from otel_pipeline.config._parse import did_you_mean, shorten
from otel_pipeline.errors import ConfigurationError
from otel_pipeline.quality.checks import params

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_pipeline.quality.checks.table import Table

    Severity = Literal["warning", "critical"]
    OnFail = Literal["warn", "break", "quarantine"]
    OnError = Literal["open", "closed"]

__all__ = ["Check", "CheckError", "CheckResult", "Progress", "parameters", "with_own_names"]

SEVERITIES: Final = ("warning", "critical")
ON_FAIL: Final = ("warn", "break", "quarantine")
ON_ERROR: Final = ("open", "closed")

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST_NAME: Final = 100


class CheckError(Exception):
    """A check that cannot be made; the message tells why, without a value of the data."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How a check of a dataset ended.

    Attributes:
        check: The check's name.
        kind: Its kind, such as `not_null`.
        result: `pass`, `fail`, or `error`, when the check itself could not be made.
        message: What was found, in a sentence without values of the data.
        severity: `warning` or `critical`.
        on_fail: What the check asks for when it fails.
        rows: How many rows were looked at, or None for a check that does not look at rows.
        failing: How many of them failed, or None.
        breaks: Whether the pipeline stops because of it.
    """

    check: str
    kind: str
    result: Literal["pass", "fail", "error"]
    message: str
    severity: Severity
    on_fail: OnFail
    rows: int | None = None
    failing: int | None = None
    breaks: bool = False


class Progress:
    """What a check has seen of a dataset so far; each pass over the data has one of its own."""

    def add(self, table: Table) -> None:
        """Look at a part of the data.

        Raises:
            CheckError: The check cannot be made on it.
        """

    def verdict(self, rows: int) -> tuple[bool, str, int | None]:
        """Return whether the data pass, what was found, and how many rows failed or None.

        Args:
            rows: How many rows there were in all.

        Raises:
            CheckError: The check cannot be made.
        """
        raise NotImplementedError


def param(given: params.Param, default: object = dataclasses.MISSING) -> Any:
    """Return the field of a parameter."""
    return field(default=default, metadata={"param": given})


def parameters(kind: type[Check] | Check) -> dict[str, dataclasses.Field[Any]]:
    """Return the parameters of a kind of check, by their names; its own come first."""
    every = dataclasses.fields(kind)
    own = [one for one in every if not one.kw_only]
    return {one.name: one for one in [*own, *(one for one in every if one.kw_only)]}


@dataclass(frozen=True)
class Check:
    """What one wants to be true of a dataset.

    Args:
        name: How metrics, events and log lines name it; made of its kind and columns by default.
        severity: `warning` or `critical`; a failure is logged as such.
        on_fail: `warn`; `break`, which raises `DataQualityError` when the stage ends, before the
            next one; or `quarantine`, which takes bad rows out and sends them to `quarantine`.
        on_error: Whether a check that cannot be made lets the data pass (`open`), or counts as
            failed (`closed`).
        mostly: The share of rows that must pass, from 0 to 1.
        quarantine: Where bad rows go: a path that ends in `.jsonl` (lines are appended) or
            `.parquet` (a folder of part files), or a function that takes them.
    """

    #: The name of the kind in YAML, and the parameter that `kind: value` gives, if that is enough.
    kind: ClassVar[str]
    short: ClassVar[str] = ""
    #: Whether single rows fail, so that they can be counted and put into quarantine.
    of_rows: ClassVar[bool] = False

    _: KW_ONLY
    name: str = param(params.text("How metrics, events and log lines name the check."), "")
    severity: Severity = param(params.choice("How grave a failure is.", SEVERITIES), "warning")
    on_fail: OnFail = param(
        params.choice(
            "What happens when it fails: warn; break, which stops the pipeline before the next "
            "stage; quarantine, which takes bad rows out.",
            ON_FAIL,
        ),
        "warn",
    )
    on_error: OnError = param(
        params.choice(
            "Whether a check that cannot be made lets the data pass (open) or not (closed).",
            ON_ERROR,
        ),
        "open",
    )
    mostly: float = param(params.ratio("The share of rows that must pass."), 1.0)
    quarantine: Any = param(
        params.sink("Where bad rows go: a path that ends in .jsonl or .parquet."), None
    )

    def __post_init__(self) -> None:
        """Check and convert every parameter.

        Raises:
            ConfigurationError: One cannot be used.
        """
        for name, one in parameters(self).items():
            given = getattr(self, name)
            if given is one.default:
                continue
            try:
                object.__setattr__(self, name, one.metadata["param"].parse(given))
            except (TypeError, ValueError) as error:
                reason = str(error).removeprefix(shorten(given)).strip()
                raise ConfigurationError(
                    f"check {self.kind}: {name} {shorten(given)} {reason}"
                ) from None
        if not self.name:
            object.__setattr__(self, "name", self._default_name())
        if problem := self._problem():
            raise ConfigurationError(f"check {self.kind}: {problem}")

    def _problem(self) -> str | None:
        """Return what does not fit together, or None."""
        if not self.of_rows:
            if self.on_fail == "quarantine":
                return "on_fail 'quarantine' needs a check of single rows; give warn or break"
            if self.mostly < 1:
                return "mostly needs a check of single rows; leave it out"
        if self.on_fail == "quarantine" and self.quarantine is None:
            return (
                "on_fail 'quarantine' needs a quarantine: a path that ends in .jsonl or .parquet, "
                "or a function"
            )
        if self.quarantine is not None and self.on_fail != "quarantine":
            return f"a quarantine is given, but on_fail is {self.on_fail!r}, not 'quarantine'"
        return None

    def _default_name(self) -> str:
        named = "_".join(self.about())
        return _NOT_IN_A_NAME.sub("_", f"{self.kind}_{named}" if named else self.kind)[
            :_LONGEST_NAME
        ]

    def about(self) -> tuple[str, ...]:
        """Return the columns that the check is about, as far as it names them."""
        return ()

    def progress(self) -> Progress:
        """Return what looks at the data for this check."""
        raise NotImplementedError

    def allowed(self, rows: int) -> int:
        """Return how many of so many rows may fail."""
        # Rounded first: 0.9 of 10 rows is 9, though 10 * (1 - 0.9) is a little less than 1.
        return math.floor(round(rows * (1 - self.mostly), 6))


def not_there(column: str, names: Iterable[str]) -> CheckError:
    """Return the error of a column that the data lack."""
    return CheckError(f"there is no column {column!r}{did_you_mean(column, list(names))}")


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return a few names for a message."""
    told = ", ".join(map(repr, names[:most]))
    return told if len(names) <= most else f"{told} and {len(names) - most} more"


def with_own_names(dataset: str, checks: object) -> tuple[Check, ...]:
    """Return checks as a tuple, having made sure that each has a name of its own.

    Raises:
        ConfigurationError: Something is no check, or two have one name.
    """
    if not isinstance(checks, Iterable):
        raise ConfigurationError(f"dataset {dataset!r}: checks are a list, not {shorten(checks)}")
    found: dict[str, Check] = {}
    for check in checks:
        if not isinstance(check, Check):
            raise ConfigurationError(
                f"dataset {dataset!r}: {shorten(check)} is no check; give one of "
                f"otel_pipeline.quality, such as NotNull('id')"
            )
        if check.name in found:
            raise ConfigurationError(
                f"dataset {dataset!r}: two checks are called {check.name!r}; "
                f"give one of them another name="
            )
        found[check.name] = check
    return tuple(found.values())
