"""Databases that stand ready: each is taken once, whoever comes at the same moment."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from tenancy.catalog import pending
from tenancy.catalog.tables import pending_databases
from tenancy.models import State
from tenancy.types import new_id
from tests.support.threads import at_once

HEAD, OLD = "f" * 64, "0" * 64


def keep(catalog, number, *, server_id=1, state=State.READY, fingerprint=HEAD):
    with catalog.writing() as connection:
        for _ in range(number):
            values = {"tenant_id": new_id(), "db_type": "postgresql", "server_id": server_id, "origin": "server"}
            made = pending.add(connection, values)
            assert pending.change(connection, made, state=state, schema_fingerprint=fingerprint)
    return made


def take(catalog, how=pending.take):
    with catalog.writing() as connection:
        return how(connection, 1, HEAD)


def ids(taken):
    return [found.tenant_id for found in taken if found is not None]


def test_of_sixteen_who_come_at_once_eight_get_one_each_and_the_others_none(whole_product, catalog):
    for _ in range(3):
        keep(catalog, 8)
        taken = at_once(16, lambda number: take(catalog))
        assert len(set(ids(taken))) == len(ids(taken)) == 8, taken
    with catalog.reading() as connection:
        assert pending.every(connection) == []


def test_one_that_did_not_look_whether_it_was_the_one_would_be_found_out(engine_name, catalog):
    """The check above would see it: without the row count two users are given one database."""
    if engine_name == "sqlite":
        pytest.skip("SQLite's writers take turns, whatever they look at")

    def careless(connection, server_id, fingerprint):
        rows = pending_databases.c
        found = connection.execute(sa.select(rows.tenant_id).order_by(rows.id).limit(1)).first()
        if found is not None:
            connection.execute(pending_databases.delete().where(rows.tenant_id == found.tenant_id))
        return found

    for _ in range(40):
        keep(catalog, 8)
        given = ids(at_once(16, lambda number: take(catalog, careless)))
        if len(set(given)) < len(given):
            return
    raise AssertionError("nobody met")


def test_what_is_not_ready_elsewhere_or_of_another_schema_is_not_taken(catalog):
    keep(catalog, 1, server_id=2)
    keep(catalog, 1, fingerprint=OLD)
    for state in (State.PROVISIONING, State.FAILED, State.ARCHIVED):
        keep(catalog, 1, state=state)
    assert take(catalog) is None
    made = keep(catalog, 1)
    assert take(catalog).tenant_id == made.tenant_id
    assert take(catalog) is None


def test_one_that_was_taken_meanwhile_is_not_changed(catalog):
    keep(catalog, 1)
    with catalog.reading() as connection:
        (seen,) = pending.of_server(connection, 1)
    assert take(catalog) == seen
    with catalog.writing() as connection:
        assert not pending.change(connection, seen, state=State.ARCHIVED)
        pending.remove(connection, seen.tenant_id)
    assert seen.created_at <= datetime.now(UTC)
