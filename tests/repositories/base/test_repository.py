"""What a user of the repositories sees: rows as dicts, versions, refusals, pages."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy.orm import Session

from repositories.errors import ConflictError, InvalidReferenceError, NotFoundError, StaleVersionError
from repositories.schema import categories, first_rows, tasks
from repositories.tasks import TaskRepository
from tenancy.errors import ConfigurationError
from tests.repositories.conftest import ADA, BOB, listed, statements_sent
from tests.support.engines import on_sqlite
from tests.support.rows import CATEGORIZED, new_row

NOON = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)


def test_a_created_row_is_the_row_that_is_read(ada: Any) -> None:
    made = ada.tasks.create({"title": "Überweisung 🐎", "due_date": date(2024, 2, 29), "priority": 3})
    assert ada.tasks.get(made["id"]) == made
    assert ada.tasks.get(str(made["id"])) == made
    assert ada.tasks.list() == [listed(made)]
    assert list(ada.tasks.get(made["id"])) == list(made)
    assert made["status"] == "todo"
    assert made["version"] == 1
    assert made["id"].version == 7
    assert made["created_at"] == made["updated_at"]
    assert made["created_at"].tzinfo is UTC
    assert not {"user_id", "name_key"} & set(made)


@pytest.mark.parametrize("resource", CATEGORIZED)
def test_a_row_without_a_category_is_put_in_uncategorized(ada: Any, resource: str) -> None:
    values = new_row(resource, "x")
    repository = getattr(ada, resource)
    uncategorized = ada.categories.uncategorized()
    assert repository.create(values)["category_id"] == uncategorized
    assert repository.create(values | {"category_id": None})["category_id"] == uncategorized
    work = ada.categories.create({"name": "work"})["id"]
    row = repository.create(values | {"category_id": work})
    assert row["category_id"] == work
    assert repository.update(row["id"], {"category_id": None})["category_id"] == uncategorized


def test_a_client_may_name_the_row_and_a_second_one_of_that_name_is_refused(ada: Any, bob: Any) -> None:
    id = uuid4()
    assert ada.tasks.create({"id": str(id), "title": "x"})["id"] == id
    with pytest.raises(ConflictError) as refusal:
        ada.tasks.create({"id": id, "title": "a secret plan"})
    assert refusal.value.field == "id"
    assert "secret" not in str(refusal.value)
    assert refusal.value.__suppress_context__
    assert [row["title"] for row in ada.tasks.list()] == ["x"], "the session goes on"
    assert bob.tasks.create({"id": id, "title": "z"})["id"] == id


def test_a_foreign_category_is_refused_like_one_that_is_not_there(ada: Any, bob: Any) -> None:
    row = ada.tasks.create({"title": "x"})
    for category in (uuid4(), bob.categories.create({"name": "his"})["id"], bob.categories.uncategorized()):
        for act in (
            lambda category=category: ada.tasks.create({"title": "y", "category_id": category}),
            lambda category=category: ada.tasks.update(row["id"], {"category_id": category}),
            lambda category=category: ada.tasks.update_where({"category_id": category}),
        ):
            with pytest.raises(InvalidReferenceError) as refusal:
                act()
            assert refusal.value.field == "category_id"
    assert ada.tasks.list() == [listed(row)], "the session goes on"


def test_an_update_counts_the_version_and_moves_updated_at(ada: Any) -> None:
    row = ada.tasks.create({"title": "x", "description": "long"})
    changed = ada.tasks.update(row["id"], {"title": "y"})
    assert changed == row | {"title": "y", "version": 2, "updated_at": changed["updated_at"]}
    assert changed["updated_at"] >= row["updated_at"]
    assert ada.tasks.update(row["id"], {}) == changed


def test_a_change_to_a_version_that_is_gone_is_refused(ada: Any) -> None:
    row = ada.tasks.create({"title": "x"})
    ada.tasks.update(row["id"], {"title": "y"}, if_version=1)
    for version in (1, 3, 0, -1, 2**80):
        with pytest.raises(StaleVersionError) as refusal:
            ada.tasks.update(row["id"], {"title": "z"}, if_version=version)
        assert refusal.value.fields["version"] == 2
        with pytest.raises(StaleVersionError):
            ada.tasks.update(row["id"], {}, if_version=version)
        with pytest.raises(StaleVersionError):
            ada.tasks.delete(row["id"], if_version=version)
    ada.tasks.delete(row["id"], if_version=2)
    for act in (ada.tasks.get, ada.tasks.delete, lambda id: ada.tasks.update(id, {"title": "z"}, if_version=2)):
        with pytest.raises(NotFoundError):
            act(row["id"])


def test_compare_and_set_is_one_statement(ada: Any) -> None:
    row = ada.tasks.create({"title": "x"})
    with statements_sent(ada.session.get_bind()) as sent:
        ada.tasks.update(row["id"], {"title": "y"}, if_version=1)
        ada.tasks.delete(row["id"], if_version=2)
    changes = [statement for statement, _ in sent if not statement.startswith("SELECT")]
    assert [statement.split()[0] for statement in changes] == ["UPDATE", "DELETE"]
    assert all("tasks.version = " in statement.partition("WHERE")[2] for statement in changes)


def test_of_many_that_change_one_version_at_once_one_does(engine: sa.Engine) -> None:
    with Session(engine) as session, session.begin():
        id = TaskRepository(session, ADA).create({"title": "x"})["id"]
    start, outcomes = threading.Barrier(6), []

    def change(number: int) -> None:
        start.wait()
        try:
            with Session(engine) as session, session.begin():
                TaskRepository(session, ADA).update(id, {"title": f"by {number}"}, if_version=1)
                outcomes.append("changed")
        except StaleVersionError:
            outcomes.append("stale")

    threads = [threading.Thread(target=change, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["changed"] + ["stale"] * 5


@pytest.mark.parametrize("id", ["", "x", "0", 1, None, "1;drop", "\x00", "\ud800", 2**70, uuid4()])
def test_a_key_that_cannot_be_is_a_row_that_is_not_there(ada: Any, id: Any) -> None:
    for act in (ada.tasks.get, ada.tasks.delete, lambda id: ada.tasks.update(id, {"title": "z"})):
        with pytest.raises(NotFoundError):
            act(id)


def test_lists_are_filtered_and_none_is_no_filter(ada: Any) -> None:
    work = ada.categories.create({"name": "work"})["id"]
    for number, status in enumerate(["todo", "doing", "done", "todo"]):
        ada.tasks.create({"title": str(number), "status": status, "due_date": date(2024, 1, 1 + number)})
    ada.tasks.create({"title": "4", "category_id": work, "priority": 2})

    def titles(**filters: Any) -> str:
        assert ada.tasks.count(**filters) == len(ada.tasks.list(**filters))
        paged = ada.tasks.page(sort="oldest", **filters).rows
        assert [row["title"] for row in paged] == [row["title"] for row in ada.tasks.list(**filters)]
        return "".join(row["title"] for row in ada.tasks.list(**filters))

    assert titles(status="todo") == "034"
    assert titles(status="todo", priority=0) == "03"
    assert titles(category_id=work) == titles(category_id=str(work)) == "4"
    assert titles(due_after=date(2024, 1, 2), due_before=date(2024, 1, 4)) == "12"
    assert titles(status=None, priority=None) == titles() == "01234"
    assert [row["category_name"] for row in ada.tasks.page(sort="oldest").rows] == ["Uncategorized"] * 4 + ["work"]


def test_many_rows_change_and_go_together(ada: Any, bob: Any) -> None:
    for repository in (ada.tasks, bob.tasks):
        for title in "abc":
            repository.create({"title": title, "priority": 1 if title == "c" else 0})
    assert ada.tasks.update_where({"status": "done"}, priority=0) == 2
    assert ada.tasks.update_where({}, priority=0) == 2
    assert [(row["status"], row["version"]) for row in ada.tasks.list()] == [("done", 2), ("done", 2), ("todo", 1)]
    assert ada.tasks.delete_where(status="done") == 2
    assert ada.tasks.delete_where() == 1
    assert bob.tasks.count(status="todo") == 3


@pytest.mark.parametrize("act", ["update_where", "delete_where"])
def test_a_filter_of_none_never_widens_a_change(ada: Any, act: str) -> None:
    ada.tasks.create({"title": "kept"})
    values = [{"title": "lost"}] if act == "update_where" else []
    with pytest.raises(ConfigurationError):
        getattr(ada.tasks, act)(*values, status=None)
    assert [row["title"] for row in ada.tasks.list()] == ["kept"]


@on_sqlite
@pytest.mark.parametrize(
    ("field", "act"),
    [
        ("colour", lambda tasks: tasks.create({"title": "x", "colour": "red"})),
        ("version", lambda tasks: tasks.create({"title": "x", "version": 7})),
        ("created_at", lambda tasks: tasks.update(uuid4(), {"created_at": NOON})),
        ("id", lambda tasks: tasks.update(uuid4(), {"id": uuid4()})),
        ("title", lambda tasks: tasks.create({})),
        ("title", lambda tasks: tasks.list(title="x")),
        ("status", lambda tasks: tasks.count(status="later")),
        ("due_before", lambda tasks: tasks.list(due_before=NOON)),
        ("limit", lambda tasks: tasks.list(limit=0)),
        ("limit", lambda tasks: tasks.list(limit=2**63)),
        ("after", lambda tasks: tasks.list(after=(NOON.replace(tzinfo=None), uuid4()))),
        ("after", lambda tasks: tasks.list(after=(NOON, 7))),
    ],
)
def test_what_is_unknown_or_wrong_is_named(ada: Any, field: str, act: Any) -> None:
    with statements_sent(ada.session.get_bind()) as sent, pytest.raises(ConfigurationError) as refusal:
        act(ada.tasks)
    assert refusal.value.field == field
    assert not sent


def test_a_list_is_one_statement(ada: Any) -> None:
    with statements_sent(ada.session.get_bind()) as sent:
        ada.tasks.list()
        ada.tasks.list(after=(NOON, uuid4()), status="todo")
        ada.tasks.page(sort="manual", text="x y", open=True)
    assert len(sent) == 3


def test_rows_written_by_raw_sql_are_shown(ada: Any) -> None:
    for id in (uuid4().hex, "not a uuid"):
        values = {"id": id, "user_id": ADA, "title": f"raw {id}"}
        ada.session.execute(sa.text("INSERT INTO tasks (id, user_id, title) VALUES (:id, :user_id, :title)"), values)
    rows = ada.tasks.list()
    assert {type(row["id"]) for row in rows} == {UUID, str}
    assert {row["status"] for row in rows} == {"todo"}
    assert all(abs(row["created_at"] - datetime.now(UTC)) < timedelta(minutes=1) for row in rows)
    assert len(ada.tasks.page(sort="manual").rows) == 2, "rows without a category are shown too"
    first = ada.tasks.list(limit=1)[0]
    assert ada.tasks.list(after=(first["created_at"], first["id"])) == rows[1:]


moments = st.integers(0, 3).map(lambda microseconds: NOON + timedelta(microseconds=microseconds))
made = st.lists(st.tuples(moments, st.uuids(), st.sampled_from([ADA, BOB])), max_size=25, unique_by=lambda row: row[1])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=made, limit=st.integers(1, 7))
def test_pages_hold_every_row_once_in_order_also_where_times_are_equal(
    engine: sa.Engine, rows: list[tuple[datetime, UUID, int]], limit: int
) -> None:
    with Session(engine) as session:
        for created_at, id, owner in rows:
            session.execute(tasks.insert(), {"user_id": owner, "id": id, "title": "x", "created_at": created_at})
        seen, after = [], None
        while page := TaskRepository(session, ADA).list(limit=limit, after=after):
            assert len(page) <= limit
            seen += [(row["created_at"], row["id"]) for row in page]
            after = seen[-1]
    mine = [(created_at, id) for created_at, id, owner in rows if owner == ADA]
    assert seen == sorted(mine, key=lambda row: (row[0], row[1].hex))


def test_the_category_that_always_is_there_is_made_with_the_database(session: Session) -> None:
    assert [values["name"] for _, values in first_rows(ADA)] == ["Uncategorized"]
    assert session.execute(sa.select(sa.func.count()).select_from(categories)).scalar_one() == 2
