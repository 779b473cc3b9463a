"""Cut decompressed bytes into lines: single ones, and rows in blocks, which are never taken apart."""

from __future__ import annotations

from collections.abc import Iterator

from tenancy.archive.format import LINE_MOST
from tenancy.errors import ArchiveDamagedError, ArchiveHostileError


class Lines:
    """Read pieces as far as they are asked for, and refuse a long line before it is in memory."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._text = b""

    def one(self) -> bytes:
        """Return the next line without its end; ArchiveDamagedError if the archive ends here."""
        while (end := self._text.find(b"\n")) < 0:
            self._more()
        line, self._text = self._text[:end], self._text[end + 1 :]
        return line

    def rows(self) -> Iterator[bytes]:
        """Yield the rows that follow, in blocks of whole lines, until a line comes that is no row."""
        while True:
            if not self._text:
                self._more()
            if not self._text.startswith(b"["):
                return
            # A line feed inside a JSON string is escaped, so that this one ends a row.
            other = self._text.find(b"\n{")
            end = (other if other >= 0 else self._text.rfind(b"\n")) + 1
            if not end:
                self._more()
                continue
            block, self._text = (self._text[:end], self._text[end:]) if end < len(self._text) else (self._text, b"")
            yield block
            del block  # a reader that is done with it need not wait for the next one

    def expect_end(self) -> None:
        if self._text or next(self._pieces, b""):
            raise ArchiveHostileError("the archive goes on after its end.")

    def _more(self) -> None:
        """Read on until there is the end of a line."""
        parts, size = [self._text], len(self._text)
        self._text = b""
        for piece in self._pieces:
            parts.append(piece)
            if b"\n" in piece:
                break
            size += len(piece)
            if size > LINE_MOST:
                raise ArchiveHostileError(f"a line of the archive is longer than {LINE_MOST >> 20} MiB.")
        else:
            raise ArchiveDamagedError("the archive is cut off.")
        self._text = b"".join(parts)
