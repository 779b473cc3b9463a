"""Compress archives as one zstd frame with a checksum, and decompress them in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from tenancy.archive.format import MIB
from tenancy.errors import ArchiveDamagedError, ArchiveHostileError

if TYPE_CHECKING:
    import zstandard

LEVEL = 3
WINDOW_MOST = 8 * MIB
PIECE = 64 * 1024

_SLICE = 512
"""How many compressed bytes are decompressed at once. Four of them can become 128 KiB (RFC 8878, "RLE_Block")."""

FREE = 256 * MIB
RATIO = 4_096
"""An archive may be as long as this many times its compressed length, and ``FREE`` bytes more."""


def compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Compress pieces as they come."""
    import zstandard  # optional

    packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=False).compressobj()
    for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()


def decompressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress one frame; the end is reached only if the frame is whole and nothing follows it."""
    import zstandard  # optional

    unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW_MOST).decompressobj()
    taken = given = 0
    for piece in pieces:
        view = memoryview(piece)
        for at in range(0, len(view), _SLICE):
            some = view[at : at + _SLICE]
            taken += len(some)
            found = _unpacked(unpacker, some)
            given += len(found)
            if given > FREE + RATIO * taken:
                raise ArchiveHostileError("the archive expands to far more than archives do.")
            if found:
                yield found
    if not unpacker.eof:
        raise ArchiveDamagedError("the archive is cut off.")


def _unpacked(unpacker: zstandard.ZstdDecompressionObj, some: memoryview) -> bytes:
    import zstandard  # optional

    if unpacker.eof:
        raise ArchiveHostileError("the archive goes on after its end.")
    try:
        found = unpacker.decompress(some)
    except zstandard.ZstdError as error:
        raise ArchiveDamagedError("the archive is damaged, or compressed in a way that exports do not use.") from error
    if unpacker.unused_data:
        raise ArchiveHostileError("the archive goes on after its end.")
    return found
