"""Open PostgreSQL connections whose waits all have a limit, even if the server's process is frozen.

With every timeout set, psycopg2 still waits for ever for a frozen process, because the kernel goes on acknowledging
packets for it. So a wait callback polls the socket, and shuts it down when an answer is overdue. psycopg2 has one
callback for the whole process: connections that others open wait in it too, without a limit as before; COPY does not
work while a callback is set.
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
"""Every parameter that libpq would otherwise take from an environment variable, a service or a file (postgresql.org,
"Environment Variables" and "SSL Support"). For example, a ``root.crt`` in the home folder turns ``require`` into a
check of the certificate."""

_SESSION = {"TimeZone": "UTC", "DateStyle": "ISO, MDY"}
"""What libpq takes from PGTZ and PGDATESTYLE, whatever ``options`` say; the server reports the values in effect."""

_SQLSTATE_ONLY, _DEFAULT_VERBOSITY = 3, 1  # PQsetErrorVerbosity
_STATE = re.compile(r":  ([0-9A-Z]{5})$", re.MULTILINE)


class AnswerTimeout(psycopg2.OperationalError):  # type: ignore[misc]  # psycopg2 brings no types
    """Raised when a server does not answer in time; the connection is closed then."""


def _refuse(words: list[str]) -> str | None:
    """Refuse what the session would keep after its transaction, for the next user of the pooled connection."""
    if words[0] == "SET" and "STANDARD_CONFORMING_STRINGS" in words:
        return BY_TEXT
    if words[0] == "SET":
        return None if words[1:2] in (["LOCAL"], ["TRANSACTION"], ["CONSTRAINTS"]) else LASTING
    return LASTING if words[0] in ("RESET", "DISCARD", "LISTEN") else None


# set_config() takes names as strings. With standard_conforming_strings off a backslash escapes a quote, so that strings
# would end elsewhere than the tokenizer thinks.
_HIDDEN = re.compile(r"transaction_read_only|set_config.*standard_conforming_strings", re.IGNORECASE | re.DOTALL)
_LASTING = re.compile(
    r"set_config\s*\((?![^()]*,\s*true\s*\))|pg_(?:try_)?advisory_lock|\btemp(?:orary)?\s|\bwith\s+hold\b|(?:\A|;)\s*do\b",
    re.IGNORECASE,
)
"""Finds what may last as long as the connection: settings, locks, temporary tables, cursors, and DO blocks."""

WORDS = Words(RULES, _refuse, hidden=_HIDDEN, lasting=_LASTING)


class Connection(Gated, extensions.connection):  # type: ignore[misc]  # psycopg2 brings no types
    """A connection with a limit on its waits (``patience``), its server, and the statement filter.

    psycopg2 sends BEGIN with the first statement. Outside a transaction that ``routing/guards.py`` began, that BEGIN is
    READ ONLY.
    """

    lazily = True

    def __init__(self, dsn: str, *, login: Login, connect: Patience, **kw: Any) -> None:
        self.patience: Patience | None = connect
        self.server = login.server
        self.connecting = True
        super().__init__(dsn, **kw)
        self.connecting = False
        _set_error_verbosity(self, _DEFAULT_VERBOSITY)
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
    """Open a connection with every parameter stated, so that libpq takes none from the environment or from files."""
    extensions.set_wait_callback(_wait)
    os.unsetenv("PGSERVICE")  # libpq fails if it does not find the service, although every parameter is given
    options = login.options
    until = Patience(float(options.connect_timeout_s)).until()
    addresses = login.addresses(until - time.monotonic())
    # The server's limit is lower, so that it can say what took long; ours is for a server that cannot answer.
    limit_ms = max(500, round(options.answer_timeout_s * 1000) - 250)
    opened: Connection = psycopg2.connect(
        host=",".join([login.host] * len(addresses)),  # the name that the certificate is checked against
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
    """Return an error's SQLSTATE, also that of a refused connection; None if the error is not a server's."""
    if error.pgcode is not None:
        return str(error.pgcode)
    found = _STATE.findall(str(error))
    return found[-1] if found else None


def be_patient(driver: Any, silence_s: float) -> None:
    """From now on limit each wait for more bytes of an answer, and no longer the whole answer."""
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
    """Return the parameters that this version of libpq knows; it refuses unknown ones."""
    return {name: value for name, value in _SAID.items() if _is_known(name)}


def _is_known(name: str) -> bool:
    try:
        extensions.parse_dsn(f"{name}=1")
    except psycopg2.ProgrammingError:
        return False
    return True


def _set_error_verbosity(driver: Any, verbosity: int) -> None:
    """Call libpq's PQsetErrorVerbosity, if the driver's library exports it.

    psycopg2 has no SQLSTATE for a refused connection, only libpq's text. By default that text is the server's sentence,
    in the server's language; with the verbosity SQLSTATE it is the code.
    """
    choose = _chooser()
    if choose is not None:
        choose(driver.pgconn_ptr, verbosity)


@cache
def _chooser() -> Any:
    try:
        choose = ctypes.CDLL(psycopg2._psycopg.__file__).PQsetErrorVerbosity
    except (OSError, AttributeError):  # on Windows the driver exports nothing
        return None
    choose.argtypes = (ctypes.c_void_p, ctypes.c_int)
    return choose


def _wait(driver: Any) -> None:
    """Wait for a connection as psycopg2's wait callback (psycopg.org, "Support for coroutine libraries")."""
    patience = getattr(driver, "patience", None)
    deadline = None if patience is None else patience.until()
    if getattr(driver, "connecting", False):
        _set_error_verbosity(driver, _SQLSTATE_ONLY)
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
