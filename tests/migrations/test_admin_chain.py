"""The catalog's chain makes what the catalog expects, on every engine, forwards and back, and after a cut-off."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from tenancy.catalog.tables import CATALOG_VERSION_TABLE, api_keys, catalog_metadata, users
from tenancy.schema.chain import Chain
from tenancy.types import new_id
from tests.support import walk

CHAIN = Chain(Path(__file__).resolve().parents[2] / "migrations" / "admin", CATALOG_VERSION_TABLE)
AFTER_FIRST = list(CHAIN.checksums)[1:]


def transactional(engine: sa.Engine) -> bool:
    return engine.dialect.name != "mysql"


def up(engine: sa.Engine, target: str = "head") -> list[str]:
    return walk.up(CHAIN, engine, target)


def down(engine: sa.Engine, target: str) -> list[str]:
    return walk.down(CHAIN, engine, target)


def differences(engine: sa.Engine) -> list[object]:
    return walk.equals(CHAIN, engine, catalog_metadata)


def test_the_chain_has_one_head_and_one_root() -> None:
    scripts = ScriptDirectory(str(CHAIN.folder))
    assert len(scripts.get_heads()) == len(scripts.get_bases()) == 1


def test_the_chain_makes_what_the_catalog_expects(whole_product: str, catalog_engine: sa.Engine) -> None:
    assert up(catalog_engine) == list(CHAIN.checksums)
    assert differences(catalog_engine) == []


def test_what_goes_up_comes_down_and_goes_up_again(whole_product: str, catalog_engine: sa.Engine) -> None:
    up(catalog_engine)
    assert down(catalog_engine, "0001") == AFTER_FIRST[::-1]
    assert up(catalog_engine) == AFTER_FIRST
    assert differences(catalog_engine) == []


def test_each_revision_goes_up_comes_down_and_goes_up_again(whole_product: str, catalog_engine: sa.Engine) -> None:
    walk.each_goes_up_down_and_up_again(CHAIN, catalog_engine)
    assert differences(catalog_engine) == []


def test_each_revision_keeps_the_rows_of_before_and_their_children(
    whole_product: str, catalog_engine: sa.Engine
) -> None:
    walk.each_keeps_the_rows(CHAIN, catalog_engine)


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
