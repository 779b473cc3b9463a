"""Help to test backends: a small schema, a try at making it, and a home that knows how each product is entered."""

from __future__ import annotations

import contextlib
import re
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tenancy.backends import Backends
from tenancy.backends.access import NO_ACCESS, Access, Login
from tenancy.backends.base import Attempt, Backend, Blueprint, Whose
from tenancy.backends.server.backend import ServerBackend
from tenancy.backends.server.sql import column, run
from tenancy.models import Server, ServerState, State, Tenant
from tenancy.schema.tables import TENANT_VERSION_TABLE, tenancy_identity, tenancy_tables
from tests.support import engines

PASSWORD = "pass' word;Server=x}é☃\""
"""The password of every tenant's login here: nothing in it may mean anything to a driver or to SQL."""

INSTALLATION = "7e5700"

THINGS = sa.table("things", sa.column("name"), sa.column("counter"))


@dataclass(frozen=True)
class Home:
    """Hold a backend and, where it has servers, the login of one: it does with an ``Access`` what the engine does."""

    backend: Backend
    server: Login | None = None
    installation: str = INSTALLATION

    def place(self, user_id: int = 1, **changes: Any) -> Tenant:
        """Say where a user's database belongs."""
        tenant_id = uuid.uuid4()
        planned = self.backend.plan(Whose(user_id, tenant_id), {}, self._registered())
        return Tenant(
            user_id=user_id,
            state=State.READY,
            version=1,
            epoch=1,
            **{"tenant_id": tenant_id, **planned, **changes},
        )

    def access(self, tenant: Tenant) -> Access:
        if self.server is None:
            return NO_ACCESS
        own = Login(self.server.host, self.server.port, tenant.db_user or "", PASSWORD, tenant.db_name)
        return Access(own, self.server, self.installation)

    def create(self, tenant: Tenant, blueprint: Blueprint, attempt: Attempt) -> None:
        self.backend.create(tenant, self.access(tenant), blueprint, attempt)

    def exists(self, tenant: Tenant) -> bool:
        return self.backend.exists(tenant, self.access(tenant))

    def drop(self, tenant: Tenant) -> None:
        self.backend.drop(tenant, self.access(tenant))

    def size_bytes(self, tenant: Tenant) -> int | None:
        return self.backend.size_bytes(tenant, self.access(tenant))

    def connect(self, tenant: Tenant) -> Any:
        return self.backend.connect(tenant, self.access(tenant))

    def plain(self, tenant: Tenant) -> Any:
        """Open a connection as the login that serves, without what keeps an engine's connections behind the fence."""
        login = self.access(tenant).login
        if not isinstance(self.backend, ServerBackend) or login is None:
            return self.connect(tenant)
        return self.backend.open(login.into(tenant.db_name))

    def connect_to_migrate(self, tenant: Tenant) -> Any:
        return self.backend.connect_to_migrate(tenant, self.access(tenant))

    def names(self, tenant: Tenant) -> list[str]:
        with closing(self.connect(tenant)) as driver, closing(driver.cursor()) as cursor:
            cursor.execute("SELECT name FROM things ORDER BY name")
            return [row[0] for row in cursor.fetchall()]

    def engine(self, tenant: Tenant) -> sa.Engine:
        """Make an engine as the cache does: transactions say whether they write."""

        def fresh() -> Any:
            driver = self.connect(tenant)
            driver.rollback()
            return driver

        engine = self.backend.engine(fresh)
        asked = "tenancy_write"
        sa.event.listen(engine, "begin", lambda c: self.backend.begin(c, c.get_execution_options().get(asked, True)))
        return engine

    def _registered(self) -> Server | None:
        if self.server is None:
            return None
        where = self.server
        return Server(
            id=1,
            name="test",
            db_type=self.backend.name,
            db_host=where.host,
            db_port=where.port,
            db_user=where.user,
            sealed_password="",
            db_options=where.options.written(),
            max_tenants=None,
            weight=1,
            state=ServerState.ACCEPTING,
            installation=self.installation,
        )


def home_of(engine: str, folder: Path, installation: str = INSTALLATION) -> Home:
    """Give the home of an engine: a folder, or the server on which tests may make databases.

    Those who make templates of another schema name another installation, or each would drop the others'.
    """
    backend = Backends(folder / "users").get(engine)
    if not isinstance(backend, ServerBackend):
        return Home(backend)
    return Home(backend, engines.server_login(engine), installation)


@contextlib.contextmanager
def plain_home(engine: str, folder: Path) -> Iterator[Home]:
    """Give the home of an engine for a login that has the documented rights on the tests' server, and no others."""
    home = home_of(engine, folder)
    server, backend = home.server, home.backend
    assert server is not None
    assert isinstance(backend, ServerBackend)
    name, secret = f"unify_test_{secrets.token_hex(6)}", secrets.token_hex(12)
    with closing(backend.at_server(server)) as driver:
        if engine == "postgresql" and driver.server_version < 150_000:
            pytest.skip("postgresql: before version 15 tenants' databases are made by superusers alone")
        try:
            for statement in documented_rights(backend.label):
                run(driver, statement.replace(" unify ", f" {name} ").replace("'SECRET'", f"'{secret}'"))
            yield Home(backend, replace(server, user=name, password=secret), installation=secrets.token_hex(3))
        finally:
            _drop_what_is_left_of(driver, backend, name)
            backend.drop_login(driver, name)


def documented_rights(label: str) -> list[str]:
    """Give the statements by which the documents give a server's login its rights."""
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "operate" / "production.md").read_text(encoding="utf-8")
    found = re.search(rf"^{label}[^\n]*:\n```sql\n(.*?)```", text, re.MULTILINE | re.DOTALL)
    assert found, f"the documents say nothing of {label}"
    return [re.sub(r"unify;$", "unify ", line).removesuffix(";") for line in found[1].splitlines()]


def _drop_what_is_left_of(driver: Any, backend: ServerBackend, user: str) -> None:
    """Drop the templates that a login copied from, and its right to enter."""
    if backend.name == "postgresql":
        owned = "SELECT datname FROM pg_database JOIN pg_roles r ON r.oid = datdba WHERE rolname = %s"
        for left in column(driver, owned, (user,)):
            backend.drop_database(driver, left)
        run(driver, f"DROP OWNED BY {user}")


def build(connection: sa.Connection) -> None:
    tenancy_tables.create_all(connection)
    connection.exec_driver_sql(f"CREATE TABLE {TENANT_VERSION_TABLE} (version_num VARCHAR(32))")
    connection.exec_driver_sql("CREATE TABLE things (name VARCHAR(40) PRIMARY KEY, counter INTEGER)")
    connection.exec_driver_sql("CREATE TABLE parts (thing VARCHAR(40), FOREIGN KEY (thing) REFERENCES things (name))")
    connection.commit()


def blueprint(tenant: Tenant, name: str = "first", fingerprint: str = "f" * 8) -> Blueprint:
    def fill(connection: sa.Connection) -> None:
        connection.execute(THINGS.insert(), {"name": name, "counter": 0})
        kept = {"id": 1, "tenant_id": tenant.tenant_id, "user_id": tenant.user_id, "kind": "tenant", "epoch": 1}
        now = sa.func.current_timestamp()
        connection.execute(tenancy_identity.insert().values(state="ready", created_at=now, **kept))

    return Blueprint(fingerprint, build, fill)


def attempt(number: int = 1, step: Callable[[str], None] = lambda name: None) -> Attempt:
    return Attempt(number, step)


@contextlib.contextmanager
def transaction(engine: sa.Engine, *, write: bool) -> Iterator[sa.Connection]:
    with engine.connect().execution_options(tenancy_write=write) as connection, connection.begin():
        yield connection
