"""Who may enter what on a PostgreSQL server, and whose sessions are in the way."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tenancy import names
from tenancy.backends.base import Attempt
from tenancy.backends.postgresql.backend import PostgreSQLBackend
from tenancy.backends.postgresql.rights import alone, keep_closed, own, own_closed
from tenancy.backends.server.sql import column, one, run
from tenancy.errors import AccessDeniedError, BackendError, DatabaseMissingError, TooManyConnectionsError
from tests.support.engines import use
from tests.support.homes import Home, attempt, blueprint, home_of, plain_home
from tests.support.servers import own_server

OLD = "0ld5c4e3a"
NEW = "6e35c4e3a"
"""Fingerprints of two schemas."""


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    """Give an installation that nobody else's test belongs to, whose login has the documented rights."""
    with plain_home(use(request, "postgresql"), tmp_path) as home:
        yield home


@pytest.fixture
def backend(home: Home) -> PostgreSQLBackend:
    assert isinstance(home.backend, PostgreSQLBackend)
    return home.backend


@pytest.fixture
def driver(home: Home, backend: PostgreSQLBackend) -> Iterator[Any]:
    assert home.server is not None
    with closing(backend.at_server(home.server)) as driver:
        yield driver


def make(home: Home, fingerprint: str, how: Attempt | None = None) -> None:
    """Make a database of a schema, and drop it again: its template stays."""
    tenant = home.place()
    try:
        home.create(tenant, blueprint(tenant, fingerprint=fingerprint), how or attempt())
    finally:
        home.drop(tenant)


def templates(driver: Any) -> list[str]:
    """Name the templates of a connection's login."""
    return own(
        driver, column(driver, "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (names.TEMPLATE,))
    )


def test_a_template_that_no_schema_needs_goes_when_the_next_one_is_made(home, driver):
    make(home, OLD)
    assert templates(driver) == [names.template(home.installation, OLD)]
    make(home, NEW)
    assert templates(driver) == [names.template(home.installation, NEW)]


def test_another_installations_templates_are_neither_used_nor_dropped(home, driver):
    make(home, OLD)
    other = Home(home.backend, home.server, secrets.token_hex(3))
    make(other, NEW)
    assert sorted(templates(driver)) == sorted(
        [names.template(home.installation, OLD), names.template(other.installation, NEW)]
    )


def test_a_template_that_somebody_looks_at_is_copied_all_the_same(home, backend, driver):
    make(home, OLD)
    template = names.template(home.installation, OLD)
    run(driver, f"ALTER DATABASE {template} WITH CONNECTION LIMIT -1")
    with closing(backend.open(home.server.into(template))):
        make(home, OLD)
    assert templates(driver) == [template]


def test_tidying_leaves_what_is_needed_and_nothing_of_its_own_that_stops_pg_upgrade(home, backend, driver):
    tenant, others = home.place(), names.partial(secrets.token_hex(3))
    home.create(tenant, blueprint(tenant, fingerprint=OLD), attempt())
    try:
        backend.make_plain_database(driver, others)
        home.backend.restore_points.create(tenant, home.access(tenant), "run1")
        point, template = names.point_database(tenant.db_name, "run1"), names.template(home.installation, OLD)
        left = names.partial(home.installation)
        backend.make_plain_database(driver, left)
        for name in (point, template, others):
            run(driver, f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false CONNECTION LIMIT -1")
        assert backend.tidy(driver, home.installation, OLD) == [
            f"dropped {left}",
            *(f"closed {name} in another way" for name in sorted((point, template))),
        ]
        assert closed_to_pg_upgrade(driver) == [others]
        with pytest.raises(BackendError):
            backend.open(home.server.into(point))
        assert home.backend.restore_points.has(tenant, home.access(tenant), "run1")
        assert backend.tidy(driver, home.installation, NEW) == [f"dropped {template}"]
    finally:
        backend.drop_database(driver, others)
        home.backend.restore_points.delete(tenant, home.access(tenant), "run1")
        home.drop(tenant)


def closed_to_pg_upgrade(driver: Any) -> list[str]:
    return own_closed(driver, column(driver, "SELECT datname FROM pg_database WHERE datname <> 'template0'"))


def test_a_template_in_which_tenants_could_make_tables_is_refused(home, driver, monkeypatch):
    """As before PostgreSQL 15, where only a superuser may take that right away."""
    monkeypatch.setattr(
        "tenancy.backends.postgresql.templates.tenant_rights", lambda: ["GRANT CREATE ON SCHEMA public TO PUBLIC"]
    )
    with pytest.raises(AccessDeniedError, match="before PostgreSQL 15"):
        make(home, OLD)
    assert templates(driver) == []


def test_of_databases_that_are_closed_only_one_that_a_kill_left_so_is_opened(home, backend, driver):
    """Whichever database that is: a tenant's, one that somebody named, or the catalog."""
    name = f"unify_test_{secrets.token_hex(6)}"
    run(driver, f"CREATE DATABASE {name} CONNECTION LIMIT 0")
    assert backend.stands(home.server.into(name))
    backend.open(home.server.into(name)).close()
    run(driver, keep_closed(name))
    with pytest.raises(TooManyConnectionsError):
        backend.stands(home.server.into(name))


def test_a_login_whose_sessions_may_not_be_ended_is_named(request, home, backend, driver, tmp_path):
    """A superuser's, here. The server says that a database is in use only after five seconds: we say it for it."""
    name, in_use = f"unify_test_{secrets.token_hex(6)}", "DO $$ BEGIN RAISE object_in_use; END $$"
    backend.make_plain_database(driver, name)
    above = home_of("postgresql", tmp_path).server
    told = f"the login {above.user} is connected to the database {name}"
    with closing(backend.open(above.into(name))), pytest.raises(AccessDeniedError, match=told):
        alone(driver, name, in_use)
    backend.drop_database(driver, name)
    with pytest.raises(DatabaseMissingError):
        backend.open(home.server.into(name))


def test_text_sorts_by_code_point_also_where_the_servers_order_is_icus(tmp_path):
    with own_server("postgresql", made_with=("--locale-provider=icu", "--icu-locale=en-US")) as own_icu:
        backend = home_of("postgresql", tmp_path).backend
        assert isinstance(backend, PostgreSQLBackend)
        login = backend.login(own_icu.url, "URL")
        home = Home(backend, login)
        tenant = home.place()
        home.create(tenant, blueprint(tenant), attempt())
        sorted_there = "SELECT string_agg(x, '' ORDER BY x) FROM (VALUES ('a'), ('B'), ('A'), ('b')) v (x)"
        with closing(backend.at_server(login)) as plainly, closing(home.connect(tenant)) as in_tenant:
            assert (one(plainly, sorted_there), one(in_tenant, sorted_there)) == ("aAbB", "ABab")


# --- the server's own databases: on a server of the test's own, as others use the common one ----------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[PostgreSQLBackend, Any, Home]]:
    with own_server("postgresql") as own:
        backend = home_of("postgresql", tmp_path).backend
        assert isinstance(backend, PostgreSQLBackend)
        login = backend.login(own.url, "URL")
        with closing(backend.at_server(login)) as driver:
            yield backend, driver, Home(backend, login)


def test_the_template_of_version_0_3_is_used_and_renamed(server):
    """It allowed no connections, and its name says no installation: any superuser who makes another drops it."""
    _, driver, home = server
    fingerprint = secrets.token_hex(8)
    make(home, fingerprint)
    old, new = names.template("", fingerprint), names.template(home.installation, fingerprint)
    run(driver, f"ALTER DATABASE {new} RENAME TO {old}", f"ALTER DATABASE {old} WITH ALLOW_CONNECTIONS false")
    before = one(driver, "SELECT oid FROM pg_database WHERE datname = %s", (old,))
    make(home, fingerprint)
    assert templates(driver) == [new]
    assert one(driver, "SELECT oid FROM pg_database WHERE datname = %s", (new,)) == before
    assert closed_to_pg_upgrade(driver) == []


def test_no_tenants_login_enters_the_servers_own_databases(server):
    backend, driver, home = server
    tenant = home.place()
    home.create(tenant, blueprint(tenant), attempt())
    run(driver, "CREATE ROLE neighbour LOGIN PASSWORD 'pw'")
    neighbour = home.server.__class__(home.server.host, home.server.port, "neighbour", "pw")
    own = home.access(tenant).login

    backend.prepare(driver)
    backend.open(own.into("postgres")).close()  # somebody else has a login there: nothing is taken unasked
    assert "postgres and the database template1: `unify servers tidy`" in " ".join(backend.remarks(driver))

    backend.tidy(driver, home.installation, "none")
    assert backend.remarks(driver) == []
    for name in ("postgres", "template1"):
        backend.open(neighbour.into(name)).close()
        with pytest.raises(AccessDeniedError):
            backend.open(own.into(name))


def test_a_server_without_others_is_closed_to_tenants_at_once(server):
    backend, driver, home = server
    backend.prepare(driver)
    assert backend.remarks(driver) == []
    run(driver, "CREATE ROLE late LOGIN CREATEDB CREATEROLE PASSWORD 'pw'")
    late = home.server.__class__(home.server.host, home.server.port, "late", "pw")
    with pytest.raises(AccessDeniedError, match="GRANT CONNECT ON DATABASE postgres"):
        backend.at_server(late)
    run(driver, "GRANT CONNECT ON DATABASE postgres TO late", "GRANT CONNECT ON DATABASE template1 TO PUBLIC")
    with closing(backend.at_server(late)) as as_late:
        backend.prepare(as_late)
        (remark,) = backend.remarks(as_late)
    assert "as its owner run REVOKE CONNECT ON DATABASE template1 FROM PUBLIC" in remark
