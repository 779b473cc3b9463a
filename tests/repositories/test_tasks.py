"""What is to be done next, at what time, and many tasks changed at once."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from repositories.errors import ConflictError, NotFoundError
from tenancy.errors import ConfigurationError
from tests.repositories.conftest import statements_sent
from tests.support.engines import on_sqlite

TODAY = date(2024, 2, 29)
DAY = timedelta(days=1)


def titles(rows: list[dict[str, Any]]) -> list[str]:
    return [row["title"] for row in rows]


def test_the_agenda_has_what_is_overdue_then_today_then_later_and_nothing_that_is_done(ada: Any, bob: Any) -> None:
    for days in (2, -1, 0, 1, -2):
        ada.tasks.create({"title": f"{days:+}", "due_date": TODAY + days * DAY})
    ada.tasks.create({"title": "undated"})
    ada.tasks.create({"title": "done", "due_date": TODAY, "status": "done"})
    ada.tasks.create({"title": "begun", "due_date": TODAY, "due_time": "08:00", "status": "doing"})
    bob.tasks.create({"title": "his", "due_date": TODAY})
    with statements_sent(ada.session.get_bind()) as sent:
        assert titles(ada.tasks.agenda(TODAY)) == ["-2", "-1", "begun", "+0", "+1", "+2"]
    assert len(sent) == 3
    assert titles(ada.tasks.agenda(TODAY, limit=1)) == ["-2", "begun", "+1"]
    assert ada.tasks.agenda(TODAY)[0]["category_name"] == "Uncategorized"
    with pytest.raises(ConfigurationError):
        ada.tasks.agenda("2024-02-29")


def test_a_time_of_day_comes_back_and_goes_with_its_date(ada: Any) -> None:
    task = ada.tasks.create({"title": "x", "due_date": TODAY, "due_time": "09:05"})
    assert ada.tasks.get(task["id"])["due_time"] == task["due_time"] == "09:05"
    assert ada.tasks.update(task["id"], {"due_time": "23:59"})["due_time"] == "23:59"
    assert ada.tasks.update(task["id"], {"due_date": TODAY + DAY})["due_time"] == "23:59"
    assert ada.tasks.update(task["id"], {"due_date": None})["due_time"] is None


def test_a_time_of_day_needs_a_date(ada: Any) -> None:
    task = ada.tasks.create({"title": "x"})
    for act in (
        lambda: ada.tasks.create({"title": "y", "due_time": "09:00"}),
        lambda: ada.tasks.update(task["id"], {"due_time": "09:00"}),
        lambda: ada.tasks.update(task["id"], {"due_time": "09:00", "due_date": None}),
    ):
        with pytest.raises(ConfigurationError) as refusal:
            act()
        assert refusal.value.field == "due_time"
    assert ada.tasks.update_where({"due_time": "09:00"}) == 0
    assert ada.tasks.update(task["id"], {"due_time": "09:00", "due_date": TODAY})["due_time"] == "09:00"


@on_sqlite
@pytest.mark.parametrize("time", ["", "9:00", "24:00", "12:60", "12:00:00", "noon", 900, "12:00\n", "１２:00"])
def test_a_time_that_no_clock_shows_is_refused(ada: Any, time: Any) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        ada.tasks.create({"title": "x", "due_date": TODAY, "due_time": time})
    assert refusal.value.field == "due_time"


def test_many_tasks_get_a_status_in_one_statement(ada: Any) -> None:
    ids = [ada.tasks.create({"title": str(number)})["id"] for number in range(3)]
    with statements_sent(ada.session.get_bind()) as sent:
        assert ada.tasks.set_status(ids[:2], "done") == 2
    assert len(sent) == 1
    assert [row["status"] for row in ada.tasks.list()] == ["done", "done", "todo"]
    assert ada.tasks.set_status([], "done") == 0
    with pytest.raises(ConfigurationError):
        ada.tasks.set_status(ids, "later")


def test_filters_of_the_page_say_open_dated_and_important(ada: Any) -> None:
    for number, status in enumerate(["todo", "doing", "done"]):
        due = TODAY if status != "doing" else None
        ada.tasks.create({"title": status, "status": status, "priority": number, "due_date": due})

    def shown(**filters: Any) -> list[str]:
        assert ada.tasks.count(**filters) == len(ada.tasks.list(**filters))
        assert titles(ada.tasks.page(sort="oldest", **filters).rows) == titles(ada.tasks.list(**filters))
        return titles(ada.tasks.list(**filters))

    assert shown(open=True) == ["todo", "doing"]
    assert shown(open=False) == ["done"]
    assert shown(no_due=True) == ["doing"]
    assert shown(no_due=False, open=True) == ["todo"]
    assert shown(priority_min=1) == ["doing", "done"]
    assert shown(ids=[]) == []
    assert shown(open=None, ids=None) == ["todo", "doing", "done"]


@on_sqlite
@pytest.mark.parametrize("ids", ["x", ["x"], [None], 7, [0], ["0" * 32] * 201], ids=lambda ids: type(ids).__name__)
def test_ids_that_cannot_be_are_refused(ada: Any, ids: Any) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        ada.tasks.update_where({"status": "done"}, ids=ids)
    assert refusal.value.field == "ids"


def test_a_task_that_is_there_twice_is_a_conflict_and_one_that_is_gone_is_not_found(ada: Any) -> None:
    task = ada.tasks.create({"title": "x"})
    batch = ada.tasks.discard(task["id"])
    with pytest.raises(NotFoundError):
        ada.tasks.get(task["id"])
    ada.tasks.create({"id": task["id"], "title": "again"})
    with pytest.raises(ConflictError):
        ada.bin.restore(batch)
