"""A profile as bytes: a header in JSON that tells its version, and the numbers of the sketches."""

from __future__ import annotations

import dataclasses
import decimal
import json
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from otel_pipeline.errors import ProfileError
from otel_pipeline.quality.columns import ColumnProfile
from otel_pipeline.quality.moments import Lengths, Moments
from otel_pipeline.quality.sketches import Distinct, Frequent, Quantiles

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["from_bytes", "to_bytes"]

_MAGIC: Final = b"otel-pipeline profile\n"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<HQ")
_PARTS: Final = {
    "_moments": Moments,
    "_lengths": Lengths,
    "_quantiles": Quantiles,
    "_distinct": Distinct,
    "_frequent": Frequent,
}


def to_bytes(level: str, rows: int, columns: Mapping[str, ColumnProfile]) -> bytes:
    """Return a profile as bytes."""
    arrays: list[bytes] = []
    document = {
        "level": level,
        "rows": rows,
        "columns": [_fields(column, arrays) for column in columns.values()],
    }
    header = json.dumps(document, separators=(",", ":")).encode()
    return b"".join([_MAGIC, _HEAD.pack(_VERSION, len(header)), header, *arrays])


def _fields(value: Any, arrays: list[bytes]) -> dict[str, Any]:
    if isinstance(value, Distinct):
        value.settle()
        return {"smallest": _coded(value.smallest, arrays), "limit": value.limit}
    return {
        one.name: _coded(held, arrays)
        for one in dataclasses.fields(value)
        if (held := getattr(value, one.name)) is not None
    }


def _coded(value: Any, arrays: list[bytes]) -> Any:  # noqa: PLR0911
    """Return a value as JSON has it; what it has not is an object with one key."""
    if isinstance(value, np.ndarray):
        arrays.append(np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<")).tobytes())
        return {"array": [value.dtype.str.replace(">", "<"), len(value)]}
    if dataclasses.is_dataclass(value):
        return _fields(value, arrays)
    if isinstance(value, list):
        return [_coded(one, arrays) for one in value]
    if isinstance(value, dict):
        return [[_coded(key, arrays), count] for key, count in value.items()]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, decimal.Decimal):
        return {"decimal": str(value)}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    raise TypeError(type(value).__name__)


def from_bytes(data: bytes) -> tuple[Any, int, dict[str, ColumnProfile]]:
    """Return level, rows and columns of what `to_bytes` gave.

    Raises:
        ProfileError: It is no profile, is damaged, or was written by a newer version.
    """
    if not data.startswith(_MAGIC):
        raise ProfileError("these bytes are no profile: give what Profile.to_bytes() returned")
    try:
        version, size = _HEAD.unpack_from(data, len(_MAGIC))
        if version != _VERSION:
            raise ProfileError(
                f"the profile has format {version}, this version of otel-pipeline reads "
                f"{_VERSION}: upgrade otel-pipeline, or make the profile anew"
            )
        start = len(_MAGIC) + _HEAD.size
        document = json.loads(data[start : start + size])
        reader = _Reader(data, start + size)
        columns = [reader.column(one) for one in document["columns"]]
        if reader.place != len(data):
            raise ValueError  # noqa: TRY301
        return document["level"], int(document["rows"]), {one.name: one for one in columns}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ProfileError):
            raise
        raise ProfileError("the bytes of the profile are damaged: make it anew") from None


class _Reader:
    def __init__(self, data: bytes, place: int) -> None:
        self._data = data
        self.place = place

    def column(self, document: dict[str, Any]) -> ColumnProfile:
        values = {
            name: self._part(_PARTS[name], value) if name in _PARTS else self._value(value)
            for name, value in document.items()
        }
        return ColumnProfile(**values)

    def _part(self, kind: Any, document: dict[str, Any]) -> Any:
        values = {name: self._value(value) for name, value in document.items()}
        if kind is Frequent:
            values["counts"] = dict(map(tuple, values["counts"]))
        return kind(**values)

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(one) for one in value]
        if not isinstance(value, dict):
            return value
        ((name, held),) = value.items()
        if name == "array":
            dtype, length = np.dtype(held[0]), int(held[1])
            array = np.frombuffer(self._data, dtype, length, self.place).copy()
            self.place += array.nbytes
            return array
        if name == "decimal":
            return decimal.Decimal(held)
        if name == "bytes":
            return bytes.fromhex(held)
        raise KeyError(name)
