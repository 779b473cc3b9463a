"""Give ``utils/worker.py`` both ends of a connection: a request that is complete, and an answer no thread waits for."""

from __future__ import annotations

import errno
import socket
import time
from contextlib import suppress
from typing import Any

from gunicorn.http.errors import ParseException
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader

from utils.arrivals import Arrival, Pace

KEPT_ANSWER_BYTES = 1024 * 1024


class Outlet(socket.socket):
    """Send what the client takes at once, and leave the rest to the loop: no thread waits for a slow reader.

    Of an answer longer than the loop keeps, the thread waits for the client, as long as the client keeps pace.
    """

    def begin_answer(self) -> None:
        self.kept = bytearray()
        self._pace = Pace(0.0)
        self._waited_s = 0.0

    def sendall(self, data: Any, flags: int = 0) -> None:
        self.kept += data
        self.send_kept()
        if len(self.kept) > KEPT_ANSWER_BYTES:
            self._wait()

    def send_kept(self) -> int:
        """Send what goes without waiting; return how many bytes that was."""
        before = len(self.kept)
        with suppress(BlockingIOError):
            while self.kept:
                del self.kept[: self.send(self.kept, socket.MSG_DONTWAIT)]
        return before - len(self.kept)

    def _wait(self) -> None:
        self._pace.moved += len(self.kept)
        began = time.monotonic()
        self.settimeout(max(0.001, self._pace.until() - self._waited_s))
        try:
            super().sendall(self.kept)
        except TimeoutError:
            # Gunicorn takes this one for a client that has gone.
            raise ConnectionResetError(errno.ECONNRESET, "The answer was taken too slowly") from None
        finally:
            self.kept.clear()
            self._waited_s += time.monotonic() - began
            self.settimeout(None)


class Parser(RequestParser):  # type: ignore[misc]  # gunicorn ships no types
    """Parse a request out of gathered bytes alone."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.mesg: Any = None
        self.mesg_class = ArrivedRequest
        self.arrival: Arrival | None = None

    def take_up(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.unreader = Gathered(arrival)

    def take_rest(self) -> bytes:
        """Release the request; return the bytes that came after it."""
        arrival, self.arrival = self.arrival, None
        if arrival is None:
            return b""
        arrival.let_go()
        self.unreader.take_buffered()
        return arrival.rest

    def finish_body(self, deadline: float | None = None, max_bytes: int | None = None) -> bool:
        """Tell whether the next request may follow: the end of one that was gathered whole is known."""
        return self.mesg is None or self.arrival is None or self.arrival.whole

    def __next__(self) -> Any:
        self.mesg = None  # what an earlier request left unread lies in its own arrival, not before this one
        message = super().__next__()
        if self.arrival is not None and not self.arrival.whole:
            message.force_close()
        return message


class Gathered(SocketUnreader):  # type: ignore[misc]  # gunicorn ships no types
    """Read gathered bytes; after them is the end, so no thread waits for a client."""

    def __init__(self, arrival: Arrival) -> None:
        super().__init__(None)
        self._stored = arrival.stored

    def chunk(self, size_hint: int | None = None) -> bytes:
        return self._stored.read(max(size_hint or 0, self.mxchunk))


class ArrivedRequest(Request):  # type: ignore[misc]  # gunicorn ships no types
    """A request whose body is complete.

    No client waits for a 100 (Continue) any more, and a broken body is a broken connection.
    """

    _policy_expect_continue = False

    def set_body_reader(self) -> None:
        super().set_body_reader()
        self.body.reader = BodyReader(self.body.reader)


class BodyReader:
    """Raise OSError for a malformed body: WSGI applications take that for the client's fault."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def read(self, size: int) -> Any:
        try:
            return self._reader.read(size)
        except ParseException as error:
            raise OSError(errno.EPROTO, str(error)) from error
