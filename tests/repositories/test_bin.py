"""What was deleted is kept for a while and comes back as it was."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from repositories import bin as bin_module
from repositories.base import bin_storage, scope
from repositories.base.bin_storage import KEPT_DAYS, PURGED_AT_ONCE
from repositories.bin import BinRepository
from repositories.errors import ConflictError, NotFoundError, StaleVersionError
from repositories.repository_factory import RepositoryFactory
from repositories.schema import HOLDING, KIND_MAX, KINDS, bin, categories, tasks
from tenancy.errors import NoTenantError
from tests.conftest import make_user
from tests.repositories.conftest import ADA, BOB, statements_sent
from tests.support.rows import CATEGORIZED, PAGED, named_by, new_row

if TYPE_CHECKING:
    from compose import Parts

NOON = datetime(2024, 5, 6, 12, 0, 0, 123456, tzinfo=UTC)
ROWS: dict[str, dict[str, Any]] = {name: new_row(name, "Rose") for name in PAGED} | {
    "tasks": {"title": "Öl 🐎", "description": 'say "hi"\n\\', "due_date": date(2024, 2, 29), "due_time": "09:30"},
    "notes": {"title": "x" * 200, "body": "€\x01\u2028" * 1000, "pinned": True},
    "events": {"title": "meet", "starts_at": NOON, "ends_at": NOON, "all_day": True},
    "categories": {"name": "Ｗork", "color": "#aabbcc"},
}
each_kind = pytest.mark.parametrize("kind", ROWS)


def titles(owner: Any) -> list[str]:
    return [row["title"] for row in owner.bin.page().rows]


@each_kind
def test_a_discarded_row_is_gone_and_comes_back_as_it_was(ada: Any, kind: str) -> None:
    repository = getattr(ada, kind)
    row = repository.create(ROWS[kind])
    batch = repository.discard(row["id"])
    with pytest.raises(NotFoundError):
        repository.get(row["id"])
    (entry,) = ada.bin.page().rows
    assert entry.keys() == {"id", "batch", "kind", "title", "deleted_at"}
    assert (entry["batch"], entry["kind"], entry["title"]) == (batch, kind, row[named_by(kind)])
    assert ada.bin.restore(batch) == [(kind, row["id"])]
    assert repository.get(row["id"]) == row
    assert titles(ada) == []
    with pytest.raises(NotFoundError):
        ada.bin.restore(batch)


def test_a_version_that_is_gone_is_not_discarded(ada: Any) -> None:
    row = ada.tasks.create({"title": "x"})
    with pytest.raises(StaleVersionError):
        ada.tasks.discard(row["id"], if_version=2)
    with pytest.raises(NotFoundError):
        ada.tasks.discard(uuid4())
    assert titles(ada) == []
    ada.tasks.discard(row["id"], if_version=1)


def test_many_rows_are_one_batch_and_come_back_together(ada: Any, bob: Any) -> None:
    for number in range(3):
        ada.tasks.create({"title": str(number), "status": "done" if number else "todo"})
    bob.tasks.create({"title": "his", "status": "done"})
    batch, count = ada.tasks.discard_where(open=False)
    assert count == 2
    note = ada.notes.create({"title": "note"})
    assert ada.notes.discard(note["id"], batch=batch) == batch
    assert [row["title"] for row in ada.tasks.list()] == ["0"]
    assert sorted(titles(ada)) == ["1", "2", "note"]
    assert sorted(kind for kind, _ in ada.bin.restore(batch)) == ["notes", "tasks", "tasks"]
    assert [row["title"] for row in ada.tasks.list()] == ["0", "1", "2"]
    assert bob.tasks.count() == 1


def test_more_rows_than_one_statement_takes_go_and_come_back(ada: Any, engine_name: str) -> None:
    rows = [{"user_id": ADA, "id": uuid4(), "title": str(number)} for number in range(1201)]
    ada.session.execute(tasks.insert(), rows)
    with statements_sent(ada.session.get_bind()) as sent:
        batch, count = ada.tasks.discard_where()
    assert (count, ada.tasks.count()) == (1201, 0)
    halves = 2 if engine_name == "sqlserver" else 0  # its statements take 2,100 values: two of the inserts are cut
    assert len(sent) == 3 * 3 + halves + 2, "select, delete and insert three times, an empty look, and the purge"
    assert len(ada.bin.restore(batch)) == ada.tasks.count() == 1201


def test_raw_rows_go_and_come_back(ada: Any) -> None:
    for id in ("not a uuid", uuid4().hex):
        values = {"id": id, "user_id": ADA}
        ada.session.execute(sa.text("INSERT INTO tasks (id, user_id, title) VALUES (:id, :user_id, 'raw')"), values)
    before = ada.tasks.page(sort="oldest").rows
    batch, count = ada.tasks.discard_where()
    assert count == 2
    ada.bin.restore(batch)
    assert ada.tasks.page(sort="oldest").rows == before


def test_deleting_takes_few_statements(ada: Any) -> None:
    row, category = ada.tasks.create({"title": "x"}), ada.categories.create({"name": "work"})
    ada.tasks.create({"title": "y", "category_id": category["id"]})
    for act, number in (
        (lambda: ada.tasks.discard(row["id"]), 4),
        (lambda: ada.tasks.discard_where(), 5),
        (lambda: ada.categories.discard(category["id"]), 6 + 2 * len(HOLDING)),
        (lambda: ada.bin.page(), 1),
        (lambda: ada.bin.empty(), 1),
    ):
        with statements_sent(ada.session.get_bind()) as sent:
            act()
        assert len(sent) == number, sent


class TestCategory:
    def test_it_gets_its_rows_back_where_nobody_moved_them_since(self, ada: Any, bob: Any) -> None:
        work, other = (ada.categories.create({"name": name})["id"] for name in ("work", "other"))
        held = [(getattr(ada, name), new_row(name, "x") | {"category_id": work}) for name in CATEGORIZED]
        rows = [(repository, repository.create(values)) for repository, values in held]
        task, moved = (ada.tasks.create({"title": title, "category_id": work}) for title in "ab")
        beside = ada.tasks.create({"title": "never there"})
        batch = ada.categories.discard(work)
        uncategorized = ada.categories.uncategorized()
        assert ada.tasks.get(task["id"])["category_id"] == uncategorized
        ada.tasks.update(moved["id"], {"category_id": other})
        assert ada.bin.restore(batch) == [("categories", work)]
        for repository, row in (*rows, (ada.tasks, task)):
            back = repository.get(row["id"])
            assert (back["category_id"], back["version"]) == (work, 3)
        assert ada.tasks.get(moved["id"])["category_id"] == other
        assert ada.tasks.get(beside["id"]) == beside

    def test_it_stays_in_the_bin_while_its_name_is_taken(self, ada: Any) -> None:
        work = ada.categories.create({"name": "work"})["id"]
        batch = ada.categories.discard(work)
        taken = ada.categories.create({"name": "WORK"})["id"]
        with pytest.raises(ConflictError) as refusal:
            ada.bin.restore(batch)
        assert refusal.value.fields["field"] == "name"
        assert titles(ada) == ["work"], "the session goes on"
        ada.categories.update(taken, {"name": "rest"})
        ada.bin.restore(batch)
        assert ada.categories.exists(work)

    def test_a_row_whose_category_is_gone_comes_back_uncategorized(self, ada: Any) -> None:
        work = ada.categories.create({"name": "work"})["id"]
        task = ada.tasks.create({"title": "x", "category_id": work})
        batch = ada.tasks.discard(task["id"])
        ada.categories.delete(work)
        ada.bin.restore(batch)
        back = ada.tasks.get(task["id"])
        assert back == task | {"category_id": ada.categories.uncategorized(), "version": 2}

    def test_a_batch_brings_back_a_category_before_its_rows(self, ada: Any) -> None:
        work = ada.categories.create({"name": "work"})["id"]
        task = ada.tasks.create({"title": "x", "category_id": work})
        batch = ada.tasks.discard(task["id"])
        ada.categories.discard(work, batch=batch)
        assert ada.bin.restore(batch) == [("categories", work), ("tasks", task["id"])]
        assert ada.tasks.get(task["id"]) == task


def test_every_resource_with_pages_comes_back_from_the_bin_with_its_category() -> None:
    assert set(KINDS) == set(PAGED), "repositories/schema.py: a table from _key() and _paged(); RESOURCES names it"
    assert {table.name for table in HOLDING} == set(CATEGORIZED), "_category() goes with CategorizedRepository"
    assert max(map(len, KINDS)) <= KIND_MAX, "the bin stores the name of the table"


class TestUnknownKind:
    """An older version of the application finds what a newer one deleted."""

    @pytest.fixture
    def older(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (bin_storage, bin_module):
            monkeypatch.setattr(module, "KINDS", {"categories": categories, "tasks": tasks})

    def test_nothing_of_its_batch_is_restored_and_nothing_is_lost(
        self, ada: Any, older: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        note, task = ada.notes.create({"title": "n"}), ada.tasks.create({"title": "t"})
        batch = ada.notes.discard(note["id"])
        ada.tasks.discard(task["id"], batch=batch)
        with pytest.raises(ConflictError, match="does not know rows of the kind 'notes'"):
            ada.bin.restore(batch)
        assert sorted(titles(ada)) == ["n", "t"]
        assert not ada.tasks.exists(task["id"])
        monkeypatch.undo()
        assert len(ada.bin.restore(batch)) == 2
        assert ada.notes.get(note["id"]) == note

    def test_a_category_that_held_such_rows_stays_in_the_bin(self, ada: Any, older: None) -> None:
        work, rest = (ada.categories.create({"name": name})["id"] for name in ("work", "rest"))
        ada.notes.create({"title": "n", "category_id": work})
        batch, nothing = ada.categories.discard(work), ada.categories.discard(rest)
        with pytest.raises(ConflictError, match="does not know rows of the kind 'notes'"):
            ada.bin.restore(batch)
        assert sorted(titles(ada)) == ["rest", "work"]
        assert not ada.categories.exists(work)
        assert ada.bin.restore(nothing) == [("categories", rest)]


def test_what_cannot_come_back_whole_does_not_come_back_at_all(ada: Any) -> None:
    first, second = (ada.tasks.create({"title": title}) for title in "ab")
    batch, _ = ada.tasks.discard_where()
    ada.tasks.create({"id": second["id"], "title": "taken"})
    with pytest.raises(ConflictError):
        ada.bin.restore(batch)
    assert not ada.tasks.exists(first["id"])
    assert sorted(titles(ada)) == ["a", "b"]


def test_entries_are_removed_one_by_one_or_all_at_once(ada: Any, bob: Any) -> None:
    for owner in (ada, bob):
        for title in "abc":
            owner.tasks.discard(owner.tasks.create({"title": title})["id"])
    assert titles(ada) == ["c", "b", "a"]
    rows, place = ada.bin.page(limit=2)
    assert [row["title"] for row in ada.bin.page(limit=2, after=place).rows] == ["a"]
    ada.bin.remove(rows[0]["id"])
    assert titles(ada) == ["b", "a"]
    assert ada.bin.empty() == 2
    assert titles(bob) == ["c", "b", "a"]


def age(session: Session, title: str, days: int) -> None:
    old = datetime.now(UTC) - timedelta(days=days, hours=1)
    session.execute(sa.update(bin).where(bin.c.title == title).values(deleted_at=old))


def test_what_lies_there_for_too_long_is_gone_and_goes_with_the_next_deletion(ada: Any, bob: Any) -> None:
    for owner in (ada, bob):
        batch = owner.tasks.discard(owner.tasks.create({"title": "old"})["id"])
    mine = ada.bin.page().rows[0]["batch"]
    ada.tasks.discard(ada.tasks.create({"title": "young"})["id"])
    age(ada.session, "old", KEPT_DAYS)
    age(ada.session, "young", KEPT_DAYS - 1)
    assert titles(ada) == ["young"]
    with pytest.raises(NotFoundError):
        ada.bin.restore(mine)
    ada.notes.discard(ada.notes.create({"title": "new"})["id"])
    left = sa.select(bin.c.user_id, bin.c.title).order_by(bin.c.user_id, bin.c.deleted_at)
    assert ada.session.execute(left).all() == [(ADA, "young"), (ADA, "new"), (BOB, "old")]
    assert batch not in (mine, None)


def test_a_deletion_takes_a_bounded_number_of_old_entries_along(ada: Any) -> None:
    ada.session.execute(tasks.insert(), [{"user_id": ADA, "id": uuid4(), "title": "old"} for _ in range(150)])
    ada.tasks.discard_where()
    age(ada.session, "old", KEPT_DAYS)
    ada.tasks.discard(ada.tasks.create({"title": "new"})["id"])
    assert ada.session.execute(sa.select(sa.func.count()).select_from(bin)).scalar_one() == 151 - PURGED_AT_ONCE


class TestOtherUsers:
    def test_nobody_reaches_somebody_elses_bin(self, ada: Any, bob: Any) -> None:
        batch = bob.tasks.discard(bob.tasks.create({"title": "his"})["id"])
        his = bob.bin.page().rows[0]["id"]
        for act in (ada.bin.restore, ada.bin.remove):
            for id in (batch, his, uuid4(), "x", None, "\x00"):
                with pytest.raises(NotFoundError):
                    act(id)
        assert (titles(ada), ada.bin.empty()) == ([], 0)
        assert titles(bob) == ["his"]

    def test_one_batch_of_two_users_is_two(self, ada: Any, bob: Any) -> None:
        mine, his = ada.tasks.create({"title": "mine"}), bob.tasks.create({"title": "his"})
        batch = ada.tasks.discard(mine["id"])
        bob.tasks.discard(his["id"], batch=batch)
        assert ada.bin.restore(batch) == [("tasks", mine["id"])]
        assert titles(bob) == ["his"]

    @pytest.mark.parametrize("verb", ["restore", "remove", "empty", "page"])
    def test_without_the_owner_filter_the_leak_is_noticed(
        self, ada: Any, bob: Any, monkeypatch: pytest.MonkeyPatch, verb: str
    ) -> None:
        batch = bob.categories.discard(bob.categories.create({"name": "his"})["id"])
        his = bob.bin.page().rows[0]["id"]
        monkeypatch.setattr(scope, "owned", lambda statement, owner: statement)
        given = {"restore": [batch], "remove": [his]}.get(verb, [])
        shown = getattr(ada.bin, verb)(*given)
        monkeypatch.undo()
        assert titles(bob) == [] or "his" in str(shown)

    def test_every_statement_names_its_owner(self, ada: Any) -> None:
        work = ada.categories.create({"name": "work"})["id"]
        task = ada.tasks.create({"title": "x", "category_id": work})
        with statements_sent(ada.session.get_bind()) as sent:
            batch = ada.categories.discard(work)
            ada.tasks.discard(task["id"], batch=batch)
            ada.bin.page()
            ada.bin.restore(batch)
            ada.tasks.discard(task["id"])
            ada.bin.remove(ada.bin.page().rows[0]["id"])
            ada.bin.empty()
        for statement, values in sent:
            assert ADA in values, statement
            for table in re.findall(r"(?:FROM|JOIN|UPDATE|INTO)\s+(\w+)", statement):
                assert ("(user_id" if statement.startswith("INSERT") else f"{table}.user_id = ") in statement

    def test_no_verb_does_anything_without_an_owner(self, session: Session) -> None:
        repository = BinRepository(session)
        for act in (repository.page, repository.empty, lambda: repository.restore(uuid4())):
            with pytest.raises(NoTenantError):
                act()


def test_the_bin_works_in_both_modes(any_parts: Parts) -> None:
    users = [make_user(any_parts, f"{name}@example.org") for name in ("ada", "bob")]
    batches = []
    for user in users:
        with any_parts.manager.session(user.id, write=True) as session:
            repository: Any = RepositoryFactory.get_repository("tasks", session, user.id)
            batches.append(repository.discard(repository.create({"title": f"of {user.id}"})["id"]))
    for user, batch, other in zip(users, batches, reversed(batches), strict=True):
        with any_parts.manager.session(user.id, write=True) as session:
            thrown = RepositoryFactory.get_repository("bin", session, user.id)
            assert [row["title"] for row in thrown.page().rows] == [f"of {user.id}"]
            with pytest.raises(NotFoundError):
                thrown.restore(other)
            assert len(thrown.restore(batch)) == 1
        with any_parts.manager.session(user.id) as session:
            assert RepositoryFactory.get_repository("tasks", session, user.id).count() == 1


def test_a_column_that_is_no_more_is_left_out(ada: Any) -> None:
    row = ada.categories.create({"name": "work"})
    batch = ada.categories.discard(row["id"])
    kept = ada.session.execute(sa.select(bin.c.row)).scalar_one()
    older = kept.replace('"color":null', '"shade":1')
    assert older != kept
    ada.session.execute(sa.update(bin).values(row=older))
    ada.bin.restore(batch)
    assert ada.categories.get(row["id"]) == row
    assert ada.session.execute(sa.select(sa.func.count()).select_from(categories)).scalar_one() == 3
