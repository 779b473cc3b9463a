"""Tell from the bytes of a request, as they arrive, when it is complete, and whether they arrive fast enough.

``utils/worker.py`` feeds every connection to this before a thread takes the request. Only the framing (where a request
ends) is read here; gunicorn's parser reads the request itself afterwards, and refuses what is wrong with it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from tempfile import SpooledTemporaryFile
from typing import IO

GRACE_S = 10.0
BYTES_A_SECOND = 1024
"""A client may take GRACE_S, and a second more per this many bytes that it has sent (or taken)."""

SILENCE_S = 30.0
"""The most seconds a client can have in reserve, however much it has sent: what was gathered takes room."""

HEAD_S = 20.0
HEAD_MOST = 131_072
"""The longest head that is gathered; what is too long for the app or for gunicorn is far shorter."""

KEPT_IN_MEMORY = 65_536
CHUNK_LINE_MOST = 4096
FRAMING_SPARE = 65_536
"""How many bytes the chunk headers may exceed the body by: each chunk costs time."""

_BARE_LF = re.compile(rb"(?<!\r)\n")
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}[ \t]*(;|\Z)")


class Malformed(Exception):  # noqa: N818 - it says what is wrong with the request
    """Refuse bytes that cannot be divided into requests; nothing after them can be trusted."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Pace:
    """Measure how fast a client sends or reads."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.moved = 0

    def until(self) -> float:
        """Return the moment at which the client is too slow unless more bytes have arrived by then."""
        return self.began + GRACE_S + self.moved / BYTES_A_SECOND


class Chunks:
    """Follow a chunked body (RFC 9112, section 7.1) to its end."""

    def __init__(self) -> None:
        self.decoded = 0
        self._framing = 0
        self._pending = bytearray()
        self._skip = 0
        self._in_trailer = False

    def feed(self, data: bytes) -> int | None:
        """Take bytes; return how many of them lie behind the end of the body, None while the end has not arrived."""
        self._pending += data
        while True:
            if self._skip:
                if not self._step_over():
                    return None
                continue
            end = self._pending.find(b"\r\n")
            if end < 0 and len(self._pending) <= CHUNK_LINE_MOST:
                return None
            if not 0 <= end <= CHUNK_LINE_MOST:
                raise Malformed(400, "A line between the chunks of the body does not end.")
            line = bytes(self._pending[:end])
            del self._pending[: end + 2]
            if self._in_trailer and not line:
                return len(self._pending)
            if not self._in_trailer:
                self._begin_chunk(line)
            self._framing += end + 4  # with the end of the line, and that of the chunk
            if self._framing > self.decoded + FRAMING_SPARE:
                raise Malformed(400, "The chunks of the body are too small: send fewer and larger ones.")

    def _begin_chunk(self, line: bytes) -> None:
        if not _SIZE.match(line):
            raise Malformed(400, "A chunk of the body has no size.")
        size = int(line.partition(b";")[0], 16)
        self.decoded += size
        self._in_trailer = size == 0
        self._skip = size + 2 if size else 0

    def _step_over(self) -> bool:
        """Skip a chunk's bytes, except its last two, which must end its line."""
        inside = min(max(self._skip - 2, 0), len(self._pending))
        del self._pending[:inside]
        self._skip -= inside
        if len(self._pending) < 2 or self._skip > 2:
            return False
        if self._pending[:2] != b"\r\n":
            raise Malformed(400, "A chunk of the body does not end where its size says.")
        del self._pending[:2]
        self._skip = 0
        return True


class Arrival:
    """Gather one request: ``feed`` it bytes until it is ``complete``."""

    def __init__(self, body_most: int, now: float) -> None:
        self.complete = False
        self.whole = True
        """False where the body is longer than is gathered: the app refuses it, and the connection ends there."""
        self.rest = b""
        """What came behind the request: the beginning of the next."""
        self.stored: IO[bytes] = SpooledTemporaryFile(max_size=KEPT_IN_MEMORY)  # noqa: SIM115 - read by a thread later
        self.expects_continue = False
        self._body_most = body_most
        self._head = bytearray()
        self._in_head = True
        self._left = 0
        self._chunks: Chunks | None = None
        self._began = now
        self._until = now + GRACE_S

    def let_go(self) -> None:
        """Close the stored body; on a full disk closing fails too, since it writes what is buffered first."""
        with suppress(OSError):
            self.stored.close()

    @property
    def begun(self) -> bool:
        return not self._in_head or bool(self._head)

    def feed(self, data: bytes, now: float) -> None:
        """Take bytes. Raises Malformed, or OSError where no disk space is left for a long body."""
        self._until = min(self._until + len(data) / BYTES_A_SECOND, now + SILENCE_S)
        if self._in_head:
            body = self._feed_head(data)
            if body is None:
                return
            self._in_head = False
            self._until = min(now + GRACE_S + len(body) / BYTES_A_SECOND, now + SILENCE_S)
            self.stored.write(self._head)
            data = body
        if not self.complete:
            self._feed_body(data)
        if self.complete:
            self.stored.seek(0)

    def is_late(self, now: float) -> bool:
        """Tell whether the client is slower than the server waits for."""
        return now > self._until or (self._in_head and now > self._began + HEAD_S)

    def _feed_head(self, data: bytes) -> bytes | None:
        """Return what follows the head, None while the head is incomplete."""
        searched = max(0, len(self._head) - 3)
        self._head += data
        end = self._head.find(b"\r\n\r\n", searched)
        if end < 0 and not _BARE_LF.search(self._head, searched):
            if len(self._head) > HEAD_MOST:
                lined = b"\r\n" in self._head
                raise Malformed(*((431, "The headers are too long.") if lined else (414, "The address is too long.")))
            return None
        end = len(self._head) if end < 0 else end + 4
        body = bytes(self._head[end:])
        del self._head[end:]
        self._read_framing()
        return body

    def _read_framing(self) -> None:
        """Find out from the head how the body ends; gunicorn's parser refuses whatever else is wrong with the head."""
        fields: dict[bytes, list[bytes]] = {}
        for line in bytes(self._head).split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            fields.setdefault(name.lower(), []).append(value.strip(b" \t").lower())
        coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length", [b"0"])
        self.expects_continue = fields.get(b"expect") == [b"100-continue"]
        if coding is not None:
            self._chunks = Chunks() if coding == [b"chunked"] else None
            self.complete = self._chunks is None
            self.whole = not self.complete
            return
        self._left = int(length[0]) if len(length) == 1 and re.fullmatch(rb"[0-9]{1,18}", length[0]) else -1
        self.whole = 0 <= self._left <= self._body_most
        self.complete = not self.whole

    def _feed_body(self, data: bytes) -> None:
        if self._chunks is not None:
            behind = self._chunks.feed(data)
            too_long = self._chunks.decoded > self._body_most
            self.complete = behind is not None or too_long
            self.whole = behind is not None
        else:
            self._left -= len(data)
            behind = max(0, -self._left)
            self.complete = self._left <= 0
        end = len(data) - (behind or 0)
        self.stored.write(data[:end])
        self.rest = data[end:]
