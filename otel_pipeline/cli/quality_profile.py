"""`otel-pipeline quality profile`: show what a file of data looks like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_pipeline.errors import CommandError, ConfigurationError, ProfileError

if TYPE_CHECKING:
    import argparse

    from otel_pipeline.quality import ColumnProfile, Profile

__all__ = ["add_arguments", "run"]

_WIDEST = 24  # characters of a name or type
_LARGE = 1e15
_SMALLEST = 0.0001
_HEAD = ("column", "type", "null", "distinct", "min", "median", "max", "mean", "std", "notes")
_RIGHT = {"null", "distinct", "min", "median", "max", "mean", "std"}
#: What is only told where there is some of it.
_NOTES = {
    "nan_count": "NaN",
    "infinite_count": "infinite",
    "zero_count": "zero",
    "negative_count": "negative",
    "empty_count": "empty",
    "true_count": "true",
    "future_count": "in the future",
    "epoch_count": "at 1970-01-01",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `otel-pipeline quality profile`."""
    parser.add_argument("file", metavar="FILE", help="CSV, Parquet, or JSON lines")
    parser.add_argument(
        "--level",
        choices=("basic", "standard", "full"),
        default="standard",
        help="how much to find out (default: %(default)s)",
    )
    parser.add_argument(
        "--format", choices=("csv", "jsonl", "parquet"), help="instead of the one of FILE's name"
    )
    parser.add_argument(
        "--top-values",
        action="append",
        default=[],
        metavar="COLUMN",
        help="show this column's values, too; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--save", metavar="PATH", help="keep the profile, for Profile.from_bytes")


def run(args: argparse.Namespace) -> int:
    """Print the profile of a file.

    Args:
        args: `file`, `level`, `format`, `top_values`, `json`, `save`.

    Returns:
        0.

    Raises:
        CommandError: The file cannot be read or profiled, or the profile not be written.
    """
    profile = _profile(args)
    missing = [name for name in args.top_values if name not in profile.columns]
    if missing:
        raise CommandError(f"--top-values {missing[0]}: {args.file} has no such column")
    if args.save:
        try:
            Path(args.save).write_bytes(profile.to_bytes())
        except OSError as error:
            raise CommandError(f"--save {args.save}: {error.strerror}") from error
    print(json.dumps(profile.to_dict(), indent=2) if args.json else _text(profile))
    return 0


def _profile(args: argparse.Namespace) -> Profile:
    try:
        from otel_pipeline.quality.files import profile_file  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed: pip install 'otel-pipeline[quality]'"
        ) from error
    try:
        return profile_file(args.file, args.level, form=args.format, top_values=args.top_values)
    except ProfileError as error:
        raise CommandError(f"{args.file}: {error}") from error
    except OSError as error:
        raise CommandError(f"{args.file}: {error.strerror or 'it cannot be read'}") from error


def _text(profile: Profile) -> str:
    rows = [_HEAD, *(_cells(column) for column in profile.columns.values())]
    used = [place for place in range(len(_HEAD)) if any(row[place] for row in rows[1:])]
    lines = [f"{profile.rows:,} rows, {len(profile.columns)} columns"]
    if profile.columns:
        lines.append("")
    widths = {place: max(len(row[place]) for row in rows) for place in used}
    for row in rows if profile.columns else ():
        cells = (
            row[place].rjust(widths[place])
            if _HEAD[place] in _RIGHT
            else row[place].ljust(widths[place])
            for place in used
        )
        lines.append("  ".join(cells).rstrip())
    errors = [one.quantile_error for one in profile.columns.values() if one.quantile_error]
    if errors:
        lines += [
            "",
            f"~ is an estimate; the rank of a median is off by {max(errors):.2%} at most.",
        ]
    for column in profile.columns.values():
        if column.top_values:
            lines += ["", f"Most frequent in {column.name}:"]
            lines += [f"  {count:>12,}  {value}" for value, count in column.top_values]
    return "\n".join(lines)


def _cells(column: ColumnProfile) -> tuple[str, ...]:
    distinct = "" if column.distinct is None else f"{column.distinct:,}"
    notes = [
        f"{count:,} {what}" for name, what in _NOTES.items() if (count := getattr(column, name))
    ]
    if column.max_length is not None:
        notes.insert(0, f"length {column.min_length} to {column.max_length}")
    return (
        _short(column.name),
        _short(column.type),
        _share(column.null_ratio),
        f"~{distinct}" if column.distinct_error else distinct,
        _cell(column.min),
        _cell(column.quantile(0.5)),
        _cell(column.max),
        _cell(column.mean),
        _cell(column.std),
        ", ".join(notes),
    )


def _share(ratio: float | None) -> str:
    if not ratio:
        return "" if ratio is None else "0"
    return f"{ratio:.2%}" if ratio >= _SMALLEST else f"<{_SMALLEST:.2%}"


def _short(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return str(value) if abs(value) < _LARGE else f"{value:.6g}"
    return _short(str(value))
