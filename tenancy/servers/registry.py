"""Register, test, drain and remove database servers, and store their passwords.

A server is registered only after it answered, and removed only when it has no databases. ``catalog/servers.py`` decides
on which server a new database is placed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

from tenancy.backends import access
from tenancy.backends.access import Login
from tenancy.backends.server.backend import ServerBackend
from tenancy.catalog import leftovers, servers
from tenancy.errors import AccessDeniedError, ConfigurationError, ServerExistsError, TenancyError
from tenancy.lifecycle.operation import Operation, Services
from tenancy.models import Server, ServerState
from tenancy.names import fold, is_visible

log = logging.getLogger(__name__)

NAME_MAX = 64
WEIGHT_MAX = 1_000
TENANTS_MAX = 1_000_000
NO_RIGHTS = "the login may not make databases and logins."

Notify = Callable[[list[str], list[str]], None]
"""Called with what was done on a server and what its operator should do there, each a list of sentences."""


def silent(done: list[str], remarks: list[str]) -> None:
    """Ignore the notification."""


class Servers(Operation):
    """Manage the registered servers, as ``manager.servers``; calling it lists them."""

    def __init__(self, services: Services, empty_pool: Callable[[Server], None]) -> None:
        super().__init__(services)
        self._empty_pool = empty_pool

    def __call__(self) -> list[dict[str, Any]]:
        """List the servers by name, without passwords, with the number of databases on each."""
        with self.catalog.reading() as connection:
            return [server.to_dict() for server in servers.every(connection)]

    def add(
        self,
        name: str,
        db_type: str,
        url: str | Login,
        *,
        max_tenants: int | None = None,
        weight: int = 1,
        notify: Notify = silent,
    ) -> dict[str, Any]:
        """Register a server that answers and whose login has the needed rights; return it without its password.

        ``notify`` is told which rights were changed on the server, and what its operator should do there.
        """
        backend = self._backend(db_type)
        login = self.read_login(db_type, url) if isinstance(url, str) else url
        name = _name(name)
        most = None if max_tenants is None else _bounded("max_tenants", max_tenants, TENANTS_MAX)
        limits: dict[str, Any] = {"max_tenants": most, "weight": _bounded("weight", weight, WEIGHT_MAX)}
        place: dict[str, Any] = {
            "db_type": db_type,
            "db_host": backend.host(login.host),
            "db_port": login.port,
            "db_user": login.user,
            "db_options": login.options.written(),
        }
        with closing(backend.at_server(login)) as driver:
            if backend.may_create(driver) is False:
                raise AccessDeniedError(NO_RIGHTS)
            done, remarks = backend.prepare(driver), backend.remarks(driver)
        remarks += self._twins(place)
        fresh = Server(0, name, **place, sealed_password="", state=ServerState.ACCEPTING, **limits)
        with self.catalog.writing() as connection:
            sealed = self.services.keyring.seal(login.password, fresh.binding)
            servers.add(connection, name, db_password=sealed, **place, **limits)
            self.catalog.audit.append(connection, "server.add", detail={"server": name, "type": db_type, "done": done})
            made = servers.by_name(connection, name).to_dict()
        notify(done, remarks)
        return made

    def read_login(self, db_type: str, url: str) -> Login:
        """Parse the URL of a server; a database in it is ignored."""
        backend = self._backend(db_type)
        if self.backends.for_url(url, "url") is not backend:
            raise ConfigurationError(f"url: the scheme is not one for {backend.label}.", field="url")
        return backend.login(url, "url")

    def get(self, name: str) -> dict[str, Any]:
        return self._find(name).to_dict()

    def test(self, name: str) -> dict[str, Any]:
        """Connect to a server and return how it is; a failure is returned, not raised.

        ``may_create`` is whether the login may create databases and logins, None if the product cannot tell.
        ``remarks`` are sentences about what its operator should do.
        """
        server = self._find(name)
        started = time.perf_counter()
        may: bool | None = None
        remarks: list[str] = []
        try:
            with self._entered(server) as (backend, driver):
                may, remarks = backend.may_create(driver), backend.remarks(driver)
            found = {"ok": True, "code": "ok", "message": "the server answers and takes the login."}
        except TenancyError as error:
            found = {"ok": False, "code": error.code, "message": error.message}
        if may is False:
            found = {"ok": False, "code": AccessDeniedError.code, "message": NO_RIGHTS}
        took = round((time.perf_counter() - started) * 1000, 2)
        return {"name": server.name, **found, "latency_ms": took, "may_create": may, "remarks": remarks}

    def tidy(self, name: str) -> dict[str, Any]:
        """Remove this installation's unused objects from a server; return what was ``done``, and ``remarks``."""
        server = self._find(name)
        with self._entered(server) as (backend, driver):
            done = backend.prepare(driver, beside_others=True)
            done += backend.tidy(driver, server.installation, self.chain.fingerprint)
            remarks = backend.remarks(driver)
        with self.catalog.writing() as connection:
            self.catalog.audit.append(connection, "server.tidy", detail={"server": server.name, "done": done})
        return {"name": server.name, "done": done, "remarks": remarks}

    def drain(self, name: str) -> dict[str, Any]:
        """Place no more databases on a server; those on it stay."""
        return self._set(name, ServerState.DRAINING)

    def accept(self, name: str) -> dict[str, Any]:
        return self._set(name, ServerState.ACCEPTING)

    def set_password(self, name: str, password: str) -> dict[str, Any]:
        """Store a new password of a server's login after connecting with it; on failure nothing changes."""
        server = self._find(name)
        login = replace(self.services.server_login(server), password=access.password(password, "password"))
        if _may_create(self._backend(server.db_type), login) is False:
            raise AccessDeniedError(NO_RIGHTS)
        with self.catalog.writing() as connection:
            server = servers.by_name(connection, name)
            servers.change(connection, server, db_password=self.services.keyring.seal(password, server.binding))
            self.catalog.audit.append(connection, "server.password", detail={"server": server.name})
            return servers.by_name(connection, name).to_dict()

    def remove(self, name: str, notify: Notify = silent) -> None:
        """Remove a server that has no users' databases, and drop the pending ones.

        Raises ServerExistsError while it has any. ``notify`` is told what was done on the server and what may be left.
        """
        server, dropped = self._find(name), []
        if not server.tenants and server.pending:
            dropped = [f"dropped {server.pending} {'database' if server.pending == 1 else 'databases'} kept ready"]
            self._empty_pool(server)
            server = self._find(name)
        with self.catalog.writing() as connection:
            if leftovers.on_server(connection, server.id):
                raise ServerExistsError(
                    f"databases were left behind on server {server.name!r}: remove them first (`unify db leftovers "
                    "--remove` or `manager.leftovers.clear()`), or say of each that it is gone (`unify db leftovers "
                    "--confirm ID` or `manager.leftovers.confirm()`).",
                    field="name",
                )
            servers.remove(connection, server)
            self.catalog.audit.append(connection, "server.remove", detail={"server": server.name})
        try:
            with self._entered(server) as (backend, driver):
                done = backend.prepare(driver, beside_others=True)
                notify(dropped + done + backend.tidy(driver, server.installation, fingerprint=""), [])
        except TenancyError as error:
            log.warning("templates may be left on server %r, which is forgotten: %s", server.name, error.message)
            notify(dropped, [f"templates may be left there: {error.message}"])

    def _twins(self, place: dict[str, Any]) -> list[str]:
        """Remark on servers that are already registered at the same address under another name."""
        address = place["db_type"], place["db_host"], place["db_port"]
        with self.catalog.reading() as connection:
            same = [each for each in servers.every(connection) if each.address == address]
        counted = "each name counts only the databases placed under it: remove one of the two."
        return [f"this server is already registered as {each.name!r}: {counted}" for each in same]

    def _set(self, name: str, state: ServerState) -> dict[str, Any]:
        with self.catalog.writing() as connection:
            server = servers.by_name(connection, name)
            if server.state is not state:
                servers.change(connection, server, state=str(state))
                self.catalog.audit.append(connection, f"server.{state}", detail={"server": server.name})
            return servers.by_name(connection, name).to_dict()

    def _find(self, name: str) -> Server:
        with self.catalog.reading() as connection:
            return servers.by_name(connection, name)

    @contextmanager
    def _entered(self, server: Server) -> Iterator[tuple[ServerBackend, Any]]:
        backend = self._backend(server.db_type)
        with closing(backend.at_server(self.services.server_login(server))) as driver:
            yield backend, driver

    def _backend(self, db_type: str) -> ServerBackend:
        backend = self.backends.get(db_type)
        if not isinstance(backend, ServerBackend):
            raise ConfigurationError(f"{backend.label} has no servers: its databases are files.", field="db_type")
        return backend


def _may_create(backend: ServerBackend, login: Login) -> bool | None:
    """Connect to a server; return whether the login may create databases and logins there."""
    with closing(backend.at_server(login)) as driver:
        return backend.may_create(driver)


def _name(text: str) -> str:
    """Return the name with blanks collapsed, or refuse it; its folded form, which may be longer, must fit too."""
    name = " ".join(text.split())
    if not is_visible(name) or not text.strip().isprintable() or max(len(name), len(fold(name))) > NAME_MAX:
        raise ConfigurationError(f"name must be 1 to {NAME_MAX} printable characters.", field="name")
    return name


def _bounded(field: str, value: object, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ConfigurationError(f"{field} must be a whole number from 1 to {most}.", field=field)
    return value
