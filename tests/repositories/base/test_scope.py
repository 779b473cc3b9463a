"""Prove from the SQL sent that every verb of every repository begins scoped to its owner."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from repositories import categories
from repositories.base import scope, statements
from repositories.base.repository import BaseUserScopedRepository
from repositories.errors import NotFoundError, RepositoryError
from repositories.repository_factory import RESOURCES
from repositories.schema import categories as categories_table, notes, tasks
from tenancy.errors import NoTenantError, ScopeError, WrongTenantError
from tests.repositories.conftest import ADA, BOB, statements_sent
from tests.support.engines import on_sqlite
from tests.support.rows import PAGED, named_by, new_row

NOON = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)
NEW = {name: new_row(name, "one of these") for name in PAGED} | {"settings": {"key": "theme", "value": "dark"}}
NEW["events"]["starts_at"] = NOON
ANOTHER: dict[str, dict[str, Any]] = {"categories": {"name": "play"}, "settings": {"key": "other", "value": ""}}
CHANGE: dict[str, dict[str, Any]] = {name: {named_by(name): "done by somebody else"} for name in PAGED} | {
    "categories": {"color": "#aabbcc"},  # a name is unique, so the verbs that change many rows refuse it
    "settings": {"value": "light"},
}
VERBS: dict[str, Any] = {
    "list": lambda repository, key: repository.list(),
    "list after": lambda repository, key: repository.list(after=(datetime(1999, 1, 1, tzinfo=UTC), key)),
    "get": lambda repository, key: repository.get(key),
    "create": lambda repository, key: repository.create(NEW[repository.table.name]),
    "update": lambda repository, key: repository.update(key, CHANGE[repository.table.name]),
    "update a version": lambda repository, key: repository.update(key, CHANGE[repository.table.name], if_version=1),
    "update nothing": lambda repository, key: repository.update(key, {}),
    "delete": lambda repository, key: repository.delete(key),
    "delete a version": lambda repository, key: repository.delete(key, if_version=1),
    "count": lambda repository, key: repository.count(),
    "exists": lambda repository, key: repository.exists(key),
    "search": lambda repository, key: repository.search("e"),
    "update_where": lambda repository, key: repository.update_where(CHANGE[repository.table.name]),
    "delete_where": lambda repository, key: repository.delete_where(),
}
LISTED_VERBS: dict[str, Any] = {
    "page": lambda repository, key: repository.page(sort=next(iter(repository.sorts))),
    "page of ids": lambda repository, key: repository.page(sort=next(iter(repository.sorts)), ids=[key]),
    "found": lambda repository, key: repository.found("o"),
    "count of ids": lambda repository, key: repository.count(ids=[key]),
    "update_where of ids": lambda repository, key: repository.update_where(CHANGE[repository.table.name], ids=[key]),
    "delete_where of ids": lambda repository, key: repository.delete_where(ids=[key]),
    "discard": lambda repository, key: repository.discard(key),
    "discard a version": lambda repository, key: repository.discard(key, if_version=1),
    "discard_where": lambda repository, key: repository.discard_where(),
    "discard_where of ids": lambda repository, key: repository.discard_where(ids=[key]),
}
OWN_VERBS: dict[tuple[str, str], Any] = {
    ("tasks", "agenda"): lambda repository, key: repository.agenda(NOON.date()),
    ("tasks", "page after"): lambda repository, key: repository.page(
        sort="manual", after=[datetime(2999, 1, 1, tzinfo=UTC).isoformat(), "0" * 32], text="-x e", open=True
    ),
    ("tasks", "set_status"): lambda repository, key: repository.set_status([key], "done"),
    ("tasks", "move"): lambda repository, key: repository.move(key),
    ("tasks", "move below"): lambda repository, key: repository.move(
        repository.create({"title": "mine"})["id"], after=key
    ),
    ("tasks", "move above"): lambda repository, key: repository.move(
        repository.create({"title": "mine"})["id"], before=key
    ),
    ("tasks", "move_by"): lambda repository, key: repository.move_by(key, -1, status="todo"),
    ("tasks", "update to no category"): lambda repository, key: repository.update(key, {"category_id": None}),
    ("tasks", "filtered"): lambda repository, key: repository.list(status="todo", due_after=NOON.date()),
    ("tasks", "filtered count"): lambda repository, key: repository.count(priority=0),
    ("events", "agenda"): lambda repository, key: repository.agenda(NOON, past=True),
    ("events", "upcoming"): lambda repository, key: repository.upcoming(NOON),
    ("events", "between"): lambda repository, key: repository.between(
        NOON, NOON.replace(hour=13), first_day=NOON.date(), last_day=NOON.date()
    ),
    ("events", "feed"): lambda repository, key: [*repository.feed(NOON)],
    ("categories", "by_name"): lambda repository, key: repository.by_name("his own"),
    ("categories", "choices"): lambda repository, key: repository.choices(),
    ("categories", "counts"): lambda repository, key: repository.counts(),
    ("categories", "page by name"): lambda repository, key: repository.page(sort="name", text="his"),
    ("categories", "uncategorized"): lambda repository, key: repository.uncategorized(),
    ("categories", "rename"): lambda repository, key: repository.update(key, {"name": "rest"}),
    ("settings", "put"): lambda repository, key: repository.put("language", "en"),
}
CALLS = [(resource, name, call) for resource in RESOURCES for name, call in VERBS.items()]
CALLS += [(resource, name, call) for resource in PAGED for name, call in LISTED_VERBS.items()]
CALLS += [(resource, name, call) for (resource, name), call in OWN_VERBS.items()]
each_call = pytest.mark.parametrize(
    ("resource", "call"), [pytest.param(r, c, id=f"{r}-{name.replace(' ', '-')}") for r, name, c in CALLS]
)


def key_in(row: dict[str, Any]) -> Any:
    return row.get("id", row.get("key"))


def public_methods(repository: type[BaseUserScopedRepository]) -> set[str]:
    names = {name for name in dir(repository) if not name.startswith("_") and callable(getattr(repository, name))}
    return names - {"with_user", "apply_user_filter", "set_user_id"}


def test_every_public_verb_is_among_the_calls() -> None:
    tried = {resource: {name.partition(" ")[0] for r, name, _ in CALLS if r == resource} for resource in RESOURCES}
    for resource, repository in RESOURCES.items():
        missing = public_methods(repository) - tried[resource]
        assert not missing, f"say in OWN_VERBS how to call {', '.join(sorted(missing))} of {resource}"


@on_sqlite
@each_call
def test_every_statement_names_its_owner_for_every_table(ada: Any, resource: str, call: Any) -> None:
    repository = getattr(ada, resource)
    key = key_in(repository.create(NEW[resource]))
    if resource in ANOTHER:  # the call itself makes one of the usual name
        repository.delete(key)
        key = key_in(repository.create(ANOTHER[resource]))
    with statements_sent(ada.session.get_bind()) as sent:
        call(repository, key)
    assert sent
    for statement, values in sent:
        tables = re.findall(r"(?:FROM|JOIN|UPDATE|INTO)\s+(\w+)", statement)
        assert tables, statement
        assert ADA in values, statement
        assert BOB not in values
        for table in tables:
            scoped = "(user_id" if statement.startswith("INSERT") else f"{table}.user_id = "
            assert scoped in statement, statement


@on_sqlite
@each_call
def test_no_verb_does_anything_without_an_owner(ada: Any, resource: str, call: Any) -> None:
    repository = RESOURCES[resource](ada.session)
    with statements_sent(ada.session.get_bind()) as sent, pytest.raises(NoTenantError):
        call(repository, "theme" if resource == "settings" else uuid4())
    assert not sent


@pytest.fixture
def theirs(bob: Any, resource: str) -> dict[str, Any]:
    """Give a row of the other user, with a name or key that no call uses for its own."""
    named = {"categories": {"name": "his own"}, "settings": {"key": "elsewhere"}}
    row: dict[str, Any] = getattr(bob, resource).create({**NEW[resource], **named.get(resource, {})})
    return row


def leaks(owner: Any, theirs: dict[str, Any], resource: str, call: Any) -> bool:
    """Say whether a call on one user's repository shows or touches the row of another."""
    table = RESOURCES[resource].table
    mine = 1 if resource == "categories" else 0

    def as_it_is() -> list[Any]:
        return sorted(owner.session.execute(sa.select(table).where(table.c.user_id == BOB)).all(), key=str)

    before = as_it_is()
    try:
        shown = call(getattr(owner, resource), key_in(theirs))
    except RepositoryError as refusal:
        shown = refusal.args
    seen = shown > mine if isinstance(shown, int) else str(key_in(theirs)) in str(shown)
    return seen or as_it_is() != before


@each_call
def test_no_verb_reaches_the_row_of_another_user(ada: Any, theirs: Any, resource: str, call: Any) -> None:
    assert not leaks(ada, theirs, resource, call)


def without_the_owner_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope, "owned", lambda statement, owner: statement)
    kept = [(statements, name) for name in ("one", "listing", "whole", "with_category")]
    for module, name in (*kept, (categories, "_uncategorized")):
        # Built once per process: a fresh one is built without the filter, and forgotten with the patch.
        monkeypatch.setattr(module, name, getattr(module, name).__wrapped__)


MUTANTS = [(r, n, c) for r, n, c in CALLS if r != "categories" and (n in VERBS or n in LISTED_VERBS) and n != "create"]
MUTANTS += [(r, n, c) for r, n, c in CALLS if n in ("set_status", "move", "between", "upcoming", "feed", "page after")]


@on_sqlite
@pytest.mark.parametrize(
    ("resource", "call"), [pytest.param(r, c, id=f"{r}-{name.replace(' ', '-')}") for r, name, c in MUTANTS]
)
def test_without_the_owner_filter_the_leak_is_noticed(
    ada: Any, theirs: Any, monkeypatch: pytest.MonkeyPatch, resource: str, call: Any
) -> None:
    without_the_owner_filter(monkeypatch)
    assert leaks(ada, theirs, resource, call)


@pytest.mark.parametrize("act", ["before", "after"])
def test_nothing_is_put_beside_the_row_of_another_user(ada: Any, bob: Any, act: str) -> None:
    mine, his = ada.tasks.create({"title": "mine"}), bob.tasks.create({"title": "his"})
    for resource, beside in ((ada.tasks, his["id"]), (ada.tasks, uuid4())):
        with pytest.raises(NotFoundError):
            resource.move(mine["id"], **{act: beside})
    with pytest.raises(NotFoundError):
        ada.tasks.move(his["id"], **{act: mine["id"]})
    with pytest.raises(NotFoundError):
        ada.tasks.move_by(his["id"], 1)
    assert (ada.tasks.get(mine["id"]), bob.tasks.get(his["id"])) == (mine, his)


def test_ids_of_another_user_among_ones_own_are_passed_over(ada: Any, bob: Any) -> None:
    mine, his = ada.tasks.create({"title": "mine"}), bob.tasks.create({"title": "his"})
    ids = [mine["id"], his["id"], uuid4()]
    assert ada.tasks.set_status(ids, "done") == 1
    assert [row["id"] for row in ada.tasks.page(sort="newest", ids=ids).rows] == [mine["id"]]
    assert ada.tasks.discard_where(ids=ids)[1] == 1
    assert bob.tasks.get(his["id"]) == his


@on_sqlite
class TestApplyUserFilter:
    @pytest.fixture
    def repository(self, session: Any) -> BaseUserScopedRepository:
        return BaseUserScopedRepository(session, ADA)

    def test_it_scopes_every_table_that_is_read(self, repository: BaseUserScopedRepository) -> None:
        both = sa.select(tasks.c.id, notes.c.id).where(tasks.c.title == notes.c.title)
        inner = sa.select(tasks.c.id).join(categories_table, categories_table.c.id == tasks.c.category_id)
        assert str(repository.apply_user_filter(both)).count("user_id = :") == 2
        assert str(repository.apply_user_filter(inner)).count("user_id = :") == 2

    def test_it_scopes_changes(self, repository: BaseUserScopedRepository) -> None:
        assert "tasks.user_id = :" in str(repository.apply_user_filter(sa.delete(tasks)))
        assert "tasks.user_id = :" in str(repository.apply_user_filter(sa.update(tasks).values(title="")))

    def test_it_scopes_aliases_and_subqueries(self, repository: BaseUserScopedRepository) -> None:
        other = tasks.alias("other")
        inside = sa.select(tasks.c.user_id, tasks.c.title).subquery("inside")
        assert "other.user_id = :" in str(repository.apply_user_filter(sa.select(other.c.id)))
        assert "inside.user_id = :" in str(repository.apply_user_filter(sa.select(inside.c.title)))

    @pytest.mark.parametrize(
        "statement",
        [
            sa.select(sa.func.now()),
            sa.select(tasks.c.id).union(sa.select(notes.c.id)),
            sa.insert(tasks),
            sa.text("SELECT title FROM tasks"),
            sa.select(tasks.c.id, sa.table("elsewhere", sa.column("x")).c.x),
            sa.select(tasks.c.id).outerjoin(categories_table, categories_table.c.id == tasks.c.category_id),
            sa.select(sa.select(tasks.c.title).subquery().c.title),
        ],
        ids=["no-table", "union", "insert", "text", "table-without-owner", "outer-join-without-owner", "subquery"],
    )
    def test_it_refuses_what_it_cannot_scope(self, repository: BaseUserScopedRepository, statement: Any) -> None:
        with pytest.raises(ScopeError):
            repository.apply_user_filter(statement)


def test_with_user_gives_a_repository_of_the_same_kind(ada: Any, bob: Any) -> None:
    bob.tasks.create({"title": "his"})
    assert [row["title"] for row in ada.tasks.with_user(BOB).list()] == ["his"]
    assert ada.tasks.list() == []


@on_sqlite
@pytest.mark.parametrize("verb", ["create", "update"])
def test_values_of_another_user_are_refused(ada: Any, verb: str) -> None:
    row = ada.tasks.create({"title": "mine", "user_id": ADA})
    act = {"create": ada.tasks.create, "update": partial(ada.tasks.update, row["id"])}[verb]
    with pytest.raises(WrongTenantError):
        act({"title": "yours", "user_id": BOB})
    assert ada.tasks.set_user_id({"title": "mine"}) == {"title": "mine", "user_id": ADA}
