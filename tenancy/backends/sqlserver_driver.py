"""Open SQL Server connections over ODBC: Microsoft's driver where it is installed, else FreeTDS.

An ODBC connection string has its own quoting: a value in braces is taken as it is, with a closing brace doubled
(learn.microsoft.com, "SQLDriverConnect", Comments). FreeTDS knows no doubling: a value ends there with ``};``, which
it therefore cannot hold. What can be said by neither is refused. No value of ours stands outside of braces.
"""

from __future__ import annotations

import socket
from functools import cache
from typing import Any

import pyodbc

from tenancy.backends.logins import Login, ca_file
from tenancy.errors import (
    ConfigurationError,
    ConnectionRefusedByServerError,
    DatabaseTimeoutError,
    DatabaseUnreachableError,
    TenancyError,
    UnsupportedBackendError,
)

pyodbc.pooling = False  # the pools here are ours, and count what is open

_MICROSOFT = ("ODBC Driver 18 for SQL Server", "ODBC Driver 17 for SQL Server")
_FREETDS = "FreeTDS"
_LOCK_MS = 3_000
_SESSION = (
    "SET QUOTED_IDENTIFIER ON; SET ANSI_NULLS ON; SET ANSI_WARNINGS ON; SET ANSI_PADDING ON; "
    "SET CONCAT_NULL_YIELDS_NULL ON; SET ARITHABORT ON; SET DATEFORMAT ymd; "
    f"SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCK_TIMEOUT {_LOCK_MS}"
)


@cache
def odbc_driver() -> str:
    """Give the name of the ODBC driver that is installed, or UnsupportedBackendError."""
    there = pyodbc.drivers()
    for name in (*_MICROSOFT, _FREETDS):
        if name in there:
            return name
    raise UnsupportedBackendError("no ODBC driver for SQL Server is installed: see docs/how-to/deploy.md.")


def open_connection(login: Login) -> Any:
    options = login.options
    driver = pyodbc.connect(
        _written(login),
        timeout=options.connect_timeout_s,
        autocommit=True,
    )
    try:
        driver.timeout = options.answer_timeout_s
        driver.execute(_SESSION).close()
        driver.autocommit = False
    except BaseException:
        driver.close()
        raise
    return driver


def why_unreachable(login: Login) -> TenancyError:
    """Say why no connection came about: the drivers have one word for all reasons, so it is tried without them."""
    try:
        socket.create_connection((server_of(login), login.port), login.options.connect_timeout_s).close()
    except TimeoutError:
        return DatabaseTimeoutError("the server did not answer in time.")
    except ConnectionRefusedError:
        return ConnectionRefusedByServerError("no server answers at this host and port.")
    except OSError:
        return DatabaseUnreachableError("the server cannot be reached.")
    return DatabaseUnreachableError("the server cannot be reached, or ended the connection.")


def server_of(login: Login) -> str:
    """Give the host to connect to: with a port the name of an instance means nothing more."""
    return login.address() if login.policy else login.host.partition("\\")[0]


def _written(login: Login) -> str:
    """Give the connection string; every field of it is stated."""
    said = {"UID": login.user, "PWD": login.password, "DATABASE": login.database or "master"}
    host, verified = login.host.partition("\\")[0], login.tls == "verify"
    if odbc_driver() == _FREETDS:
        if verified:
            raise UnsupportedBackendError("tls=verify needs Microsoft's ODBC driver.", field="db_options")
        said["SERVER"] = server_of(login)
        encryption = {"off": "off", "prefer": "request"}.get(login.tls, "require")
        ours = f"DRIVER={_FREETDS};PORT={login.port};TDS_Version=7.4;ClientCharset=UTF-8;Encryption={encryption};"
    else:
        said["SERVER"] = f"tcp:{server_of(login)},{login.port}"
        said |= {"HostNameInCertificate": host} if verified else {}
        said |= {"ServerCertificate": ca_file(login.options.tls_ca)} if verified and login.options.tls_ca else {}
        encrypt = {"off": "no", "prefer": "optional"}.get(login.tls, "yes")
        ours = f"DRIVER={{{odbc_driver()}}};Encrypt={encrypt};TrustServerCertificate={'no' if verified else 'yes'};"
    return ours + "".join(f"{key}={braced(value)};" for key, value in said.items())


def braced(value: str, field: str = "db_password") -> str:
    """Quote a value for the driver that is installed, or refuse it by the name of its field."""
    if odbc_driver() != _FREETDS:
        return "{" + value.replace("}", "}}") + "}"
    if "};" in value:
        raise ConfigurationError(
            f"{field} may not contain '}};': the driver that is installed ends there.", field=field
        )
    return "{" + value + "}"
