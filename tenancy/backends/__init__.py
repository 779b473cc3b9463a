"""Find the backend of a database type; a server's backend is imported, with its driver, when first asked for."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from tenancy.backends.base import Backend
from tenancy.backends.sqlite.backend import SQLiteBackend
from tenancy.errors import ConfigurationError, UnsupportedBackendError

DB_TYPES = ("sqlite", "postgresql", "mysql", "sqlserver")
_TYPE_OF_SCHEME = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "mssql": "sqlserver",
}


_ON_SERVERS = {
    "postgresql": ("tenancy.backends.postgresql.backend", "PostgreSQLBackend"),
    "mysql": ("tenancy.backends.mysql.backend", "MySQLBackend"),
    "sqlserver": ("tenancy.backends.sqlserver.backend", "SQLServerBackend"),
}


class Backends:
    """Hold one backend for each database type."""

    def __init__(self, data_dir: Path) -> None:
        self._by_name: dict[str, Backend] = {"sqlite": SQLiteBackend(data_dir)}

    def get(self, db_type: str) -> Backend:
        """Return the backend of a type; ConfigurationError if there is no such type, or its driver is not installed."""
        if db_type not in DB_TYPES:
            raise ConfigurationError(f"db_type must be one of {', '.join(DB_TYPES)}.", field="db_type")
        if db_type not in self._by_name:
            self._by_name[db_type] = _loaded(db_type)
        return self._by_name[db_type]

    @staticmethod
    def on_server(db_type: str) -> bool:
        """Say whether databases of a type are on servers; this imports no driver."""
        return db_type in _ON_SERVERS

    def registered(self) -> list[Backend]:
        """List the backends whose drivers are installed, in the order of ``DB_TYPES``."""
        found = []
        for name in DB_TYPES:
            with suppress(UnsupportedBackendError):
                found.append(self.get(name))
        return found

    def for_url(self, url: str, setting: str) -> Backend:
        """Return the backend for a database URL from the settings; errors never show the URL."""
        try:
            scheme = make_url(url).get_backend_name()
        except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
            raise ConfigurationError(f"{setting} is not a database URL: {_url_fault(url)}.", field=setting) from error
        if scheme not in _TYPE_OF_SCHEME:
            known = ", ".join(_TYPE_OF_SCHEME)
            raise ConfigurationError(f"{setting}: the scheme must be one of {known}.", field=setting)
        try:
            return self.get(_TYPE_OF_SCHEME[scheme])
        except UnsupportedBackendError as error:
            raise UnsupportedBackendError(f"{setting}: {error.message}", field=setting) from error


def _url_fault(url: str) -> str:
    """Name the part of a URL that SQLAlchemy could not read; nothing of the URL is repeated, as it may be secret."""
    scheme, separator, rest = url.partition("://")
    if not separator or not scheme:
        return "it must begin with a scheme, such as postgresql://"
    if rest.count("@") > 1:
        return "write an @ in the user or password as %40"
    return "the port is not a number"


def _loaded(db_type: str) -> Backend:
    module, name = _ON_SERVERS[db_type]
    try:
        made: Backend = getattr(import_module(module), name)()
    except ImportError as error:
        raise UnsupportedBackendError(
            f"db_type {db_type} needs a driver that is not installed: pip install 'unify[{db_type}]'.", field="db_type"
        ) from error
    return made
