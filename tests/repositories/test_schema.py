"""Take the repositories out of the way and show what the database itself refuses."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, IntegrityError
from sqlalchemy.orm import Session

from repositories.schema import HOLDING, categories, label, metadata, settings, tasks
from tests.repositories.conftest import ADA, BOB
from tests.support.rows import new_row

WITH_CATEGORY = pytest.mark.parametrize("table", HOLDING, ids=lambda table: table.name)


def category_of(session: Session, owner: int) -> Any:
    return session.execute(sa.select(categories.c.id).where(categories.c.user_id == owner)).scalar_one()


def row(table: sa.Table, category: Any) -> dict[str, Any]:
    return {"user_id": ADA, "id": uuid4(), "category_id": category} | new_row(table.name, "x")


@WITH_CATEGORY
def test_the_database_refuses_another_users_category(session: Session, table: sa.Table) -> None:
    his = category_of(session, BOB)
    with pytest.raises(IntegrityError):
        session.execute(table.insert(), row(table, his))
    session.rollback()
    mine = row(table, category_of(session, ADA))
    session.execute(table.insert(), mine)
    with pytest.raises(IntegrityError):
        session.execute(table.update().where(table.c.id == mine["id"]).values(category_id=his))


@WITH_CATEGORY
def test_the_database_keeps_a_category_that_has_rows(session: Session, table: sa.Table) -> None:
    mine = category_of(session, ADA)
    session.execute(table.insert(), row(table, mine))
    with pytest.raises(IntegrityError):
        session.execute(categories.delete().where(categories.c.id == mine))


@WITH_CATEGORY
def test_a_row_needs_no_more_than_id_owner_and_name(session: Session, table: sa.Table) -> None:
    session.execute(
        sa.text(f"INSERT INTO {table.name} (id, user_id, {label(table)}) VALUES ('{uuid4().hex}', {ADA}, 'x')")
    )
    made = session.execute(sa.select(table)).mappings().one()
    assert made["version"] == 1
    assert made["created_at"].tzinfo


@pytest.mark.parametrize("change", [{"status": "later"}, {"priority": 4}, {"priority": -1}, {"title": None}])
def test_the_database_refuses_values_that_no_task_has(session: Session, change: dict[str, Any]) -> None:
    with pytest.raises(DatabaseError):
        session.execute(tasks.insert(), {"user_id": ADA, "id": uuid4(), "title": "x", **change})


def test_names_are_unique_for_each_user(session: Session) -> None:
    for owner in (ADA, BOB):
        session.execute(categories.insert(), {"user_id": owner, "id": uuid4(), "name": "e", "name_key": "e"})
    for different in ("E", "é", "e."):
        values = {"user_id": ADA, "id": uuid4(), "name": different, "name_key": different}
        session.execute(categories.insert(), values)
    with pytest.raises(IntegrityError):
        session.execute(categories.insert(), {"user_id": ADA, "id": uuid4(), "name": "E", "name_key": "e"})


def test_a_key_is_unique_for_each_user(session: Session) -> None:
    for owner in (ADA, BOB):
        session.execute(settings.insert(), {"user_id": owner, "key": "theme", "value": "x"})
    with pytest.raises(IntegrityError):
        session.execute(settings.insert(), {"user_id": ADA, "key": "theme", "value": "y"})


def test_owners_lead_every_key_and_index() -> None:
    for table in metadata.sorted_tables:
        assert table.primary_key.columns.keys()[0] == "user_id"
        for index in table.indexes:
            assert index.columns.keys()[0] == "user_id", index.name
        for constraint in table.constraints:
            assert constraint.name
            if isinstance(constraint, sa.UniqueConstraint | sa.ForeignKeyConstraint):
                assert constraint.columns.keys()[0] == "user_id", constraint.name
