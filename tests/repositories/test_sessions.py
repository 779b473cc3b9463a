"""Repositories in the units of work they are made for: the manager's sessions, in both modes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from repositories.errors import ConflictError, InvalidReferenceError
from repositories.tasks import TaskRepository
from tenancy.errors import WrongTenantError
from tests.conftest import make_user
from tests.repositories.conftest import statements_sent

if TYPE_CHECKING:
    from compose import Parts


def test_each_user_sees_their_own_rows_and_a_list_is_one_statement(any_parts: Parts) -> None:
    users = [make_user(any_parts, f"{name}@example.org") for name in ("ada", "bob")]
    for user in users:
        with any_parts.manager.session(user.id, write=True) as session:
            TaskRepository(session, user.id).create({"title": f"of {user.id}"})
    for user in users:
        with any_parts.manager.session(user.id) as session:
            bind: Any = session.get_bind()
            with statements_sent(bind) as sent:
                rows = TaskRepository(session, user.id).list()
        assert [row["title"] for row in rows] == [f"of {user.id}"]
        assert len(sent) == 1


def test_a_refused_write_leaves_the_unit_of_work_usable(any_parts: Parts) -> None:
    user = make_user(any_parts, "ada@example.org")
    with any_parts.manager.session(user.id, write=True) as session:
        tasks = TaskRepository(session, user.id)
        first = tasks.create({"title": "first"})
        with pytest.raises(ConflictError):
            tasks.create({"id": first["id"], "title": "again"})
        with pytest.raises(InvalidReferenceError):
            tasks.update(first["id"], {"category_id": first["id"]})
        tasks.create({"title": "second"})
    with any_parts.manager.session(user.id) as session:
        assert [row["title"] for row in TaskRepository(session, user.id).list()] == ["first", "second"]


def test_raw_rows_of_a_shared_database_keep_to_their_owner(shared_parts: Parts) -> None:
    ada, bob = (make_user(shared_parts, f"{name}@example.org") for name in ("ada", "bob"))
    with shared_parts.manager.session(ada.id, write=True) as session:
        insert = sa.text("INSERT INTO tasks (id, user_id, title) VALUES (:id, :user_id, 'raw')")
        session.execute(insert, {"id": "0" * 32, "user_id": bob.id})
        assert TaskRepository(session, ada.id).list() == []
    with shared_parts.manager.session(bob.id) as session:
        assert len(TaskRepository(session, bob.id).list()) == 1


def test_a_session_of_one_user_serves_no_repository_of_another(any_parts: Parts) -> None:
    ada, bob = (make_user(any_parts, f"{name}@example.org") for name in ("ada", "bob"))
    with any_parts.manager.session(ada.id) as session:
        with pytest.raises(WrongTenantError):
            TaskRepository(session, bob.id)
        with pytest.raises(WrongTenantError):
            TaskRepository(session, ada.id).with_user(bob.id)
