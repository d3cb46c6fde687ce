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
_HALF: Final = np.uint64(32)
#: Texts that are hashed at once.
_PIECE: Final = 16_384
#: Longer texts are hashed one at a time.
_LONG: Final = 256
#: An odd one for each word of a text, and one for its length.
_FACTORS: Final = mixed(np.arange(_LONG // _WORD + 1, dtype=np.uint64)) | np.uint64(1)
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
    if not (pa.types.is_string(array.type) or pa.types.is_binary(array.type)):
        array = wide(array)
    if array.null_count:
        array = array.drop_null()
    if not len(array):
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    narrow = pa.types.is_string(array.type) or pa.types.is_binary(array.type)
    _, offsets_buffer, data = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32 if narrow else np.int64)[array.offset :]
    offsets = offsets[: len(array) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    lengths = np.diff(offsets).astype(np.int64, copy=False)
    texts = np.frombuffer(data or b"", np.uint8)
    hashes = _hashes(texts, offsets[:-1].astype(np.int64, copy=False), lengths)
    text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
    if text and last > first and texts[first:last].view(np.int8).min() < 0:  # not only ASCII
        lengths = pc.utf8_length(array).to_numpy(zero_copy_only=False).astype(np.int64)
    return hashes, lengths


def wide(array: pa.Array) -> pa.Array:
    """Return texts or binary values in the one form that the others here work on."""
    text = type_name(array.type) == "string"
    return array.cast(pa.large_string() if text else pa.large_binary())


def _hashes(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """Hash byte strings, some that fit into the processor's cache at a time."""
    hashes = np.empty(len(starts), np.uint64)
    for place in range(0, len(starts), _PIECE):
        piece = slice(place, place + _PIECE)
        begin = int(starts[place])
        end = int(starts[piece][-1] + lengths[piece][-1])
        if end + _WORD <= len(data):
            held = data[begin : end + _WORD]
        else:  # the last word would reach beyond
            held = np.zeros(end - begin + _WORD, np.uint8)
            held[:-_WORD] = data[begin:end]
        hashes[piece] = _piece(held, starts[piece] - begin, lengths[piece])
    return hashes


def _piece(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """Hash byte strings, eight bytes of all of them at a time: a multilinear hash of their words.

    The words are mixed before, so that no bits of theirs stay in the few highest of the product.

    Source: Lemire, Kaser: Strongly universal string hashing is fast (The Computer Journal, 2014).
    """
    # Each place of the data as the word that begins there.
    words: npt.NDArray[Any] = np.ndarray(
        len(data) - _WORD + 1, np.dtype("<u8"), data.data, strides=(1,)
    )
    begins = starts
    sums = lengths.view(np.uint64) * _FACTORS[-1]
    long = np.flatnonzero(lengths > _LONG)
    left = lengths
    if len(long):
        left = lengths.copy()
        left[long] = 0
    rows: Any = slice(None)
    for factor in _FACTORS:
        active = left > 0
        count = np.count_nonzero(active)
        if not count:
            break
        if count * 2 < len(left):  # the rest is over: leave it out from here on
            kept = np.flatnonzero(active)
            rows = kept if isinstance(rows, slice) else rows[kept]
            starts, left = starts[kept], left[kept]
        elif count < len(left):
            starts = np.minimum(starts, len(words) - 1)
        read = words[starts]
        if int(left.min()) < _WORD:
            read &= _MASKS.take(left, mode="clip")  # nothing, of a text that is over
        read ^= read >> _HALF
        read *= factor
        sums[rows] += read
        starts, left = starts + _WORD, left - _WORD
    hashes = mixed(sums)
    for place in long:
        start, length = int(begins[place]), int(lengths[place])
        digest = hashlib.blake2b(data[start : start + length].data, digest_size=_WORD).digest()
        hashes[place] = int.from_bytes(digest, "little")
    return hashes
