"""Database servers: registered once they answer, chosen by room and weight, drained, forgotten when empty."""

from __future__ import annotations

import json
import logging
from contextlib import closing
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from tenancy.backends.base import DatabaseFields
from tenancy.backends.server.sql import run
from tenancy.catalog import servers as rows
from tenancy.catalog.tables import audit_log, database_servers
from tenancy.errors import (
    AccessDeniedError,
    ConfigurationError,
    DatabaseTimeoutError,
    LoginRefusedError,
    NoServerError,
    ServerExistsError,
    ServerNotFoundError,
    TamperedCredentialError,
)
from tests.support.applications import add_task, add_users, audit_actions, tenant_of, titles, together
from tests.support.engines import backend_of, server_address, use
from tests.support.servers import PASSWORD, listener, own_server


@pytest.fixture
def url(request) -> str:
    use(request, "postgresql")
    address = server_address("postgresql")
    return address.render_as_string(hide_password=False)


@pytest.fixture
def manager(make_parts):
    manager = make_parts(default_tenant_db_type="postgresql").manager
    yield manager
    for user_id in range(1, 20):
        if tenant_of(manager, user_id) is not None:
            manager.delete_user_database(user_id)


@pytest.fixture
def own():
    """Run a server that asks for passwords."""
    with own_server("postgresql") as server:
        yield server


def server_row(manager, name: str):
    with manager.catalog.reading() as connection:
        return rows.by_name(connection, name)


def placed(manager, number: int) -> list[str]:
    """Make databases and name the server of each."""
    names = {server["id"]: server["name"] for server in manager.servers()}
    return [names[manager.provision(user_id).tenant.server_id] for user_id in add_users(manager, number)]


def test_a_server_is_listed_without_its_secret_and_tested(manager):
    with own_server("postgresql") as own:
        made = manager.servers.add("  First   one ", "postgresql", own.url, max_tenants=7, weight=3)
        assert (made["name"], made["db_port"], made["max_tenants"], made["weight"]) == ("First one", own.port, 7, 3)
        assert (made["state"], made["tenants"]) == ("accepting", 0)
        assert manager.servers() == [made]
        assert manager.servers.test("FIRST ONE")["ok"]
        assert PASSWORD not in str(manager.servers())
        with manager.catalog.reading() as connection:
            kept = connection.execute(database_servers.select()).mappings().one()
        assert PASSWORD not in str(dict(kept))
        own.stop()
        found = manager.servers.test("first one")
        assert (found["ok"], found["code"]) == (False, "connection_refused")
        own.start()
    assert audit_actions(manager) == ["server.add"]


def test_what_does_not_answer_or_refuses_is_not_registered(manager):
    with own_server("postgresql") as own:
        with pytest.raises(LoginRefusedError):
            manager.servers.add("x", "postgresql", f"postgresql://postgres:wrong@127.0.0.1:{own.port}/")
        port = own.port
    with pytest.raises(Exception, match="no server answers"):
        manager.servers.add("x", "postgresql", f"postgresql://postgres:wrong@127.0.0.1:{port}/")
    assert manager.servers() == []


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "n" * 65}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": " \t"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"name": "\ufdfa" * 10}, "name"),
        ({"weight": 0}, "weight"),
        ({"weight": 1001}, "weight"),
        ({"weight": True}, "weight"),
        ({"weight": 1.5}, "weight"),
        ({"weight": None}, "weight"),
        ({"max_tenants": 0}, "max_tenants"),
        ({"max_tenants": 1_000_001}, "max_tenants"),
        ({"max_tenants": True}, "max_tenants"),
        ({"db_type": "sqlite"}, "db_type"),
        ({"db_type": "oracle"}, "db_type"),
        ({"db_type": ""}, "db_type"),
        ({"url": ""}, "url"),
        ({"url": "sqlite:///x.db"}, "url"),
        ({"url": "mysql://root:hunter2@127.0.0.1:PORT/"}, "url"),
        ({"url": "oracle://u:hunter2@127.0.0.1:PORT/"}, "url"),
        ({"url": "postgresql://u:hunter2@127.0.0.1:x/"}, "url"),
        ({"url": "postgresql://u:hunter2@127.0.0.1:65536/"}, "url"),
        ({"url": "postgresql://127.0.0.1:PORT/"}, "url"),
        ({"url": "postgresql://u:%00@127.0.0.1:PORT/"}, "url"),
        ({"url": "postgresql://u@127.0.0.1:PORT/?service=x"}, "url"),
        ({"url": "postgresql://u@127.0.0.1:PORT/?options=-c"}, "url"),
        ({"url": "postgresql://u@127.0.0.1:PORT/?tls=maybe"}, "url"),
        ({"url": "postgresql://u@127.0.0.1:PORT/?tls_ca=/nowhere/ca.pem"}, "url"),
        ({"url": "postgresql://u@h/?plugin=x"}, "url"),
        ({"url": "postgresql://u@h/?host=elsewhere"}, "url"),
        ({"url": "postgresql://u@0x7f000001/"}, "url"),
        ({"url": "nonsense"}, "url"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field_and_nobody_is_connected_to(manager, given, field):
    with listener() as (port, met):
        asked = {"name": "one", "db_type": "postgresql", "url": "postgresql://u:hunter2@127.0.0.1:PORT/"} | given
        with pytest.raises(ConfigurationError) as refused:
            manager.servers.add(**asked | {"url": asked["url"].replace("PORT", str(port))})
        assert met == []
    assert refused.value.field == field
    assert "hunter2" not in refused.value.message
    assert manager.servers() == []


def test_a_silent_server_is_not_waited_for_and_not_registered(manager):
    with listener() as (port, met):
        silent = f"postgresql://u:hunter2@127.0.0.1:{port}/?answer_timeout_s=1&connect_timeout_s=1"
        with pytest.raises(DatabaseTimeoutError):
            manager.servers.add("one", "postgresql", silent)
        assert len(met) == 1
    assert manager.servers() == []
    assert audit_actions(manager) == []


def test_a_login_that_may_make_nothing_is_not_registered(manager, own):
    manager.servers.add("own", "postgresql", own.url)
    assert manager.servers.test("own")["may_create"] is True
    login, backend = manager.services.server_login(server_row(manager, "own")), backend_of("postgresql")
    with closing(backend.at_server(login)) as driver:
        run(driver, "CREATE ROLE poor LOGIN PASSWORD 'pw'", "CREATE ROLE able LOGIN PASSWORD 'pw' CREATEDB CREATEROLE")
        run(driver, "GRANT CONNECT ON DATABASE postgres TO poor, able")
    with pytest.raises(AccessDeniedError, match="may not make databases and logins"):
        manager.servers.add("poor", "postgresql", f"postgresql://poor:pw@127.0.0.1:{own.port}/")
    manager.servers.add("able", "postgresql", f"postgresql://able:pw@127.0.0.1:{own.port}/")
    with closing(backend.at_server(login)) as driver:
        run(driver, "ALTER ROLE able NOCREATEDB")
    found = manager.servers.test("able")
    assert (found["ok"], found["code"], found["may_create"]) == (False, "access_denied", False)
    assert [server["name"] for server in manager.servers()] == ["able", "own"]


def test_a_servers_password_that_was_changed_there_is_changed_here_and_a_wrong_one_is_not(manager, own):
    manager.servers.add("own", "postgresql", own.url)
    first, second = add_users(manager, 2)
    manager.provision(first, DatabaseFields("postgresql"))
    before, backend = server_row(manager, "own"), backend_of("postgresql")
    with closing(backend.at_server(manager.services.server_login(before))) as driver:
        run(driver, "ALTER ROLE postgres PASSWORD 'rotated'")
    with pytest.raises(LoginRefusedError):
        manager.servers.set_password("own", "hunter2")
    with pytest.raises(ConfigurationError) as refused:
        manager.servers.set_password("own", "a\nb")
    assert refused.value.field == "password"
    assert server_row(manager, "own") == before
    assert "rotated" not in str(manager.servers.set_password("OWN", "rotated"))
    assert titles(manager, first) == []
    manager.provision(second, DatabaseFields("postgresql"))
    assert titles(manager, second) == []
    assert audit_actions(manager).count("server.password") == 1
    for user in (first, second):
        manager.delete_user_database(user)


def test_one_name_is_one_server(manager, url):
    manager.servers.add("One", "postgresql", url)
    with pytest.raises(ServerExistsError):
        manager.servers.add("ONE", "postgresql", url)
    for asked in (manager.servers.test, manager.servers.drain, manager.servers.accept, manager.servers.remove):
        with pytest.raises(ServerNotFoundError, match="unify servers list"):
            asked("two")


def test_of_several_who_register_one_name_at_once_one_succeeds(manager, url):
    done = together(lambda: manager.servers.add("one", "postgresql", url) for _ in range(4))
    assert sum(isinstance(answer, dict) for answer in done) == 1
    assert sum(isinstance(answer, ServerExistsError) for answer in done) == 3


def test_a_database_goes_where_fewest_are_for_the_weight(manager, url):
    manager.servers.add("small", "postgresql", url)
    manager.servers.add("large", "postgresql", url, weight=2)
    assert sorted(placed(manager, 6)) == ["large"] * 4 + ["small"] * 2
    assert {server["name"]: server["tenants"] for server in manager.servers()} == {"large": 4, "small": 2}


def test_full_and_draining_servers_get_nothing_more(manager, url):
    manager.servers.add("full", "postgresql", url, max_tenants=1)
    manager.servers.add("drained", "postgresql", url, weight=1000)
    assert manager.servers.drain("drained")["state"] == "draining"
    assert placed(manager, 1) == ["full"]
    with pytest.raises(NoServerError, match="all are full"):
        placed(manager, 1)
    manager.servers.accept("drained")
    manager.servers.accept("drained")
    assert placed(manager, 1) == ["drained"]
    assert audit_actions(manager).count("server.accepting") == 1


def test_without_a_server_of_the_type_it_is_said_what_to_do(manager, url):
    user = add_users(manager, 1)[0]
    with pytest.raises(NoServerError, match="unify servers add"):
        manager.provision(user, DatabaseFields("mysql"))
    assert tenant_of(manager, user) is None


def test_a_server_with_databases_is_not_forgotten(manager, url):
    manager.servers.add("one", "postgresql", url)
    placed(manager, 2)
    with pytest.raises(ServerExistsError, match="2 databases"):
        manager.servers.remove("one")
    for user_id in (1, 2):
        manager.delete_user_database(user_id)
    manager.servers.remove("one")
    assert manager.servers() == []


def test_the_last_room_is_given_once(manager, url):
    manager.servers.add("one", "postgresql", url, max_tenants=2)
    users = add_users(manager, 4)
    done = together(lambda user=user: manager.provision(user) for user in users)
    assert sum(isinstance(answer, NoServerError) for answer in done) == 2, done
    assert [server["tenants"] for server in manager.servers()] == [2]


def test_nothing_is_placed_on_a_server_that_is_removed_at_the_same_time(manager, url):
    """Either the database is first, and the server stays, or the server is gone, and no database stands on it."""
    for _ in range(5):
        manager.servers.add("one", "postgresql", url)
        [user] = add_users(manager, 1)
        made, removed = together([lambda user=user: manager.provision(user), lambda: manager.servers.remove("one")])
        if removed is None:
            assert isinstance(made, NoServerError)
            continue
        assert isinstance(removed, ServerExistsError)
        assert titles(manager, user) == []
        manager.delete_user_database(user)
        manager.servers.remove("one")


def test_what_stands_on_a_draining_server_goes_on_working(manager, url):
    manager.servers.add("one", "postgresql", url)
    placed(manager, 1)
    manager.servers.drain("one")
    add_task(manager, 1, "still here")
    assert titles(manager, 1) == ["still here"]
    assert not manager.provision(1).created


def test_types_are_mixed_and_another_default_type_moves_nobody(manager, url):
    manager.servers.add("one", "postgresql", url)
    first, second = add_users(manager, 2)
    manager.provision(first, DatabaseFields("sqlite"))
    manager.provision(second)
    for user in (first, second):
        add_task(manager, user, f"of {user}")
    for default in ("sqlite", "postgresql"):
        manager.services.default_type = default
        assert not any(manager.provision(user).created for user in (first, second))
    assert [tenant_of(manager, user).db_type for user in (first, second)] == ["sqlite", "postgresql"]
    assert [titles(manager, user) for user in (first, second)] == [[f"of {first}"], [f"of {second}"]]


@pytest.mark.parametrize(
    "edited",
    [
        {"db_host": "evil.example.org"},
        {"db_port": 1},
        {"db_user": "somebody"},
        {"db_options": '{"tls": "off"}'},
        {"name": "other", "name_key": "other"},
        {"db_password": None},
    ],
    ids=lambda edited: next(iter(edited)),
)
def test_a_row_that_was_edited_or_got_another_ones_password_is_refused_at_every_use(manager, url, edited):
    """Whoever can write the catalog must not learn a password by naming a host of theirs: no tenant's either."""
    manager.servers.add("small", "postgresql", url)
    placed(manager, 1)
    manager.servers.add("one", "postgresql", url, weight=1000)
    small, one = server_row(manager, "small"), server_row(manager, "one")
    moved = {"db_password": small.sealed_password} if "db_password" in edited else {}
    with manager.catalog.writing() as connection:
        rows.change(connection, one, **edited | moved)
    [user] = add_users(manager, 1)
    assert manager.servers.test(edited.get("name", "one"))["code"] == TamperedCredentialError.code
    with pytest.raises(TamperedCredentialError):
        manager.provision(user)
    assert tenant_of(manager, user) is None, "the edited fields must not be recorded as this user's"
    assert titles(manager, 1) == [], "a tenant's own login stands in its own row"
    columns = ("name", "db_host", "db_port", "db_user", "db_options")
    back = {column: getattr(one, column) for column in columns} | {"name_key": "one"}
    with manager.catalog.writing() as connection:
        rows.change(connection, one, **back, db_password=one.sealed_password)
    assert manager.provision(user).created


def test_changes_are_audited_once_and_without_secrets(manager, url):
    manager.servers.add("one", "postgresql", sa.make_url(url).set(password="hunter2").render_as_string(False))
    for change, state in ((manager.servers.drain, "draining"), (manager.servers.accept, "accepting")):
        assert [change("ONE")["state"] for _ in range(2)] == [state, state]
    manager.servers.remove("one")
    assert audit_actions(manager) == ["server.add", "server.draining", "server.accepting", "server.remove"]
    with manager.catalog.reading() as connection:
        told = [json.loads(detail) for detail in connection.execute(sa.select(audit_log.c.detail)).scalars()]
    assert {detail["server"] for detail in told} == {"one"}
    assert "hunter2" not in str(told)
    manager.audit.verify()


def test_no_secret_is_logged_or_kept_in_the_clear(manager, own, caplog):
    caplog.set_level(logging.DEBUG)
    manager.servers.add("own", "postgresql", own.url)
    placed(manager, 1)
    manager.servers.test("own")
    with pytest.raises(LoginRefusedError):
        manager.servers.add("other", "postgresql", own.url.replace(quote(PASSWORD, safe=""), "hunter2"))
    with manager.catalog.reading() as connection:
        kept = [str(list(connection.execute(sa.select(table)))) for table in (database_servers, audit_log)]
    shown = [caplog.text, *kept, str(manager.servers()), repr(server_row(manager, "own"))]
    for secret in (PASSWORD, quote(PASSWORD, safe=""), "hunter2"):
        assert not [text for text in shown if secret in text]
    manager.delete_user_database(1)
