"""Serve requests with threads that never wait for a client: gunicorn's threads, behind a loop that gathers.

Gunicorn's own threads read each request from its connection, so as many slow clients as there are threads block
everybody. Here the loop that waits for connections reads from them as well (``utils/arrivals.py`` says when a request
is complete) and hands a thread a request whose every byte has arrived. Answers are sent the same way: what a client
does not take at once, the loop sends when it can. A client that is too slow is cut off. A connection that ends is still
read for a moment, so that its client sees the answer.

Where gunicorn itself does TLS, or speaks another protocol, its threads read as they do elsewhere.
"""

from __future__ import annotations

import errno
import json
import selectors
import socket
import time
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from gunicorn.http.errors import ConfigurationProblem
from gunicorn.workers.gthread import ThreadWorker

from utils.arrivals import Arrival, Malformed, Pace
from utils.connections import Outlet, Parser

READ_BYTES = 65_536
REST_S = 1.0
LINGER_S = 5.0
LINGER_BYTES = 8 * 1024 * 1024
"""How long, and for how many bytes, a client that is sending still is listened to after its answer."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class GatheringWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """Gather requests in the loop, and hand complete ones to the threads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gathering: dict[Any, Arrival] = {}
        self.sending: dict[Any, Pace] = {}
        self.lingering: dict[Any, Pace] = {}
        self._rests_until = 0.0

    def accept(self, listener: Any) -> None:
        """Accept a connection; where the process may open no more files, pause for a second before the next."""
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self.log.warning("No connection can be accepted: %s", error.strerror)
            self._rests_until = time.monotonic() + REST_S
            self.set_accept_enabled(False)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or stop accepting; the loop calls this at each turn, and it does nothing while the worker pauses."""
        if not enabled or time.monotonic() >= self._rests_until:
            super().set_accept_enabled(enabled)

    def enqueue_req(self, conn: Any) -> None:
        """Start to gather a request on a connection that is new, or has sent more."""
        if not self._reads_here():
            super().enqueue_req(conn)
            return
        if not conn.initialized:
            conn.sock = Outlet(fileno=conn.sock.detach())
            conn.parser = Parser(self.cfg, conn.sock, conn.client)
            conn.initialized = True
        self._gather(conn, b"")

    def finish_request(self, conn: Any, done: Any) -> None:
        """Go on with what the client has sent meanwhile, wait for more, or end the connection."""
        if not self._reads_here():
            super().finish_request(conn, done)
            return
        if conn.sock.kept:
            self._send_later(conn, done)
            return
        rest = conn.parser.take_rest()
        if done.cancelled() or done.exception() is not None or not done.result():
            self._linger(conn)
        elif rest:
            self._gather(conn, rest)
        else:
            super().finish_request(conn, done)

    def murder_pending(self) -> None:
        """Cut off clients that are too slow; the loop calls this at least once a second."""
        super().murder_pending()
        now = time.monotonic()
        for conn, arrival in list(self.gathering.items()):
            if not arrival.begun and (arrival.is_late(now) or not self.alive):
                self._drop(conn)
            elif arrival.is_late(now):
                self._refuse(conn, Malformed(408, "The request came too slowly."))
        for conn, pace in list(self.sending.items()):
            if now > pace.until():
                self._drop(conn)
        for conn, pace in list(self.lingering.items()):
            if now > pace.began + LINGER_S:
                self._drop(conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Any) -> None:
        """Answer what gunicorn refuses; a URL outside SCRIPT_NAME answers 404."""
        if isinstance(exc, ConfigurationProblem):
            client.sendall(refusal(404, "There is nothing at this address."))
        else:
            super().handle_error(req, client, addr, exc)

    def _reads_here(self) -> bool:
        return not self.cfg.is_ssl and self.cfg.protocol == "http" and self.cfg.proxy_protocol == "off"

    # ------------------------------------------------------------ a request that comes

    def _gather(self, conn: Any, first: bytes) -> None:
        conn.sock.setblocking(False)
        self.gathering[conn] = Arrival(self.wsgi.config["LONGEST_BODY_BYTES"], time.monotonic())
        if first:
            self._feed(conn, first)
        else:
            self._read(conn, conn.sock)
        if conn in self.gathering:
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._read, conn))

    def _read(self, conn: Any, _: Any) -> None:
        try:
            data = conn.sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._drop(conn)
            return
        if data:
            self._feed(conn, data)
        elif self.gathering[conn].begun:
            self._refuse(conn, Malformed(400, "The request ends before its body does."))
        else:
            self._drop(conn)

    def _feed(self, conn: Any, data: bytes) -> None:
        arrival = self.gathering[conn]
        try:
            arrival.feed(data, time.monotonic())
            if arrival.complete:
                self._hand_over(conn, arrival)
            elif arrival.expects_continue:
                arrival.expects_continue = False
                conn.sock.send(CONTINUE)
        except Malformed as refused:
            self._refuse(conn, refused)
        except OSError as error:
            self.log.warning("A request cannot be gathered: %s", error.strerror)
            self._drop(conn)

    def _hand_over(self, conn: Any, arrival: Arrival) -> None:
        self._leave_loop(conn)
        conn.parser.take_up(arrival)
        conn.sock.begin_answer()
        super().enqueue_req(conn)

    # ------------------------------------------------------------ an answer that goes

    def _send_later(self, conn: Any, done: Any) -> None:
        self.sending[conn] = Pace(time.monotonic())
        try:
            self.poller.register(conn.sock, selectors.EVENT_WRITE, partial(self._send, conn, done))
        except (OSError, ValueError):
            self._drop(conn)  # its socket is closed

    def _send(self, conn: Any, done: Any, _: Any) -> None:
        try:
            self.sending[conn].moved += conn.sock.send_kept()
        except OSError:
            self._drop(conn)
            return
        if not conn.sock.kept:
            self._leave_loop(conn)
            self.finish_request(conn, done)

    # ------------------------------------------------------------ a connection that ends

    def _refuse(self, conn: Any, refused: Malformed) -> None:
        try:
            conn.sock.send(refusal(refused.status, refused.detail))
        except OSError:
            self._drop(conn)
            return
        self._linger(conn)

    def _linger(self, conn: Any) -> None:
        """Shut the sending side and read on for a moment: a close with unread bytes would discard the answer."""
        self._forget(conn)
        self.lingering[conn] = Pace(time.monotonic())
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._discard, conn))
        except (OSError, ValueError):
            self._drop(conn)

    def _discard(self, conn: Any, _: Any) -> None:
        pace = self.lingering[conn]
        try:
            data = conn.sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        pace.moved += len(data)
        if not data or pace.moved > LINGER_BYTES:
            self._drop(conn)

    def _drop(self, conn: Any) -> None:
        self._forget(conn)
        self.nr_conns -= 1
        conn.close()

    def _forget(self, conn: Any) -> None:
        """Release what was gathered of a request that no thread will take."""
        arrival = self._leave_loop(conn)
        if arrival is not None:
            arrival.let_go()

    def _leave_loop(self, conn: Any) -> Arrival | None:
        arrival = self.gathering.pop(conn, None)
        self.sending.pop(conn, None)
        self.lingering.pop(conn, None)
        # A connection that was answered at its first byte was never put in; one whose socket is closed has left.
        with suppress(KeyError, ValueError):
            self.poller.unregister(conn.sock)
        return arrival


def refusal(status: int, detail: str) -> bytes:
    """Return the whole answer to a request that never reaches the app, in the shape of the app's own errors."""
    title = HTTPStatus(status).phrase
    code = title.lower().replace(" ", "_").replace("-", "_")
    body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code})
    head = (
        f"HTTP/1.1 {status} {title}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
        f"Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode("ascii")
