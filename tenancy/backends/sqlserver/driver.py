"""Choose a driver for SQL Server connections, and hold what differs between the drivers.

Microsoft's driver comes in two forms: as an ODBC driver for pyodbc, and inside the package mssql-python. FreeTDS, an
ODBC driver too, is used if neither is installed.

In an ODBC connection string a value is in braces, with each closing brace doubled (learn.microsoft.com,
"SQLDriverConnect", Comments). FreeTDS does not know the doubling: a value ends at the first ``};``, so a value that
holds those two characters is refused. Every value that a user gave is in braces.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from contextlib import suppress
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

from tenancy.backends.access import Login, ca_file
from tenancy.backends.sqlserver.dialects import OVER_MSSQLPYTHON, OVER_PYODBC
from tenancy.errors import (
    ConfigurationError,
    UnsupportedBackendError,
)

NO_DRIVER = (
    "no ODBC driver for SQL Server is installed on this machine, or it cannot be loaded; nothing is wrong with the "
    "database. On Debian and Ubuntu: apt-get install tdsodbc unixodbc (others: docs/how-to/deploy.md)."
)
CANNOT_LOAD = "Can't open lib"
"""unixODBC's text for a driver that odbcinst.ini names, but whose file, or a library that it needs, is missing."""

_LOCK_MS = 3_000
_SESSION = (
    "SET LANGUAGE us_english; "  # error texts are read (_BY_WORDS)
    "SET QUOTED_IDENTIFIER ON; SET ANSI_NULLS ON; SET ANSI_WARNINGS ON; SET ANSI_PADDING ON; "
    "SET CONCAT_NULL_YIELDS_NULL ON; SET ARITHABORT ON; SET DATEFORMAT ymd; "
    f"SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCK_TIMEOUT {_LOCK_MS}"
)
_NUMBER = re.compile(r"\((\d+)\) \(SQL")
_STATES = {
    "Client unable to establish connection": "08001",
    "Connection not open": "08003",
    "Connection failure during transaction": "08007",
    "Communication link failure": "08S01",
    "Invalid authorization specification": "28000",
    "Timeout expired": "HYT00",
    "Connection timeout expired": "HYT01",
}
"""mssql-python does not keep the SQLSTATE, only a text of its own for each."""


class ErrorInfo(NamedTuple):
    """Hold what a driver says about an error: SQLSTATE, the server's own number if it is passed on, and the text."""

    state: str
    number: int | None
    text: str


class Driver(ABC):
    """Open connections with one driver; the constructor raises ImportError if it is not installed.

    ``scheme`` names the SQLAlchemy dialect for it. ``errors`` is the driver's module, which has PEP 249's exceptions.
    """

    scheme: ClassVar[str]
    cannot_say: ClassVar[str | None] = None
    errors: Any

    def open(self, login: Login) -> Any:
        options = login.options
        driver = self.connect(login, timeout=options.connect_timeout_s, autocommit=True)
        with suppress(
            AttributeError
        ):  # pyodbc's connections take no new attributes, so nothing about their server is cached
            driver.server = login.server
        try:
            driver.timeout = options.answer_timeout_s
            driver.execute(_SESSION).close()
            driver.autocommit = False
        except BaseException:
            driver.close()
            raise
        return driver

    @abstractmethod
    def connect(self, login: Login, **how: Any) -> Any:
        """Connect with all fields of the login, each as an argument of its own or quoted."""

    @abstractmethod
    def error_info(self, error: Any) -> ErrorInfo:
        """Read what an error of this driver says."""

    def check(self, value: str, field: str) -> None:
        """Raise ConfigurationError, with the field's name, for a value that this driver cannot quote."""
        if self.cannot_say and self.cannot_say in value:
            raise ConfigurationError(
                f"{field} may not contain '{self.cannot_say}': the driver that is installed ends there.", field=field
            )


class _OverPyodbc(Driver):
    scheme = OVER_PYODBC
    names: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        self.errors = import_module("pyodbc")
        self.errors.pooling = False  # SQLAlchemy pools, and our limits count open connections
        there = self.errors.drivers()
        found = [name for name in self.names if name in there]
        if not found:
            raise ImportError(f"ODBC has no driver named {self.names[0]}.")
        self.name = found[0]

    def connect(self, login: Login, **how: Any) -> Any:
        said = {"DRIVER": self.name, **self.fields(login)}
        return self.errors.connect("".join(f"{key}={{{self.escaped(value)}}};" for key, value in said.items()), **how)

    @abstractmethod
    def fields(self, login: Login) -> dict[str, str]: ...

    @abstractmethod
    def escaped(self, value: str) -> str: ...

    def error_info(self, error: Any) -> ErrorInfo:
        state, text = (*map(str, error.args), "", "")[:2]
        number = _NUMBER.search(text)
        return ErrorInfo(state, int(number[1]) if number else None, text)


class Microsoft(_OverPyodbc):
    names = ("ODBC Driver 18 for SQL Server", "ODBC Driver 17 for SQL Server")

    def fields(self, login: Login) -> dict[str, str]:
        return _microsofts(login)

    def escaped(self, value: str) -> str:
        return value.replace("}", "}}")


class FreeTDS(_OverPyodbc):
    names = ("FreeTDS",)
    cannot_say = "};"

    def fields(self, login: Login) -> dict[str, str]:
        if login.tls == "verify":
            raise UnsupportedBackendError("tls=verify needs Microsoft's driver.", field="db_options")
        for field, value in (("db_user", login.user), ("db_password", login.password), ("db_name", login.database)):
            self.check(value or "", field)
        return _entered(login) | {
            "SERVER": server_of(login),
            "PORT": str(login.port),
            "TDS_Version": "7.4",
            "ClientCharset": "UTF-8",
            "Encryption": {"off": "off", "prefer": "request"}.get(login.tls, "require"),
        }

    def escaped(self, value: str) -> str:
        return value


class MSSQLPython(Driver):
    """Use mssql-python, which takes each field as an argument and quotes it (its ``_ConnectionStringBuilder``)."""

    scheme = OVER_MSSQLPYTHON

    def __init__(self) -> None:
        self.errors = import_module("mssql_python")
        self.errors.pooling(enabled=False)  # SQLAlchemy pools

    def connect(self, login: Login, **how: Any) -> Any:
        return self.errors.connect(**_microsofts(login), **how)

    def error_info(self, error: Any) -> ErrorInfo:
        return ErrorInfo(_STATES.get(error.driver_error, ""), None, error.ddbc_error)


DRIVERS: tuple[type[Driver], ...] = (Microsoft, MSSQLPython, FreeTDS)
"""The drivers in the order in which they are tried; a test may leave only one."""


def chosen() -> Driver:
    """Return the first driver that is installed.

    Raises ImportError if no Python package is installed, UnsupportedBackendError if only the ODBC driver is missing.
    """
    for driver in DRIVERS:
        with suppress(ImportError):
            return driver()
    try:
        import_module("pyodbc")  # its ImportError names the package to install
    except ImportError as error:
        if error.path is None:  # with a path, the package is installed, and the ODBC library is missing
            raise
    raise UnsupportedBackendError(NO_DRIVER)


def server_of(login: Login) -> str:
    """Return the host to connect to, without the instance's name, which means nothing beside a port."""
    return login.addresses(float(login.options.connect_timeout_s))[0] if login.policy else login.host.partition("\\")[0]


def _entered(login: Login) -> dict[str, str]:
    return {"UID": login.user, "PWD": login.password, "DATABASE": login.database or "master"}


def _microsofts(login: Login) -> dict[str, str]:
    """Return the fields as Microsoft's driver names them; it must report a lost connection, not reopen it."""
    verified = login.tls == "verify"
    said = _entered(login) | {
        "SERVER": f"tcp:{server_of(login)},{login.port}",
        "Encrypt": {"off": "no", "prefer": "optional"}.get(login.tls, "yes"),
        "TrustServerCertificate": "no" if verified else "yes",
        "ConnectRetryCount": "0",
    }
    if verified:
        said["HostNameInCertificate"] = login.host.partition("\\")[0]
        if login.options.tls_ca:
            said["ServerCertificate"] = ca_file(login.options.tls_ca)
    return said
