"""Open MySQL and MariaDB connections: every parameter given, no files read, strict, in UTC, with limits of time."""

from __future__ import annotations

import socket
from typing import Any

from pymysql.connections import Connection
from pymysql.constants import CLIENT

from tenancy.backends.logins import Login, tls_context

MODES = "STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
_LOCK_S = 3


def open_connection(login: Login, *, several_statements: bool = False) -> Connection:
    """Open a connection whose statements commit themselves until a transaction is begun.

    ``several_statements`` allows more than one in a text: for an administrator's own texts alone.
    """
    options = login.options
    flags = CLIENT.FOUND_ROWS | (CLIENT.MULTI_STATEMENTS if several_statements else 0)
    context = None if login.tls == "off" else tls_context(login.tls, options.tls_ca)
    driver = Connection(
        host=login.host,
        port=login.port,
        user=login.user,
        password=login.password.encode(),  # a text would be sent as Latin-1
        database=login.database,
        unix_socket=None,
        read_default_file=None,
        local_infile=False,
        charset="utf8mb4",
        collation="utf8mb4_bin",
        autocommit=True,
        client_flag=flags,
        connect_timeout=options.connect_timeout_s,
        read_timeout=options.connect_timeout_s,
        write_timeout=options.answer_timeout_s,
        program_name="unify",
        ssl=context if login.tls in ("require", "verify") else None,
        ssl_disabled=login.tls in ("off", "prefer"),
        defer_connect=True,
    )
    if login.tls == "prefer":  # the driver makes a new context for each connection, which takes longer than connecting
        driver.ssl, driver.ctx = True, context
    driver.connect(_connected(login) if login.policy else None)
    try:
        driver._read_timeout = options.answer_timeout_s
        _set(driver, options.answer_timeout_s, _LOCK_S)
    except BaseException:
        driver._force_close()  # without a word to a server that does not keep to the protocol
        raise
    return driver


def be_patient(driver: Any, answer_s: float) -> None:
    """Let the answers of an open connection take long from here on: for schema changes."""
    driver._read_timeout = driver._write_timeout = answer_s
    _set(driver, answer_s, _LOCK_S)


def is_mariadb(driver: Any) -> bool:
    return "mariadb" in driver.get_server_info().lower()


def _set(driver: Any, answer_s: float, lock_s: int) -> None:
    """Set the session in one statement. The server gives up first, so that its answer can say why."""
    limit_s = max(0.5, answer_s - 0.25)
    if is_mariadb(driver):
        products_own = f"tx_isolation = 'READ-COMMITTED', max_statement_time = {limit_s}"
    else:
        products_own = f"transaction_isolation = 'READ-COMMITTED', max_execution_time = {round(limit_s * 1000)}"
    with driver.cursor() as cursor:
        cursor.execute(
            f"SET SESSION time_zone = '+00:00', sql_mode = '{MODES}', innodb_lock_wait_timeout = {lock_s}, "
            f"lock_wait_timeout = {lock_s}, {products_own}"
        )


def _connected(login: Login) -> socket.socket:
    """Connect to the address that the policy let through; the host's name stays the one that TLS checks."""
    timeout_s = login.options.connect_timeout_s
    opened = socket.create_connection((login.address(), login.port), timeout_s)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return opened
