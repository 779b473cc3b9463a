"""Cut decompressed bytes into lines."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from tenancy.archive.format import LINE_MOST
from tenancy.backends.copying import BATCH_BYTES, BATCH_ROWS
from tenancy.errors import ArchiveDamagedError, ArchiveHostileError


class Lines:
    """Cut decompressed pieces into lines, and refuse long ones before they are in memory."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._ready: deque[bytes] = deque()
        self._rest: list[bytes] = []
        self._rest_bytes = 0

    def one(self) -> bytes:
        """Return the next line without its end; ArchiveDamagedError if the archive ends here."""
        while not self._ready:
            if not self._more():
                raise ArchiveDamagedError("the archive is cut off.")
        return self._ready.popleft()

    def rows(self) -> Iterator[list[bytes]]:
        """Yield rows in batches until another line comes."""
        rows: list[bytes] = []
        size = 0
        while True:
            line = self.one()
            if not line.startswith(b"["):
                self._ready.appendleft(line)
                break
            rows.append(line)
            size += len(line)
            if len(rows) >= BATCH_ROWS or size >= BATCH_BYTES:
                yield rows
                rows, size = [], 0
        if rows:
            yield rows

    def expect_end(self) -> None:
        if self._ready or self._more():
            raise ArchiveHostileError("the archive goes on after its end.")

    def _more(self) -> bool:
        """Read on until there is a further line; False at the end."""
        for piece in self._pieces:
            first, *others = piece.split(b"\n")
            self._rest.append(first)
            self._rest_bytes += len(first)
            if self._rest_bytes > LINE_MOST:
                raise ArchiveHostileError(f"a line of the archive is longer than {LINE_MOST >> 20} MiB.")
            if others:
                self._ready.append(b"".join(self._rest))
                self._ready.extend(others[:-1])
                self._rest, self._rest_bytes = [others[-1]], len(others[-1])
                return True
        if self._rest_bytes:
            raise ArchiveDamagedError("the archive is cut off.")
        return False
