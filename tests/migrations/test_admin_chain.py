"""The catalog's chain makes what the catalog expects, on every engine, forwards and back, and after a cut-off."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tenancy.migrate import Chain
from tenancy.models import CATALOG_VERSION_TABLE, api_keys, catalog_metadata, users
from tenancy.types import new_id

CHAIN = Chain(Path(__file__).resolve().parents[2] / "migrations" / "admin", CATALOG_VERSION_TABLE)
AFTER_FIRST = list(CHAIN.checksums)[1:]


def transactional(engine: sa.Engine) -> bool:
    return engine.dialect.name != "mysql"


def up(engine: sa.Engine, target: str = "head") -> list[str]:
    with engine.connect() as connection:
        return CHAIN.upgrade(connection, transactional_ddl=transactional(engine), target=target)


def down(engine: sa.Engine, target: str) -> list[str]:
    with engine.connect() as connection:
        return CHAIN.downgrade(connection, target, transactional_ddl=transactional(engine))


def differences(engine: sa.Engine) -> list[object]:
    options = {"version_table": CATALOG_VERSION_TABLE, "compare_type": True}
    with engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), catalog_metadata))


def test_the_chain_makes_what_the_catalog_expects(whole_product: str, catalog_engine: sa.Engine) -> None:
    assert up(catalog_engine) == list(CHAIN.checksums)
    assert differences(catalog_engine) == []


def test_what_goes_up_comes_down_and_goes_up_again(whole_product: str, catalog_engine: sa.Engine) -> None:
    up(catalog_engine)
    assert down(catalog_engine, "0001") == AFTER_FIRST[::-1]
    assert up(catalog_engine) == AFTER_FIRST
    assert differences(catalog_engine) == []


def test_people_and_keys_of_before_stay_as_they_were(catalog_engine: sa.Engine) -> None:
    up(catalog_engine, "0001")
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    person = {"id": 1, "email": "Ada@example.org", "email_key": "ada@example.org", "display_name": "Ada"}
    key = {"id": new_id(), "user_id": 1, "name": "k", "prefix": "unify_abc", "key_hash": "h", "created_at": moment}
    with catalog_engine.begin() as connection:
        connection.execute(users.insert(), person)
        connection.execute(api_keys.insert().values(**key).inline())
    up(catalog_engine)
    with catalog_engine.connect() as connection:
        assert connection.execute(sa.select(users.c.email, users.c.preferences)).all() == [("Ada@example.org", None)]
        assert connection.execute(sa.select(api_keys.c.name, api_keys.c.purpose)).all() == [("k", "api")]


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_run_that_was_cut_off_is_finished_by_the_next(catalog_engine: sa.Engine, direction: str) -> None:
    """Take away a part of it, which is what a kill leaves where each statement commits itself (MySQL)."""
    up(catalog_engine)
    if transactional(catalog_engine):
        return
    with catalog_engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX ix_audit_log_at ON audit_log")
        connection.exec_driver_sql("ALTER TABLE shared_database DROP COLUMN origin")
        connection.exec_driver_sql("DROP TABLE tenant_errors")
        connection.exec_driver_sql("DROP TABLE fleet_items")
        connection.exec_driver_sql("DROP INDEX ix_fleet_runs_state ON fleet_runs")
        connection.exec_driver_sql("ALTER TABLE users DROP COLUMN preferences")
        if direction == "up":
            connection.exec_driver_sql(f"UPDATE {CATALOG_VERSION_TABLE} SET version_num = '0001'")
    if direction == "down":
        down(catalog_engine, "0001")
    assert up(catalog_engine) == AFTER_FIRST
    assert differences(catalog_engine) == []
