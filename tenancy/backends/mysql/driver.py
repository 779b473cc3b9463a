"""Open MySQL and MariaDB connections: strict modes, UTC, time limits; no option files and no local files are read.

The time limits use private parts of PyMySQL, which has no public way to limit an answer as a whole. A frozen
server has to be reported within five seconds. tests/house/test_private_parts.py fails if a new version lacks a part.
"""

from __future__ import annotations

import io
import re
import time
from typing import Any

from pymysql import connections
from pymysql.constants import CLIENT, SERVER_STATUS

from tenancy.backends.access import Login, tls_context
from tenancy.backends.gates import BY_ITSELF, BY_TEXT, TWO_PHASES, Gated, Words, gated_cursor
from tenancy.backends.placeholders import Rules
from tenancy.backends.server.network import connected
from tenancy.deadline import Patience

MODES = "STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
_LOCK_S = 3


RULES = Rules(mark="%s", backticks=True, backslash=True, hash_comments=True, spaced_dashes=True)
_COMMIT_THEMSELVES = frozenset(
    [
        "ALTER",
        "CREATE",
        "DROP",
        "RENAME",
        "TRUNCATE",
        "GRANT",
        "REVOKE",
        "LOCK",
        "UNLOCK",
        "CHECK",
        "OPTIMIZE",
        "REPAIR",
        "FLUSH",
        "RESET",
        "CACHE",
        "INSTALL",
        "UNINSTALL",
        "CHANGE",
        "STOP",
        "SHUTDOWN",
        "IMPORT",
    ]
)
"""First words of statements that commit the open transaction (dev.mysql.com, "Statements That Cause an Implicit
Commit")."""


def _refuse(words: list[str]) -> str | None:
    """Refuse statements that commit by themselves, except on temporary tables, and LOAD DATA, which loads rows."""
    if words[0] == "XA":
        return TWO_PHASES
    if words[:2] == ["SET", "STATEMENT"] or words[0] in ("PREPARE", "EXECUTE", "DEALLOCATE", "CALL"):
        return BY_TEXT  # the statement that these run is in a string, or in the database
    first_two = words[:2] in (["LOAD", "INDEX"], ["SET", "PASSWORD"]) or (
        words[0] == "ANALYZE" and "TABLE" in words[1:3]
    )
    return BY_ITSELF if first_two or (words[0] in _COMMIT_THEMSELVES and words[1:2] != ["TEMPORARY"]) else None


_LASTING = re.compile(r"\A\s*set\b|\bget_lock\b|\btemporary\b|:=", re.IGNORECASE)
"""Finds what may last as long as the connection: settings, variables, named locks, temporary tables."""

_HIDDEN = re.compile(r"/\*M?!")  # comments that the server runs
WORDS = Words(RULES, _refuse, hidden=_HIDDEN, lasting=_LASTING)


class Connection(Gated, connections.Connection):  # type: ignore[misc]  # PyMySQL brings no types
    """Limit the time of a whole answer: PyMySQL's own timeouts start again with every byte.

    PyMySQL reads through its attribute ``_rfile``. Here that is a reader of ours, which sets the socket's timeout to
    what is left before each wait. ``in_transaction`` is the flag that the server sends with each answer.
    """

    server: tuple[str, int] | None = None
    patience: Patience | None = None
    """None while connecting: the whole of that has one deadline, ``until``."""

    until = 0.0
    _reader: io.BufferedReader | None = None

    @property
    def _rfile(self) -> io.BufferedReader | None:
        return self._reader

    @_rfile.setter
    def _rfile(self, drivers_own: io.BufferedReader | None) -> None:
        if drivers_own is not None:
            drivers_own.close()
        self._reader = None if drivers_own is None else io.BufferedReader(_Bytes(self))

    @property
    def in_transaction(self) -> bool:
        return bool(self.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def cursor(self, cursor: Any = None) -> Any:
        return super().cursor(gated_cursor(cursor or self.cursorclass))

    def close(self) -> None:
        """Close the connection, or do nothing: PyMySQL raises if the connection broke and was closed for that."""
        if not self._closed:
            super().close()

    def _execute_command(self, command: int, sql: Any) -> None:
        if self.patience is not None:
            self.until = self.patience.until()
        self._read_timeout = self._write_timeout = self._left()
        super()._execute_command(command, sql)

    def some(self, into: Any) -> int:
        """Wait once for bytes and read what is there; TimeoutError if the answer is overdue."""
        # With an unbuffered cursor the time between two reads is the caller's, not the server's.
        streamed = self._result is not None and self._result.unbuffered_active
        if self.patience is not None and (self.patience.each_silence or streamed):
            self.until = self.patience.again(self.until)
        self._current_timeout = self._read_timeout = self._left()
        self._sock.settimeout(self._read_timeout)
        read: int = self._sock.recv_into(into)
        return read

    def _left(self) -> float:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


class _Bytes(io.RawIOBase):
    """Read the bytes that a server sends, by ``Connection.some``."""

    def __init__(self, driver: Connection) -> None:
        self._driver = driver

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        return self._driver.some(into)


def open_connection(login: Login, *, several_statements: bool = False, only_reads: bool = False) -> Connection:
    """Open a connection in autocommit mode.

    ``several_statements`` allows several statements in one text: only for texts of our own, over the server's login.
    ``only_reads`` makes READ ONLY the default, so that only START TRANSACTION READ WRITE allows writes.
    """
    options = login.options
    flags = CLIENT.FOUND_ROWS | (CLIENT.MULTI_STATEMENTS if several_statements else 0)
    context = None if login.tls == "off" else tls_context(login.tls, options.tls_ca)
    until = Patience(float(options.connect_timeout_s)).until()
    driver = Connection(
        host=login.host,
        port=login.port,
        user=login.user,
        password=login.password.encode(),  # PyMySQL would send a str as Latin-1
        database=login.database,
        unix_socket=None,
        read_default_file=None,
        local_infile=False,
        charset="utf8mb4",
        collation="utf8mb4_bin",
        autocommit=True,
        client_flag=flags,
        read_timeout=options.connect_timeout_s,
        write_timeout=options.connect_timeout_s,
        program_name="unify",
        ssl=context if login.tls in ("require", "verify") else None,
        ssl_disabled=login.tls in ("off", "prefer"),
        defer_connect=True,
    )
    if login.tls == "prefer":  # PyMySQL itself makes a context for each connection, which takes longer than connecting
        driver.ssl, driver.ctx = True, context
    driver.server, driver.until = login.server, until
    driver.connect(connected(login, until))
    try:
        _set(driver, options.answer_timeout_s, _LOCK_S, only_reads=only_reads)
    except BaseException:
        driver._force_close()  # no goodbye to a server that does not speak the protocol
        raise
    driver.patience = login.patience
    return driver


def be_patient(driver: Any, silence_s: float) -> None:
    """From now on limit each wait for more bytes of an answer, and no longer the whole answer."""
    driver.patience = Patience(silence_s, each_silence=True)
    _set(driver, silence_s, _LOCK_S)


def is_mariadb(driver: Any) -> bool:
    return "mariadb" in driver.get_server_info().lower()


def _set(driver: Any, answer_s: float, lock_s: int, *, only_reads: bool = False) -> None:
    """Set the session in one statement; the server's limit is 0.25 s below ours, so that it can say what took long."""
    limit_s = max(0.5, answer_s - 0.25)
    if is_mariadb(driver):
        products_own = f"tx_isolation = 'READ-COMMITTED', tx_read_only = {only_reads:d}, max_statement_time = {limit_s}"
    else:
        modes = f"transaction_isolation = 'READ-COMMITTED', transaction_read_only = {only_reads:d}"
        products_own = f"{modes}, max_execution_time = {round(limit_s * 1000)}"
    with driver.cursor() as cursor:
        cursor.execute(
            f"SET SESSION time_zone = '+00:00', sql_mode = '{MODES}', innodb_lock_wait_timeout = {lock_s}, "
            f"lock_wait_timeout = {lock_s}, {products_own}"
        )
