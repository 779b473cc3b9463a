"""Databases that stand ready on servers: claimed by one user each, kept at head, and nothing of them gets lost."""

from __future__ import annotations

import logging
import re
import signal
import threading
from contextlib import closing, contextmanager
from dataclasses import fields

import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from tenancy.backends.server.network import GONE
from tenancy.backends.server.sql import one
from tenancy.catalog import pending as rows, servers
from tenancy.catalog.tables import pending_databases
from tenancy.credentials import rotation
from tenancy.credentials.keyring import Keyring, generate_key
from tenancy.errors import (
    ClaimedError,
    DatabaseUnreachableError,
    IdentityError,
    NoServerError,
    ServerExistsError,
    TamperedCredentialError,
    TenancyError,
)
from tenancy.models import State, Tenant
from tenancy.schema.tables import tenancy_identity
from tests.support.applications import (
    FaultAt,
    SignalAt,
    Stopped,
    add_task,
    add_users,
    audit_actions,
    change_config,
    expire_claims,
    forked,
    in_child,
    tenant_of,
    titles,
    together,
)
from tests.support.engines import backend_of, server_address, server_login, use
from tests.tenancy.lifecycle.test_provision import in_fresh_process

MAKING = ["record pending", "database", "login", "rows", "pending ready"]
CLAIMING = ["record", "hand over", "commit", "ready"]


@pytest.fixture(params=["postgresql", "mysql", "sqlserver"])
def product(request) -> str:
    return use(request, request.param)


@pytest.fixture
def postgresql(request) -> str:
    return use(request, "postgresql")


@pytest.fixture
def pooled(make_parts):
    """Give a function that joins the parts with a pool on a server; nothing of it stays there."""
    made = []

    def make(product, size=2, catalog=None, **limits):
        url = {} if catalog is None else {"admin_database_url": catalog}
        parts = make_parts(default_tenant_db_type=product, pending_tenants=size, **url)
        address = server_address(product).render_as_string(hide_password=False)
        parts.manager.servers.add("one", product, address, **limits)
        made.append(parts)
        return parts

    yield make
    for parts in made:
        parts.manager.pool.close()
        parts.manager.services.step = FaultAt()
        expire_claims(parts.manager)
        for row in parts.manager.reports.databases(limit=1000):
            parts.manager.delete_user_database(row["user_id"])
        parts.manager.pool.upkeep.stopped.clear()
        for server in parts.manager.servers():
            parts.manager.servers.remove(server["name"])


@pytest.fixture
def made(monkeypatch):
    """List the names of all databases that anybody began to make, in this process or forked from it."""
    from tenancy import names

    kept: list[str] = []
    planned = names.planned_database

    def remember(*whose):
        kept.append(planned(*whose))
        return kept[-1]

    monkeypatch.setattr(names, "planned_database", remember)
    return kept


def waiting(parts):
    with parts.catalog.reading() as connection:
        return rows.every(connection)


def ready_names(parts) -> list[str]:
    return [each.db_name for each in waiting(parts) if each.state is State.READY]


def fill(parts, *, failing=False) -> dict:
    (found,) = parts.manager.pool.fill()
    assert (found["error"] is not None) is failing, found
    return found


def age(parts, **changes) -> None:
    """Make what stands ready look as if other code had made it."""
    with parts.catalog.writing() as connection:
        connection.execute(pending_databases.update().values(**changes))


def stands_right(parts, user_id: int) -> list[object]:
    """Say what is wrong with a user's database: nothing, when all is well."""
    tenant = tenant_of(parts.manager, user_id)
    with parts.manager.session(user_id) as session:
        whose = session.execute(
            sa.select(tenancy_identity.c.user_id, tenancy_identity.c.tenant_id, tenancy_identity.c.state)
        ).one()
        first = session.execute(sa.text("SELECT user_id, name FROM categories")).all()
        ledger = session.execute(sa.text("SELECT revision FROM tenancy_ledger ORDER BY applied_at, id")).scalars().all()
    wanted = [
        (tenant.state, State.READY),
        (tuple(whose), (user_id, tenant.tenant_id, "ready")),
        ([tuple(row) for row in first], [(user_id, "Uncategorized")]),
        (ledger, list(parts.manager.chain.checksums)),
    ]
    return [found for found, right in wanted if found != right]


def nothing_is_lost(parts, product, names) -> bool:
    """No database without a row, and no row without its database; the same for logins, where that is asked quickly."""
    there = {each.db_name for each in waiting(parts)}
    there |= {row["db_name"] for row in parts.manager.reports.databases(limit=1000)}
    found, roles = set(), set()
    with closing(backend_of(product).at_server(server_login(product))) as driver:
        question = {
            "postgresql": "SELECT 1 FROM pg_database WHERE datname = %s",
            "mysql": "SELECT 1 FROM information_schema.schemata WHERE schema_name = %s",
            "sqlserver": "SELECT 1 FROM sys.databases WHERE name = ?",
        }[product]
        found = {name for name in names if one(driver, question, (name,))}
        if product == "postgresql":
            roles = {name for name in names if one(driver, "SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))}
            assert roles == there & set(names)
    assert found == there & set(names), (found, there)
    return True


# --- what it does ---------------------------------------------------------------------------------------


def test_a_pool_is_filled_and_a_user_gets_one_of_it_without_one_being_made(product, pooled, made):
    parts = pooled(product)
    found = fill(parts)
    assert (found["wanted"], found["made"], found["ready"], found["retired"]) == (2, 2, 2, 0)
    first, second = waiting(parts)
    assert (first.user_id, first.state, first.revision) == (None, State.READY, parts.manager.head)
    (user_id,) = add_users(parts, 1)
    step = parts.manager.services.step = FaultAt()
    assert parts.manager.provision(user_id).created
    assert step.seen == CLAIMING
    mine = tenant_of(parts.manager, user_id)
    assert (mine.tenant_id, mine.db_name, mine.origin) == (first.tenant_id, first.db_name, "server")
    assert stands_right(parts, user_id) == []
    add_task(parts.manager, user_id, "written by its own login")
    assert titles(parts.manager, user_id) == ["written by its own login"]
    assert not parts.manager.provision(user_id).created
    assert ready_names(parts) == [second.db_name]
    assert fill(parts)["made"] == 1
    (server,) = parts.manager.servers()
    assert (server["tenants"], server["pending"], server["pool_error"]) == (1, 2, None)
    assert audit_actions(parts.manager).count("tenant.provision") == 1
    assert nothing_is_lost(parts, product, made)


def test_what_waits_says_that_it_is_nobodys_and_takes_no_writes(postgresql, pooled):
    parts = pooled("postgresql", 1)
    fill(parts)
    (found,) = waiting(parts)
    backend, access = backend_of("postgresql"), parts.manager.services.access(found)
    with closing(backend.connect(found, access)) as driver:
        cursor = driver.cursor()
        cursor.execute("SELECT user_id, kind, state FROM tenancy_identity")
        assert cursor.fetchall() == [(None, "tenant", "provisioning")]
        cursor.execute("SELECT count(*) FROM categories")
        assert cursor.fetchone() == (0,)
    assert found.sealed_password not in str(found.to_dict())


def test_an_identity_without_a_user_is_nobodys_once_a_database_is_ready(postgresql, pooled):
    parts = pooled("postgresql", 0)
    (user_id,) = add_users(parts, 1)
    tenant = parts.manager.provision(user_id).tenant
    with closing(backend_of("postgresql").connect_to_migrate(tenant, parts.manager.services.access(tenant))) as driver:
        driver.cursor().execute("UPDATE tenancy_identity SET user_id = NULL")
        driver.commit()
    with pytest.raises(IdentityError), parts.manager.session(user_id):
        raise AssertionError("it was opened")
    with closing(backend_of("postgresql").connect_to_migrate(tenant, parts.manager.services.access(tenant))) as driver:
        driver.cursor().execute(f"UPDATE tenancy_identity SET user_id = {user_id}")
        driver.commit()


def test_without_the_setting_nothing_is_kept_and_what_was_is_retired(postgresql, pooled, made):
    parts = pooled("postgresql", 2)
    fill(parts)
    parts.manager.pool.size = 1
    assert (fill(parts)["retired"], len(ready_names(parts))) == (1, 1)
    parts.manager.pool.size = 0
    assert (fill(parts)["retired"], waiting(parts)) == (1, [])
    (user_id,) = add_users(parts, 1)
    assert parts.manager.provision(user_id).created
    assert stands_right(parts, user_id) == []
    assert nothing_is_lost(parts, "postgresql", made)


def test_a_database_that_is_behind_the_code_is_made_anew_and_never_handed_out(product, pooled, made):
    parts = pooled(product)
    fill(parts)
    before = ready_names(parts)
    age(parts, schema_fingerprint="0" * 64, revision="0001")
    (user_id,) = add_users(parts, 1)
    assert parts.manager.provision(user_id).tenant.db_name not in before
    found = fill(parts)
    assert (found["made"], found["retired"], found["ready"]) == (2, 2, 2)
    assert set(ready_names(parts)).isdisjoint(before)
    assert nothing_is_lost(parts, product, made)


def test_a_lost_connection_is_named_as_one_wherever_it_is_lost(request, pooled, made):
    parts = pooled(use(request, "mysql"), 1)

    def lose(name):
        if name == "rows":
            raise pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query")

    parts.manager.services.step = lose
    found = fill(parts, failing=True)
    assert (found["code"], found["error"]) == (DatabaseUnreachableError.code, GONE)
    assert [each.last_error_code for each in waiting(parts)] == [DatabaseUnreachableError.code]
    parts.manager.services.step = FaultAt()
    assert (fill(parts)["ready"], nothing_is_lost(parts, "mysql", made)) == (1, True)


def test_what_newer_code_made_is_left_to_it(postgresql, pooled):
    parts = pooled("postgresql", 1)
    fill(parts)
    theirs = ready_names(parts)
    age(parts, schema_fingerprint="9" * 64, revision="9999")
    found = fill(parts)
    assert (found["made"], found["retired"], found["ready"]) == (1, 0, 1)
    assert theirs[0] in ready_names(parts)
    (user_id,) = add_users(parts, 1)
    assert parts.manager.provision(user_id).tenant.db_name not in theirs


def test_one_that_was_dropped_by_hand_is_made_anew_for_its_user(product, pooled, made):
    parts = pooled(product, 1)
    fill(parts)
    (found,) = waiting(parts)
    backend_of(product).drop(found, parts.manager.services.access(found))
    (user_id,) = add_users(parts, 1)
    assert parts.manager.provision(user_id).tenant.db_name == found.db_name
    assert stands_right(parts, user_id) == []
    assert nothing_is_lost(parts, product, made)


@pytest.mark.parametrize("edited", [{"db_host": "evil.example.org"}, {"db_name": "postgres"}, {"db_user": "postgres"}])
def test_a_row_that_was_edited_is_given_to_nobody(postgresql, pooled, edited):
    parts = pooled("postgresql", 1)
    fill(parts)
    (before,) = waiting(parts)
    age(parts, **edited)
    (user_id,) = add_users(parts, 1)
    with pytest.raises(TamperedCredentialError):
        parts.manager.provision(user_id)
    assert tenant_of(parts.manager, user_id) is None
    parts.manager.pool.size = 0
    assert fill(parts, failing=True)["code"] == TamperedCredentialError.code
    age(parts, **{name: getattr(before, name) for name in edited})


def test_a_password_that_waits_is_bound_to_waiting(postgresql, pooled):
    """Whoever can write the catalog must not open it as a user's: the same row, copied into a configuration."""
    parts = pooled("postgresql", 1)
    fill(parts)
    (found,) = waiting(parts)
    (user_id,) = add_users(parts, 1)
    tenant = parts.manager.provision(user_id).tenant
    change_config(parts.manager, user_id, db_password=found.sealed_password)
    with pytest.raises(TamperedCredentialError), parts.manager.session(user_id):
        raise AssertionError("it was opened")
    change_config(parts.manager, user_id, db_password=tenant.sealed_password)
    fill(parts)
    (found,) = waiting(parts)
    alike = Tenant(**{each.name: getattr(found, each.name) for each in fields(Tenant)})  # as the shared one has it
    parts.manager.services.serving(found)
    with pytest.raises(TamperedCredentialError):
        parts.manager.services.serving(alike)


def test_passwords_that_wait_are_rotated_with_the_others(postgresql, pooled):
    parts = pooled("postgresql", 1)
    fill(parts)
    fresh = generate_key()
    old = parts.settings.tenant_credential_keys
    done = rotation.rotate(parts.catalog, Keyring([fresh, *old]))
    assert (done["rotated"], done["failed"], done["to_rotate"]) == (2, [], 0)
    (found,) = waiting(parts)
    assert Keyring([fresh]).open(found.sealed_password, found.binding)
    rotation.rotate(parts.catalog, Keyring([*old, fresh]))


# --- servers --------------------------------------------------------------------------------------------


def test_what_is_kept_ready_is_counted_with_what_is_in_use(postgresql, pooled, made):
    parts = pooled("postgresql", 2, max_tenants=3)
    users = add_users(parts, 4)
    parts.manager.provision(users[0])
    assert fill(parts)["made"] == 2
    for user_id in users[1:3]:
        parts.manager.provision(user_id)
        assert fill(parts)["made"] == 0, "the server is full"
        (server,) = parts.manager.servers()
        assert server["tenants"] + server["pending"] == 3
    with pytest.raises(NoServerError, match="all are full"):
        parts.manager.provision(users[3])
    assert nothing_is_lost(parts, "postgresql", made)


def test_a_server_that_is_drained_is_emptied_and_not_filled(postgresql, pooled, made):
    parts = pooled("postgresql", 2)
    fill(parts)
    parts.manager.servers.drain("one")
    found = fill(parts)
    assert (found["wanted"], found["made"], found["retired"], found["ready"]) == (0, 0, 2, 0)
    parts.manager.servers.accept("one")
    assert fill(parts)["made"] == 2
    assert nothing_is_lost(parts, "postgresql", made)


def test_a_server_whose_pool_is_being_filled_is_not_forgotten_meanwhile(postgresql, pooled):
    parts = pooled("postgresql", 2)
    refused = []

    def forget(step):
        if step == "login" and waiting(parts):
            with pytest.raises(ClaimedError, match="made ready on server 'one'") as told:
                parts.manager.servers.remove("one")
            refused.append(told.value.code)

    parts.manager.services.step = forget
    assert fill(parts)["made"] == 2
    assert refused == ["tenant_busy"] * 2


def test_a_server_is_forgotten_with_what_was_kept_ready_there(postgresql, pooled, made):
    parts = pooled("postgresql", 2)
    fill(parts)
    (user_id,) = add_users(parts, 1)
    parts.manager.provision(user_id)
    with pytest.raises(ServerExistsError, match="2 databases are still on server 'one'"):
        parts.manager.servers.remove("one")
    assert len(ready_names(parts)) == 1
    with parts.catalog.writing() as connection, pytest.raises(ServerExistsError):
        servers.remove(connection, servers.by_name(connection, "one"))
    parts.manager.delete_user_database(user_id)
    parts.manager.servers.remove("one")
    assert (parts.manager.servers(), waiting(parts)) == ([], [])
    assert nothing_is_lost(parts, "postgresql", made)


def test_one_server_that_does_not_answer_is_told_and_the_others_are_filled(postgresql, pooled, caplog):
    from tests.support.applications import keep_server

    parts = pooled("postgresql", 1)
    keep_server(parts.manager, "dead")
    dead, alive = sorted(parts.manager.pool.fill(), key=lambda found: found["name"])
    assert (alive["made"], alive["error"]) == (1, None)
    assert (dead["made"], dead["code"]) == (0, "connection_refused")
    assert "the pool of server 'dead' is not full" in caplog.text
    assert {row["name"]: row["pool_error"] for row in parts.manager.servers()} == {"one": None, "dead": dead["error"]}
    with parts.catalog.writing() as connection:
        connection.execute(pending_databases.delete().where(pending_databases.c.state == "failed"))


# --- at once --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", ["postgresql", "mysql"])
def test_sixteen_at_once_on_a_pool_of_eight_get_sixteen_databases(request, pooled, made, product):
    use(request, product)
    parts = pooled(product, 8)
    fill(parts)
    kept = set(ready_names(parts))
    users = add_users(parts, 16)
    answers = together([lambda user_id=user_id: parts.manager.provision(user_id) for user_id in users])
    names = [answer.tenant.db_name for answer in answers]
    assert len(set(names)) == 16
    assert len(kept & set(names)) == 8
    assert [stands_right(parts, user_id) for user_id in users] == [[]] * 16
    assert waiting(parts) == []
    assert nothing_is_lost(parts, product, made)


def test_they_do_wherever_the_catalog_is(request, postgresql, server_url, pooled):
    parts = pooled("postgresql", 4, catalog=server_url)
    fill(parts)
    users = add_users(parts, 8)
    answers = together([lambda user_id=user_id: parts.manager.provision(user_id) for user_id in users])
    assert len({answer.tenant.db_name for answer in answers}) == 8, answers
    assert [stands_right(parts, user_id) for user_id in users] == [[]] * 8
    found = [answer for answers in together([parts.manager.pool.fill] * 2) for answer in answers]
    assert sum(answer["made"] for answer in found) == 4, found


def test_processes_that_come_at_once_get_different_ones(postgresql, pooled):
    parts = pooled("postgresql", 6)
    fill(parts)
    users = add_users(parts, 6)

    def work(mine):
        return in_fresh_process(
            parts.settings, lambda fresh: [fresh.manager.provision(user_id).tenant.db_name for user_id in mine]
        )

    children = [forked(work(users[number::3])) for number in range(3)]
    names = [name for child in children for name in child.result()]
    assert len(set(names)) == 6
    assert all(re.match(r"unify_7e58\w\w_ready_", name) for name in names)
    assert [stands_right(parts, user_id) for user_id in users] == [[]] * 6


def test_two_fillers_at_once_make_no_more_than_is_wanted(postgresql, pooled, made):
    parts = pooled("postgresql", 3)
    found = [answer for answers in together([parts.manager.pool.fill] * 4) for answer in answers]
    assert sum(answer["made"] for answer in found) == 3, found
    assert {answer["busy"] for answer in found if not answer["made"]} <= {True, False}
    assert len(ready_names(parts)) == 3
    assert nothing_is_lost(parts, "postgresql", made)


def test_a_filler_that_wakes_after_another_took_over_leaves_nothing_behind(postgresql, pooled, made):
    parts = pooled("postgresql", 1)
    for name in MAKING[2:]:  # at "database" the claim is held
        parts.manager.pool.size = 0
        fill(parts)
        parts.manager.pool.size = 1
        slept = []

        def sleep(step, name=name, slept=slept):
            if step == name and not slept:
                slept.append(step)
                expire_claims(parts.manager)
                assert fill(parts)["ready"] == 1

        parts.manager.services.step = sleep
        assert fill(parts, failing=True)["code"] in ("claim_lost", "database_missing")  # the other dropped it
        assert slept == [name]
        parts.manager.services.step = FaultAt()
        assert len(waiting(parts)) == 1
        assert nothing_is_lost(parts, "postgresql", made)


def test_what_a_filler_makes_after_another_took_over_is_dropped_by_itself(postgresql, pooled, made, monkeypatch):
    """It slept between its look at the claim and the making: the other one had nothing to drop yet."""
    parts = pooled("postgresql", 1)
    backend = parts.manager.backends.get("postgresql")
    make = backend.make_database

    def late(*how):
        monkeypatch.setattr(backend, "make_database", make)
        expire_claims(parts.manager)
        assert fill(parts)["ready"] == 1
        make(*how)

    monkeypatch.setattr(backend, "make_database", late)
    assert fill(parts, failing=True)["code"] == "claim_lost"
    assert len(waiting(parts)) == 1
    assert nothing_is_lost(parts, "postgresql", made)


# --- errors and kills at every step ----------------------------------------------------------------------


@pytest.mark.parametrize("product", ["postgresql", "mysql"])
def test_an_error_at_any_step_of_making_is_told_and_cleared_away(request, pooled, made, product):
    use(request, product)
    parts = pooled(product, 1)
    fill(parts)  # makes the template, or records what makes the schema
    for name in MAKING:
        parts.manager.pool.size = 0
        fill(parts)
        parts.manager.pool.size = 1
        step = parts.manager.services.step = FaultAt(MAKING.index(name) + 1)
        found = fill(parts, failing=True)
        assert (found["error"], step.seen[-1], found["ready"]) == ("Stopped", name, 0)
        (server,) = parts.manager.servers()
        assert (server["pool_error"], server["pending"]) == ((None, 0) if name == MAKING[0] else ("Stopped", 1))
        (user_id,) = add_users(parts, 1)
        parts.manager.services.step = FaultAt()
        assert parts.manager.provision(user_id).created, "a user is not harmed"
        assert fill(parts)["ready"] == 1
        assert parts.manager.servers()[0]["pool_error"] is None
        assert nothing_is_lost(parts, product, made)


def killed(parts, position, work) -> bool:
    return forked(in_fresh_process(parts.settings, work, SignalAt(position, signal.SIGKILL))).killed()


def names_of_rows(parts) -> list[str]:
    return [each.db_name for each in waiting(parts)]


def test_a_kill_at_any_step_of_making_is_cleared_away_by_the_next_filler(postgresql, pooled, made):
    parts = pooled("postgresql", 1)
    fill(parts)
    for position in range(1, len(MAKING) + 1):
        parts.manager.pool.size = 0
        fill(parts)
        parts.manager.pool.size = 1
        assert killed(parts, position, lambda fresh: fresh.manager.pool.fill())
        made.extend(names_of_rows(parts))
        assert fill(parts)["busy"], "the one that was killed still holds its claim"
        expire_claims(parts.manager)
        assert fill(parts)["ready"] == 1
        assert len(waiting(parts)) == 1
        assert nothing_is_lost(parts, "postgresql", made)


@pytest.mark.parametrize("how", ["error", "kill"])
@pytest.mark.parametrize("then", ["provision", "delete"])
def test_a_claim_that_stops_at_any_step_is_finished_by_another_run(postgresql, pooled, made, how, then):
    parts = pooled("postgresql", 1)
    for position in range(1, len(CLAIMING) + 1):
        fill(parts)
        (kept,) = ready_names(parts)
        (user_id,) = add_users(parts, 1)
        if how == "kill":
            assert killed(parts, position, lambda fresh, user_id=user_id: fresh.manager.provision(user_id))
            expire_claims(parts.manager)
        else:
            parts.manager.services.step = FaultAt(position)
            with pytest.raises(Stopped):
                parts.manager.provision(user_id)
            parts.manager.services.step = FaultAt()
        if position == 1:
            assert (tenant_of(parts.manager, user_id), ready_names(parts)) == (None, [kept])
            continue
        assert waiting(parts) == []
        with pytest.raises(TenancyError), parts.manager.session(user_id):
            raise AssertionError("it was opened before it was ready")
        if then == "delete":
            parts.manager.delete_user_database(user_id)
        else:
            assert parts.manager.provision(user_id).created
            assert tenant_of(parts.manager, user_id).db_name != kept, "each attempt has a database of its own name"
            assert stands_right(parts, user_id) == []
        assert nothing_is_lost(parts, "postgresql", made)


@pytest.mark.parametrize("how", ["error", "kill"])
def test_retiring_that_stops_at_any_step_is_finished_by_the_next_filler(postgresql, pooled, made, how):
    parts = pooled("postgresql", 1)
    for position, name in enumerate(["retire", "drop pending", "forget pending"], 1):
        fill(parts)
        before = ready_names(parts)
        age(parts, schema_fingerprint="0" * 64, revision="0001")
        if how == "kill":
            assert killed(parts, position, lambda fresh: fresh.manager.pool.fill())
            expire_claims(parts.manager)
        else:
            step = parts.manager.services.step = FaultAt(position)
            fill(parts, failing=True)
            assert step.seen[-1] == name
            parts.manager.services.step = FaultAt()
        (user_id,) = add_users(parts, 1)
        assert parts.manager.provision(user_id).tenant.db_name not in before
        assert fill(parts)["ready"] == 1
        assert set(names_of_rows(parts)).isdisjoint(before)
        assert nothing_is_lost(parts, "postgresql", made)


def test_a_claim_whose_runner_slept_hands_over_nothing_twice(postgresql, pooled):
    """The first rows are written once, and by the one who was first, also where the other wakes before its commit."""
    parts = pooled("postgresql", 1)
    for name in CLAIMING[1:2] + CLAIMING[3:]:
        fill(parts)
        (user_id,) = add_users(parts, 1)
        slept = []

        def sleep(step, name=name, slept=slept, user_id=user_id):
            if step == name and not slept:
                slept.append(step)
                expire_claims(parts.manager)
                assert parts.manager.provision(user_id).created

        parts.manager.services.step = sleep
        with pytest.raises(TenancyError) as lost:
            parts.manager.provision(user_id)
        assert lost.value.code == "claim_lost"
        parts.manager.services.step = FaultAt()
        assert stands_right(parts, user_id) == []


# --- what it costs --------------------------------------------------------------------------------------


@contextmanager
def counted(parts, product):
    """Count what is sent to the catalog, how often it commits, and what connects to the server."""
    told = {"statements": 0, "commits": 0, "connections": 0, "to the server": 0}
    engine, backend = parts.catalog.engine, parts.manager.backends.get(product)
    opened, at_server = backend.open, backend.at_server

    def count(name):
        told[name] += 1

    backend.open = lambda login: (count("connections"), opened(login))[1]
    backend.at_server = lambda login: (count("to the server"), at_server(login))[1]
    listeners = [
        ("before_cursor_execute", lambda *args: count("statements")),
        ("commit", lambda connection: count("commits")),
    ]
    for name, listener in listeners:
        event.listen(engine, name, listener)
    try:
        yield told
    finally:
        del backend.open, backend.at_server
        for name, listener in listeners:
            event.remove(engine, name, listener)


def test_a_claim_costs_two_catalog_transactions_and_one_connection(postgresql, pooled):
    parts = pooled("postgresql", 2)
    fill(parts)
    users = add_users(parts, 3)
    parts.manager.provision(users[0])
    with counted(parts, "postgresql") as told:
        parts.manager.provision(users[1])
    assert told == {"statements": 13, "commits": 2, "connections": 1, "to the server": 0}
    with counted(parts, "postgresql") as told:
        parts.manager.provision(users[2])
    assert told["to the server"] == 1, "an empty pool is no obstacle"


# --- in the background -----------------------------------------------------------------------------------


def until(condition) -> None:
    """Wait for what another thread does, and fail where it does not come about."""
    waited = threading.Event()
    for _ in range(600):
        if condition():
            return
        waited.wait(0.05)
    raise AssertionError("it did not come about")


def test_the_pool_is_filled_in_the_background_and_again_after_each_user(postgresql, pooled):
    parts = pooled("postgresql", 2)
    parts.manager.pool.wake()
    assert parts.manager.pool.upkeep.thread is None, "no thread before a server's housekeeping starts it"
    parts.manager.sweep()
    until(lambda: len(ready_names(parts)) == 2)
    before = set(ready_names(parts))
    (user_id,) = add_users(parts, 1)
    assert parts.manager.provision(user_id).tenant.db_name in before
    until(lambda: len(ready_names(parts)) == 2)
    assert in_child(lambda: parts.manager.pool.upkeep.thread is None), "a forked worker starts its own"
    parts.manager.pool.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "unify-pool"]


def test_a_failure_in_the_background_reaches_no_request_and_the_thread_goes_on(postgresql, pooled, caplog):
    caplog.set_level(logging.WARNING)
    parts = pooled("postgresql", 1)
    parts.manager.services.step = FaultAt(2)
    parts.manager.sweep()
    until(lambda: "is not full: Stopped" in caplog.text)
    until(lambda: parts.manager.servers()[0]["pool_error"] == "Stopped")
    parts.manager.services.step = FaultAt()
    (user_id,) = add_users(parts, 1)
    assert parts.manager.provision(user_id).created
    until(lambda: len(ready_names(parts)) == 1)
    parts.manager.pool.close()


def test_where_all_share_one_database_none_is_kept_ready(make_parts):
    parts = make_parts(multi_tenant_mode="false", pending_tenants=5)
    parts.manager.sweep()
    assert (parts.manager.pool.size, parts.manager.pool.upkeep.thread) == (0, None)


def test_without_the_setting_there_is_no_thread(parts):
    parts.manager.sweep()
    assert parts.manager.pool.upkeep.thread is None
    assert parts.manager.pool.fill() == []
