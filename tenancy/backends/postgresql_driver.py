"""Open PostgreSQL connections that never wait for ever: also for a server process that is frozen.

psycopg2 with every timeout set still waits for such a one, because the kernel goes on answering for it. So a wait
callback polls, and shuts the socket down when an answer is overdue. psycopg2 has one callback a process: connections
of others wait in it as they always did, without a limit (and COPY is not to be had while it is set).
"""

from __future__ import annotations

import os
import select
import socket
import time
from functools import partial
from typing import Any

import psycopg2
from psycopg2 import extensions

from tenancy.backends.logins import Login, ca_file

_TLS = {"off": "disable", "prefer": "prefer", "require": "require", "verify": "verify-full"}
_LOCK_MS = 3_000
_IDLE_IN_TRANSACTION_MS = 60_000


class AnswerTimeout(psycopg2.OperationalError):  # type: ignore[misc]  # psycopg2 brings no types
    """Say that a server did not answer in time; its connection is closed."""


class Connection(extensions.connection):  # type: ignore[misc]  # psycopg2 brings no types
    """Know how long an answer may take: while connecting, and afterwards."""

    def __init__(self, dsn: str, *, connect_s: float, answer_s: float, **kw: Any) -> None:
        self.patience_s: float | None = connect_s
        super().__init__(dsn, **kw)
        self.patience_s = answer_s


def open_connection(login: Login) -> Connection:
    """Open a connection, every parameter of it given: nothing is left for the environment or a file to say."""
    extensions.set_wait_callback(_wait)
    options = login.options
    address = login.address()
    where = {"hostaddr": address} if login.policy else {}
    if login.tls == "verify":
        where["sslrootcert"] = ca_file(options.tls_ca) if options.tls_ca else "system"
    # The server gives up first, so that its answer can say why; the client's own limit is for one that cannot.
    limit_ms = max(500, round(options.answer_timeout_s * 1000) - 250)
    opened: Connection = psycopg2.connect(
        host=login.host,
        port=login.port,
        user=login.user,
        password=login.password,
        dbname=login.database or "postgres",
        passfile=os.path.join(os.devnull, "none"),
        sslmode=_TLS[login.tls],
        gssencmode="disable",
        client_encoding="UTF8",
        application_name="unify",
        options=f"-c timezone=UTC -c statement_timeout={limit_ms} -c lock_timeout={min(_LOCK_MS, limit_ms)}"
        f" -c idle_in_transaction_session_timeout={_IDLE_IN_TRANSACTION_MS} -c client_min_messages=warning",
        connection_factory=partial(
            Connection, connect_s=options.connect_timeout_s, answer_s=float(options.answer_timeout_s)
        ),
        **where,
    )
    return opened


def be_patient(driver: Any, answer_s: float) -> None:
    """Let the answers of an open connection take long from here on: for schema changes."""
    if isinstance(driver, Connection):
        driver.patience_s = answer_s
    with driver.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = {round(answer_s * 1000)}")
    driver.commit()


def _wait(driver: Any) -> None:
    """Serve as psycopg2's wait callback (psycopg.org, "Support for coroutine libraries")."""
    patience_s = getattr(driver, "patience_s", None)
    deadline = None if patience_s is None else time.monotonic() + patience_s
    while (state := driver.poll()) != extensions.POLL_OK:
        wanted = select.POLLIN if state == extensions.POLL_READ else select.POLLOUT
        poll = select.poll()
        poll.register(driver.fileno(), wanted)
        left_ms = None if deadline is None else max(0, round((deadline - time.monotonic()) * 1000))
        if not poll.poll(left_ms):
            _hang_up(driver)
            raise AnswerTimeout("timeout expired: the server did not answer in time")


def _hang_up(driver: Any) -> None:
    with socket.socket(fileno=os.dup(driver.fileno())) as copied:
        copied.shutdown(socket.SHUT_RDWR)
