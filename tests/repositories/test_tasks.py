"""The agenda: what is to be done next."""

from __future__ import annotations

from datetime import date
from typing import Any


def test_the_agenda_has_undated_tasks_last_and_done_ones_not_at_all(ada: Any, bob: Any) -> None:
    ada.tasks.create({"title": "undated"})
    ada.tasks.create({"title": "later", "due_date": date(2024, 3, 1)})
    ada.tasks.create({"title": "sooner", "due_date": date(2024, 2, 29), "status": "doing"})
    ada.tasks.create({"title": "done", "due_date": date(2024, 1, 1), "status": "done"})
    bob.tasks.create({"title": "his", "due_date": date(2024, 1, 1)})
    assert [row["title"] for row in ada.tasks.agenda()] == ["sooner", "later", "undated"]
    assert [row["title"] for row in ada.tasks.agenda(limit=1)] == ["sooner"]
