"""Find the backend of a database type; the other products register here as they are built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from tenancy.backends.base import Backend
from tenancy.backends.sqlite import SQLiteBackend
from tenancy.errors import ConfigurationError, UnsupportedBackendError

DB_TYPES = ("sqlite", "postgresql", "mysql", "sqlserver")
_TYPE_OF_SCHEME = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "mssql": "sqlserver",
}


class Backends:
    """Hold one backend a type."""

    def __init__(self, data_dir: Path) -> None:
        self._by_name: Mapping[str, Backend] = {"sqlite": SQLiteBackend(data_dir)}

    def get(self, db_type: str) -> Backend:
        """Give the backend of a type, or refuse: unknown words name the field, known ones say not built in."""
        if db_type not in DB_TYPES:
            raise ConfigurationError(f"db_type must be one of {', '.join(DB_TYPES)}.", field="db_type")
        backend = self._by_name.get(db_type)
        if backend is None:
            raise UnsupportedBackendError(f"db_type {db_type} is not available in this version.", field="db_type")
        return backend

    def registered(self) -> list[Backend]:
        """List the backends that are built in, in the order of ``DB_TYPES``."""
        return [self._by_name[name] for name in DB_TYPES if name in self._by_name]

    def for_url(self, url: str, setting: str) -> Backend:
        """Give the backend that serves a database URL from the settings; the URL is never shown."""
        try:
            scheme = make_url(url).get_backend_name()
        except ArgumentError as error:
            raise ConfigurationError(f"{setting} is not a database URL.", field=setting) from error
        if scheme not in _TYPE_OF_SCHEME:
            raise ConfigurationError(f"{setting} names a database that is not known here.", field=setting)
        try:
            return self.get(_TYPE_OF_SCHEME[scheme])
        except UnsupportedBackendError as error:
            raise UnsupportedBackendError(f"{setting}: {error.message}", field=setting) from error
