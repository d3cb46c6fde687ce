"""Settings of monitors, declared in code or in a YAML file."""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import yaml

from otel_pipeline.config import parse_duration
from otel_pipeline.errors import ConfigurationError
from otel_pipeline.quality.detector import Direction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Monitor", "read_settings", "settings_for"]

#: Metrics of which only one direction is worth saying.
_UPWARDS: Final = ("freshness", "null_ratio:*", "category_drift:*")


@dataclass(frozen=True, slots=True)
class Monitor:
    """Settings of a monitor.

    Attributes:
        metric: The metric, or a pattern of such: `rows`, `null_ratio:*`.
        sensitivity: 1 is usual; 2 halves what a value may be off, 0.5 doubles it.
        direction: `up`, `down` or `both`: which values are anomalous. By default `up` for ages,
            ratios of nulls and drifts of categories, and `both` for all others.
        min_change: Smallest difference from the expected value that is worth saying.
        cooldown: Time after a finding in which only a worse one is new.
        low: A value below this is anomalous, whatever the history says.
        high: A value above this is anomalous, whatever the history says.
        enabled: Whether the metric is watched at all.

    Raises:
        ConfigurationError: A setting cannot be used.

    Example:
        >>> from otel_pipeline.quality import Monitor
        >>> Monitor("rows", sensitivity=2, low=1).direction is None
        True
    """

    metric: str
    _: dataclasses.KW_ONLY
    sensitivity: float = 1.0
    direction: Direction | None = None
    min_change: float | None = None
    cooldown: dt.timedelta | None = None
    low: float | None = None
    high: float | None = None
    enabled: bool = True

    def __post_init__(self) -> None:
        where = f"monitor {self.metric!r}"
        if not self.sensitivity > 0:
            raise ConfigurationError(f"{where}: sensitivity={self.sensitivity!r} is not above 0")
        if self.direction is not None and self.direction not in get_args(Direction):
            raise ConfigurationError(
                f"{where}: direction={self.direction!r} is not one of "
                + ", ".join(get_args(Direction))
            )
        if self.min_change is not None and not self.min_change >= 0:
            raise ConfigurationError(f"{where}: min_change={self.min_change!r} is below 0")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ConfigurationError(
                f"{where}: low={self.low!r} is above high={self.high!r}: no value would do"
            )


def settings_for(metric: str, common: Sequence[Monitor], own: Sequence[Monitor]) -> Monitor:
    """Return the settings of a metric: the last of its dataset's that match, else of all."""
    found = next(
        (
            monitor
            for monitor in (*reversed(own), *reversed(common))
            if fnmatchcase(metric, monitor.metric)
        ),
        Monitor(metric),
    )
    if found.direction is None and any(fnmatchcase(metric, one) for one in _UPWARDS):
        return dataclasses.replace(found, direction="up")
    return found


def read_settings(path: str | Path) -> tuple[list[Monitor], dict[str, list[Monitor]]]:
    """Read settings from a YAML file.

    Args:
        path: The file.

    Returns:
        The settings for every dataset, and those of single datasets.

    Raises:
        ConfigurationError: The file cannot be used; says where and why.
    """
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is no YAML: {error}") from error
    top = _mapping(document, str(path))
    _known(top, ("monitors", "datasets"), str(path))
    common = _monitors(top.get("monitors"), f"{path}: monitors")
    datasets = _mapping(top.get("datasets") or {}, f"{path}: datasets")
    return common, {
        str(name): _monitors(own, f"{path}: datasets.{name}") for name, own in datasets.items()
    }


def _monitors(given: object, where: str) -> list[Monitor]:
    if given is None:
        return []
    if not isinstance(given, list):
        raise ConfigurationError(f"{where} is no list of monitors: write `- metric: rows`")
    return [_monitor(one, f"{where}[{place}]") for place, one in enumerate(given)]


def _monitor(given: object, where: str) -> Monitor:
    options = _mapping(given, where)
    _known(options, [one.name for one in dataclasses.fields(Monitor)], where)
    if not isinstance(options.get("metric"), str):
        raise ConfigurationError(f"{where} has no metric, such as `metric: rows`")
    for name in ("sensitivity", "min_change", "low", "high"):
        value = options.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ConfigurationError(f"{where}: {name}={value!r} is no number")
    if "enabled" in options and not isinstance(options["enabled"], bool):
        raise ConfigurationError(f"{where}: enabled={options['enabled']!r} is not true or false")
    if options.get("cooldown") is not None:
        try:
            seconds = parse_duration(str(options["cooldown"]))
        except ValueError as error:
            raise ConfigurationError(
                f"{where}: cooldown={options['cooldown']!r} {error}, such as 12h or 1d"
            ) from error
        options["cooldown"] = dt.timedelta(seconds=seconds)
    try:
        return Monitor(**options)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from error


def _mapping(given: object, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ConfigurationError(f"{where} is no mapping of names to values")
    return dict(given)


def _known(given: Mapping[str, object], names: Sequence[str], where: str) -> None:
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
            raise ConfigurationError(f"{where}: there is no setting {name!r}; {hint}")
