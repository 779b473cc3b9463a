"""Open PostgreSQL connections that never wait for ever: also for a server process that is frozen.

psycopg2 with every timeout set still waits for such a one, because the kernel goes on answering for it. So a wait
callback polls, and shuts the socket down when an answer is overdue. psycopg2 has one callback a process: connections
of others wait in it as they always did, without a limit (and COPY is not to be had while it is set).
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import socket
import time
from functools import cache, partial
from typing import Any

import psycopg2
from psycopg2 import extensions
from psycopg2.sql import Composable

from tenancy.backends.access import Login, ca_file, system_authorities
from tenancy.backends.gates import BY_TEXT, LASTING, TWO_PHASES, Gated, Words, gated_cursor
from tenancy.backends.placeholders import Rules
from tenancy.deadline import Patience
from tenancy.errors import UnfencedError

RULES = Rules(mark="%s", escape_strings=True, dollar_quotes=True, nested_comments=True)

_TLS = {"off": "disable", "prefer": "prefer", "require": "require", "verify": "verify-full"}
_LOCK_MS = 3_000
_IDLE_IN_TRANSACTION_MS = 60_000
_NO_FILE = os.path.join(os.devnull, "none")
_SAID = {
    "passfile": _NO_FILE,
    "sslcert": _NO_FILE,
    "sslkey": _NO_FILE,
    "sslcrl": _NO_FILE,
    "sslcrldir": "",
    "sslcertmode": "disable",
    "sslcompression": "0",
    "sslsni": "1",
    "sslnegotiation": "postgres",
    "ssl_min_protocol_version": "TLSv1.2",
    "ssl_max_protocol_version": "",
    "gssencmode": "disable",
    "gsslib": "",
    "gssdelegation": "0",
    "krbsrvname": "postgres",
    "channel_binding": "prefer",
    "require_auth": "scram-sha-256,md5,password,none",
    "requirepeer": "",
    "replication": "",
    "target_session_attrs": "any",
    "load_balance_hosts": "disable",
    "client_encoding": "UTF8",
    "application_name": "unify",
}
"""Every parameter that libpq would else take from a variable, a service or a file (postgresql.org, "Environment
Variables" and "SSL Support"): a ``root.crt`` in somebody's home turns ``require`` into a check, for one."""

_SESSION = {"TimeZone": "UTC", "DateStyle": "ISO, MDY"}
"""What libpq takes from PGTZ and PGDATESTYLE, and sends after all that it is told; the server says what holds."""

_SQLSTATE_ONLY, _DEFAULT_VERBOSITY = 3, 1  # PQsetErrorVerbosity
_STATE = re.compile(r":  ([0-9A-Z]{5})$", re.MULTILINE)


class AnswerTimeout(psycopg2.OperationalError):  # type: ignore[misc]  # psycopg2 brings no types
    """Say that a server did not answer in time; its connection is closed."""


def _refuse(words: list[str]) -> str | None:
    """Refuse what the session keeps after its transaction: the next one of the pool would have it."""
    if words[0] == "SET" and "STANDARD_CONFORMING_STRINGS" in words:
        return BY_TEXT
    if words[0] == "SET":
        return None if words[1:2] in (["LOCAL"], ["TRANSACTION"], ["CONSTRAINTS"]) else LASTING
    return LASTING if words[0] in ("RESET", "DISCARD", "LISTEN") else None


# set_config() takes names as strings, and with the second one off strings would end elsewhere than they seem to
_HIDDEN = re.compile(r"transaction_read_only|set_config.*standard_conforming_strings", re.IGNORECASE | re.DOTALL)
_LASTING = re.compile(
    r"set_config\s*\((?![^()]*,\s*true\s*\))|pg_(?:try_)?advisory_lock|\btemp(?:orary)?\s|\bwith\s+hold\b|(?:\A|;)\s*do\b",
    re.IGNORECASE,
)
"""Find what may last as long as its connection: settings, locks, temporary tables, cursors, and code of any kind."""

WORDS = Words(RULES, _refuse, hidden=_HIDDEN, lasting=_LASTING)


class Connection(Gated, extensions.connection):  # type: ignore[misc]  # psycopg2 brings no types
    """Know how long an answer may take, while connecting and afterwards, whose server this is, and what may be sent.

    The driver says BEGIN with the first statement. Outside of a transaction that was begun by ``routing/guards.py``,
    such a one only reads.
    """

    lazily = True

    def __init__(self, dsn: str, *, login: Login, connect: Patience, **kw: Any) -> None:
        self.patience: Patience | None = connect
        self.server = login.server
        self.connecting = True
        super().__init__(dsn, **kw)
        self.connecting = False
        _be_told(self, _DEFAULT_VERBOSITY)
        self.patience = login.patience

    @property
    def in_transaction(self) -> bool:
        return bool(self.get_transaction_status() != extensions.TRANSACTION_STATUS_IDLE)

    def cursor(self, *how: Any, cursor_factory: Any = None, **named: Any) -> Any:
        made = gated_cursor(cursor_factory or self.cursor_factory or extensions.cursor)
        return super().cursor(*how, cursor_factory=made, **named)

    def written(self, text: Any) -> str:
        return str(text.as_string(self)) if isinstance(text, Composable) else super().written(text)

    def ended(self) -> None:
        super().ended()
        if self.words is not None and not self.closed and not self.in_transaction:
            self.readonly = True

    def commit(self) -> None:
        super().commit()
        self.ended()

    def rollback(self) -> None:
        super().rollback()
        self.ended()

    def tpc_begin(self, *what: Any) -> None:
        raise UnfencedError(TWO_PHASES)


def open_connection(login: Login) -> Connection:
    """Open a connection, every parameter of it given: nothing is left for the environment or a file to say."""
    extensions.set_wait_callback(_wait)
    os.unsetenv("PGSERVICE")  # libpq gives up where it finds no such service, though nothing is taken from one
    options = login.options
    until = Patience(float(options.connect_timeout_s)).until()
    addresses = login.addresses(until - time.monotonic())
    # The server gives up first, so that its answer can say why; the client's own limit is for one that cannot.
    limit_ms = max(500, round(options.answer_timeout_s * 1000) - 250)
    opened: Connection = psycopg2.connect(
        host=",".join([login.host] * len(addresses)),  # the name that TLS checks
        hostaddr=",".join(addresses),
        port=login.port,
        user=login.user,
        password=login.password,
        dbname=login.database or "postgres",
        sslmode=_TLS[login.tls],
        sslrootcert=_authorities(login),
        options=f"-c timezone=UTC -c search_path=public,pg_temp"
        f" -c statement_timeout={limit_ms} -c lock_timeout={min(_LOCK_MS, limit_ms)}"
        f" -c idle_in_transaction_session_timeout={_IDLE_IN_TRANSACTION_MS} -c client_min_messages=warning",
        connection_factory=partial(Connection, login=login, connect=Patience(max(0.0, until - time.monotonic()))),
        **_known(),
    )
    for name, value in _SESSION.items():
        if opened.get_parameter_status(name) != value:
            _set(opened, name, value)
    return opened


def sqlstate(error: psycopg2.Error) -> str | None:
    """Give an error's SQLSTATE, that of a connection that was refused too; None where no server said one."""
    if error.pgcode is not None:
        return str(error.pgcode)
    found = _STATE.findall(str(error))
    return found[-1] if found else None


def be_patient(driver: Any, silence_s: float) -> None:
    """Let the answers of an open connection take long from here on, each wait for more of one this long at most."""
    if isinstance(driver, Connection):
        driver.patience = Patience(silence_s, each_silence=True)
    _set(driver, "statement_timeout", round(silence_s * 1000))


def _set(driver: Any, name: str, value: object) -> None:
    with driver.cursor() as cursor:
        cursor.execute(f"SET {name} = %s", (value,))
    driver.commit()


def _authorities(login: Login) -> str:
    if login.tls != "verify":
        return _NO_FILE
    return ca_file(login.options.tls_ca) if login.options.tls_ca else system_authorities()


@cache
def _known() -> dict[str, str]:
    """Give those of the parameters that this libpq has: it refuses a word that it does not know."""
    return {name: value for name, value in _SAID.items() if _is_known(name)}


def _is_known(name: str) -> bool:
    try:
        extensions.parse_dsn(f"{name}=1")
    except psycopg2.ProgrammingError:
        return False
    return True


def _be_told(driver: Any, verbosity: int) -> None:
    """Say how libpq words the errors of a connection, where the library of the driver shows its functions.

    For a connection that a server refuses psycopg2 has no SQLSTATE but what libpq writes into the error's words, and
    by itself libpq writes the server's sentence alone, in the server's language.
    """
    choose = _chooser()
    if choose is not None:
        choose(driver.pgconn_ptr, verbosity)


@cache
def _chooser() -> Any:
    try:
        choose = ctypes.CDLL(psycopg2._psycopg.__file__).PQsetErrorVerbosity
    except (OSError, AttributeError):  # on Windows the driver shows nothing of it
        return None
    choose.argtypes = (ctypes.c_void_p, ctypes.c_int)
    return choose


def _wait(driver: Any) -> None:
    """Serve as psycopg2's wait callback (psycopg.org, "Support for coroutine libraries")."""
    patience = getattr(driver, "patience", None)
    deadline = None if patience is None else patience.until()
    if getattr(driver, "connecting", False):
        _be_told(driver, _SQLSTATE_ONLY)
    while (state := driver.poll()) != extensions.POLL_OK:
        wanted = select.POLLIN if state == extensions.POLL_READ else select.POLLOUT
        poll = select.poll()
        poll.register(driver.fileno(), wanted)
        left_ms = None if deadline is None else max(0, round((deadline - time.monotonic()) * 1000))
        if not poll.poll(left_ms):
            _hang_up(driver)
            raise AnswerTimeout("the server did not answer in time")
        if patience is not None and deadline is not None and patience.each_silence:
            deadline = patience.again(deadline)


def _hang_up(driver: Any) -> None:
    with socket.socket(fileno=os.dup(driver.fileno())) as copied:
        copied.shutdown(socket.SHUT_RDWR)
