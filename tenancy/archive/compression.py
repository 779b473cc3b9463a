"""Compress archives as one zstd frame with a checksum, and decompress them in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenancy.archive.format import MIB
from tenancy.errors import ArchiveDamagedError, ArchiveError, ArchiveHostileError

if TYPE_CHECKING:
    import zstandard

LEVEL = 1
WINDOW_MOST = 8 * MIB
PIECE = 256 * 1024

_SLICE = 256
"""How many compressed bytes are decompressed at once. Four of them can become 128 KiB (RFC 8878, "RLE_Block")."""

FREE = 256 * MIB
RATIO = 4_096
"""An archive may be as long as this many times its compressed length, and ``FREE`` bytes more."""

FREE_LINES = 2**18
LINES = 16
"""It may have this many lines for each compressed byte, and ``FREE_LINES`` more: reading lines takes time."""


@dataclass
class _Measure:
    """Compare what is compressed with what it is compressed from: a text that expands beyond measure is a bomb."""

    packed: int = 0
    plain: int = 0
    lines: int = 0

    def exceeded(self, piece: bytes) -> bool:
        self.plain += len(piece)
        self.lines += piece.count(b"\n")
        return self.plain > FREE + RATIO * self.packed or self.lines > FREE_LINES + LINES * self.packed


def compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Compress pieces as they come; ArchiveError for rows so much alike that ``decompressed`` would refuse them."""
    import zstandard  # optional

    packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=False).compressobj()
    measure = _Measure()
    for piece in pieces:
        packed = packer.compress(piece)
        measure.packed += len(packed)
        if measure.exceeded(piece):
            # The packer may still hold what it was given: with that the rest is measured.
            rest = packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
            measure.packed += len(rest)
            packed += rest
            if measure.exceeded(b""):
                raise ArchiveError("the rows are so much alike that an archive of them could not be told from a bomb.")
        if packed:
            yield packed
    yield packer.flush()


def decompressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress one frame; the end is reached only if the frame is whole and nothing follows it."""
    import zstandard  # optional

    unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW_MOST).decompressobj()
    measure = _Measure()
    for piece in pieces:
        view = memoryview(piece)
        for at in range(0, len(view), _SLICE):
            some = view[at : at + _SLICE]
            measure.packed += len(some)
            found = _unpacked(unpacker, some)
            if measure.exceeded(found):
                raise ArchiveHostileError("the archive expands to far more than archives do.")
            for begin in range(0, len(found), PIECE):  # a reader makes an object of each line of a piece
                yield found[begin : begin + PIECE]
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
