"""Stand between the application and a database server, and stop what they say to each other where that is asked for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress


class Freezer:
    """Pass on what an application and a server say to each other, and stop at a chosen message of the application's.

    To open a connection counts as a message: there are servers that speak first. ``settled`` is set when it froze; who
    waits for that sets it as well when there will be no more messages.
    """

    def __init__(self, to: tuple[str, int]) -> None:
        self._to = to
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._open: list[socket.socket] = []
        self.settled = threading.Event()
        self.arm(None)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._listen, daemon=True).start()

    def arm(self, at: int | None) -> None:
        """Count from here, and freeze at this message."""
        with self._lock:
            self.seen, self._at, self.frozen = 0, at, False
            self.settled.clear()
        self._flowing.set()

    def thaw(self) -> None:
        self._flowing.set()

    def close(self) -> None:
        self.thaw()
        for each in (self._listening, *self._open):
            with suppress(OSError):  # it may be closed already
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._meet()
        server = socket.create_connection(self._to)
        self._open += [client, server]
        threading.Thread(target=self._pump, args=(server, client, lambda: None), daemon=True).start()
        self._pump(client, server, self._meet)

    def _meet(self) -> None:
        """Count a message; wait here while everything is frozen."""
        with self._lock:
            self.seen += 1
            if self.seen == self._at:
                self.frozen = True
                self._flowing.clear()
                self.settled.set()
        self._flowing.wait()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket, heard: Callable[[], None]) -> None:
        with suppress(OSError):  # one side has gone: so does the other
            while data := source.recv(1 << 16):
                heard()
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
