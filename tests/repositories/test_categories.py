"""Names, colors, and the category that is always there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from repositories.errors import ConflictError, NotFoundError, StaleVersionError
from repositories.schema import categories
from tenancy.errors import ConfigurationError
from tests.repositories.conftest import ADA, statements_sent
from tests.support.engines import on_sqlite
from tests.support.rows import CATEGORIZED, new_row

NOON = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("name", ["Work", "WORK", " work ", "ｗｏｒｋ", "wor\u212a"])
def test_names_that_look_alike_are_one_name(ada: Any, bob: Any, name: str) -> None:
    work = ada.categories.create({"name": "Work", "color": "#AABBCC"})
    assert work["color"] == "#aabbcc"
    other = ada.categories.create({"name": "other"})
    for act in (
        lambda: ada.categories.create({"name": name}),
        lambda: ada.categories.update(other["id"], {"name": name}),
    ):
        with pytest.raises(ConflictError) as refusal:
            act()
        assert refusal.value.field == "name"
    with pytest.raises(ConflictError) as refusal:
        ada.categories.create({"id": work["id"], "name": "new"})
    assert refusal.value.field == "id"
    assert ada.categories.update(work["id"], {"name": name})["name"] == name
    assert bob.categories.create({"name": name})["name"] == name


@on_sqlite
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("name", {"name": " "}),
        ("name", {"name": "x" * 101}),
        ("name", {"name": "\ufdfa" * 100}),
        ("name", {"name": None}),
        ("name_key", {"name": "x", "name_key": "y"}),
        *[("color", {"name": "x", "color": color}) for color in ("red", "#abc", "#1234567", "#12345g", "", 7)],
    ],
)
def test_a_category_that_cannot_be_is_refused(ada: Any, field: str, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        ada.categories.create(values)
    assert refusal.value.field == field


def test_uncategorized_stays(ada: Any) -> None:
    id = ada.categories.uncategorized()
    with pytest.raises(ConflictError):
        ada.categories.delete(id)
    with pytest.raises(ConflictError) as refusal:
        ada.categories.update(id, {"name": "mine"})
    assert refusal.value.field == "name"
    with pytest.raises(ConfigurationError):
        ada.categories.update_where({"name": "mine"})
    assert ada.categories.update(id, {"name": "UNCATEGORIZED", "color": "#000000"})["version"] == 2
    assert ada.categories.update_where({"color": None}) == 1
    assert ada.categories.delete_where() == 0
    assert ada.categories.uncategorized() == id


def test_uncategorized_comes_back_where_raw_sql_deleted_it(ada: Any) -> None:
    ada.session.execute(categories.delete().where(categories.c.user_id == ADA))
    row = ada.tasks.create({"title": "x"})
    assert ada.categories.get(row["category_id"])["name"] == "Uncategorized"


def test_deleting_a_category_moves_its_rows_and_nobody_elses(ada: Any, bob: Any) -> None:
    kept = ada.categories.create({"name": "kept"})["id"]
    work = ada.categories.create({"name": "work"})["id"]
    repositories = {name: getattr(ada, name) for name in CATEGORIZED}
    rows = [(each, each.create(new_row(name, "x") | {"category_id": work})) for name, each in repositories.items()]
    beside = ada.tasks.create({"title": "y", "category_id": kept})
    bob.categories.create({"id": work, "name": "work"})
    his = bob.tasks.create({"title": "his", "category_id": work})
    ada.categories.delete(work)
    for repository, row in rows:
        moved = repository.get(row["id"])
        assert moved["category_id"] == ada.categories.uncategorized()
        assert moved["version"] == 2
    assert ada.tasks.get(beside["id"]) == beside
    assert bob.tasks.get(his["id"]) == his
    assert not ada.categories.exists(work)


def test_a_category_that_is_not_deleted_keeps_its_rows(ada: Any) -> None:
    work = ada.categories.create({"name": "work"})["id"]
    row = ada.tasks.create({"title": "x", "category_id": work})
    with pytest.raises(StaleVersionError):
        ada.categories.delete(work, if_version=2)
    with pytest.raises(NotFoundError):
        ada.categories.delete(uuid4())
    assert ada.tasks.get(row["id"]) == row


def test_all_categories_but_the_one_go_together(ada: Any, bob: Any) -> None:
    for repository in (ada.categories, bob.categories):
        for name in "abc":
            repository.create({"name": name})
    row = ada.tasks.create({"title": "x", "category_id": ada.categories.search("b")[-1]["id"]})
    assert ada.categories.delete_where() == 3
    assert ada.categories.count() == 1
    assert bob.categories.count() == 4
    assert ada.session.execute(sa.select(sa.func.count()).select_from(categories)).scalar_one() == 5
    assert ada.tasks.get(row["id"])["category_id"] == ada.categories.uncategorized()


def test_a_category_is_found_by_its_name_in_any_case(ada: Any, bob: Any) -> None:
    work = ada.categories.create({"name": "Work  Place"})
    bob.categories.create({"name": "his"})
    for name in ("work place", " WORK PLACE ", "ｗｏｒｋ place"):
        assert ada.categories.by_name(name) == work
    for name in ("work", "his", "", "x" * 1000):
        assert ada.categories.by_name(name) is None
    with pytest.raises(ConfigurationError):
        ada.categories.by_name("a\x00")


def test_choices_begin_with_uncategorized_and_say_whether_there_are_more(ada: Any) -> None:
    for name in ("b", "A", "zoo"):
        ada.categories.create({"name": name})
    rows, more = ada.categories.choices()
    assert ([row["name"] for row in rows], more) == (["Uncategorized", "A", "b", "zoo"], False)
    rows, more = ada.categories.choices(limit=2)
    assert ([row["name"] for row in rows], more) == (["A", "b"], True)


def test_a_list_of_categories_is_narrowed_by_how_names_begin(ada: Any) -> None:
    for name in ("Work", "workshop", "network", "100%", "Ärzte"):
        ada.categories.create({"name": name})

    def begin(text: str) -> list[str]:
        return [row["name"] for row in ada.categories.page(sort="name", text=text).rows]

    assert begin("WORK") == ["Work", "workshop"]
    assert begin("ä") == ["Ärzte"]
    assert begin("100%") == ["100%"]
    assert begin("_") == begin("%") == []
    assert len(begin(" ")) == 6


def test_what_categories_hold_is_counted_in_one_statement_for_each_kind_of_rows(ada: Any, bob: Any) -> None:
    work, empty = (ada.categories.create({"name": name})["id"] for name in ("work", "empty"))
    bob.categories.create({"id": work, "name": "his"})
    bob.tasks.create({"title": "his", "category_id": work})
    for _ in range(2):
        ada.tasks.create({"title": "x", "category_id": work})
    ada.notes.create({"title": "x", "category_id": work})
    ada.events.create({"title": "x", "starts_at": NOON})
    unknown = uuid4()
    with statements_sent(ada.session.get_bind()) as sent:
        counts = ada.categories.counts([work, empty, unknown])
    assert len(sent) == len(CATEGORIZED)
    nothing = dict.fromkeys(CATEGORIZED, 0)
    assert counts == {work: nothing | {"tasks": 2, "notes": 1}, empty: nothing, unknown: nothing}
    assert ada.categories.counts() == {work: counts[work], ada.categories.uncategorized(): nothing | {"events": 1}}
    assert ada.categories.counts([]) == {}


def test_uncategorized_is_never_discarded(ada: Any) -> None:
    with pytest.raises(ConflictError):
        ada.categories.discard(ada.categories.uncategorized())
    ada.categories.create({"name": "work"})
    assert ada.categories.discard_where()[1] == 1
    assert [row["name"] for row in ada.categories.list()] == ["Uncategorized"]
