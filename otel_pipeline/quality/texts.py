"""The lengths of texts, and a hash of each, for whole arrays at a time."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from otel_pipeline.quality.frames import type_name
from otel_pipeline.quality.sketches import mixed

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["hashes_and_lengths", "wide"]

_WORD: Final = 8
#: Longer texts are hashed one at a time.
_LONG: Final = 256
#: By the bytes of a word that belong to a text.
_MASKS: Final = np.array([2 ** (8 * n) - 1 for n in range(_WORD + 1)], np.uint64)


def hashes_and_lengths(
    array: pa.Array,
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Hash texts or binary values and measure them; null is left out.

    Args:
        array: An Arrow array of strings or binary values, of any of their forms; a dictionary of
            them has no null among its values.

    Returns:
        The hashes, each at least once, and the length of each value: characters, or bytes.
    """
    if pa.types.is_dictionary(array.type):
        hashes, lengths = hashes_and_lengths(array.dictionary)
        places = array.indices.drop_null().to_numpy()
        return hashes[np.unique(places)], lengths[places]
    array = wide(array)
    if array.null_count:
        array = array.drop_null()
    if not len(array):
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    _, offsets_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset :][: len(array) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    data = np.zeros(last - first + _WORD, np.uint8)
    if last > first:
        data[:-_WORD] = np.frombuffer(data_buffer, np.uint8)[first:last]
    lengths = np.diff(offsets)
    hashes = _hashes(data, offsets[:-1] - first, lengths)
    if pa.types.is_large_string(array.type) and data.view(np.int8).min() < 0:  # not only ASCII
        lengths = pc.utf8_length(array).to_numpy(zero_copy_only=False).astype(np.int64)
    return hashes, lengths


def wide(array: pa.Array) -> pa.Array:
    """Return texts or binary values in the one form that the others here work on."""
    text = type_name(array.type) == "string"
    return array.cast(pa.large_string() if text else pa.large_binary())


def _hashes(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """Hash byte strings, eight bytes of all of them at a time."""
    # Each place of the data as the word that begins there.
    words: npt.NDArray[Any] = np.ndarray(
        len(data) - _WORD + 1, np.dtype("<u8"), data.data, strides=(1,)
    )
    hashes = mixed(lengths.view(np.uint64))
    long = lengths > _LONG
    if long.any():
        for place in np.flatnonzero(long):
            start, length = int(starts[place]), int(lengths[place])
            digest = hashlib.blake2b(data[start : start + length].data, digest_size=_WORD).digest()
            hashes[place] = int.from_bytes(digest, "little")
    left = np.where(long, 0, lengths)
    active: Any = np.flatnonzero(left)
    starts, left = starts[active], left[active]
    while len(active):
        read = words[starts]
        read &= _MASKS[np.minimum(left, _WORD)]
        if len(active) == len(hashes):
            hashes = mixed(np.bitwise_xor(hashes, read, out=read))
        else:
            hashes[active] = mixed(np.bitwise_xor(hashes[active], read, out=read))
        longer = left > _WORD
        if longer.all():
            starts, left = starts + _WORD, left - _WORD
        else:
            starts, left = starts[longer] + _WORD, left[longer] - _WORD
            active = active[longer]
    return hashes
