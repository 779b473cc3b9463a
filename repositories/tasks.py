"""Store a user's tasks."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, ClassVar

import sqlalchemy as sa

from repositories.base import values
from repositories.base.paged import AMONG
from repositories.base.repository import Conditions
from repositories.base.sorting import Row, Rows, down, up
from repositories.base.statements import Filter
from repositories.categorized import CATEGORY, IN_CATEGORY
from repositories.ordered import OrderedRepository, by_hand
from repositories.schema import PRIORITIES, STATUSES, TITLE_MAX, tasks
from tenancy.errors import ConfigurationError

DONE = STATUSES[-1]
# Tasks without a date or time sort last: NULL is replaced by the greatest value.
_DUE = sa.func.coalesce(tasks.c.due_date, sa.literal(date.max)), sa.func.coalesce(tasks.c.due_time, "24:00")


def _is(wanted: sa.ColumnElement[bool]) -> Any:
    """Return a filter that compares a condition with a flag; as numbers, since the flag may be a parameter."""
    return lambda _, flag: sa.case((wanted, 1), else_=0) == flag


class TaskRepository(OrderedRepository):
    """Read and write tasks; ``due_time`` is the owner's local time, and needs a ``due_date``."""

    table = tasks
    fields: ClassVar = {
        "title": values.line(TITLE_MAX),
        "description": values.optional(values.text()),
        "status": values.one_of(STATUSES, ", ".join(STATUSES)),
        "priority": values.whole(PRIORITIES[0], PRIORITIES[-1]),
        "due_date": values.optional(values.day),
        "due_time": values.optional(values.clock),
        "category_id": CATEGORY,
    }
    defaults: ClassVar = {
        "description": None,
        "status": STATUSES[0],
        "priority": PRIORITIES[0],
        "due_date": None,
        "due_time": None,
        "category_id": None,
    }
    filters: ClassVar = {
        "status": Filter("status", operator.eq),
        "open": Filter("status", _is(tasks.c.status != DONE), values.flag_as_number),
        "priority": Filter("priority", operator.eq),
        "priority_min": Filter("priority", operator.ge),
        "category_id": IN_CATEGORY,
        "due_before": Filter("due_date", operator.lt),
        "due_after": Filter("due_date", operator.ge),
        "no_due": Filter("due_date", _is(tasks.c.due_date.is_(None)), values.flag_as_number),
        "ids": AMONG,
    }
    searched = ("title", "description")
    sorts: ClassVar = {
        "manual": by_hand(tasks),
        "due": up(*_DUE, tasks.c.id),
        "priority": down(tasks.c.priority) + up(*_DUE, tasks.c.id),
        "newest": down(tasks.c.created_at, tasks.c.id),
        "oldest": up(tasks.c.created_at, tasks.c.id),
        "title": up(sa.func.lower(tasks.c.title), tasks.c.id),
    }

    def agenda(self, today: date, *, limit: int = 10) -> Rows:
        """Return open tasks with a date, the soonest due first: up to ``limit`` each of overdue, today and later.

        Three statements, so that many overdue tasks do not hide those due today.
        """
        tomorrow = values.day(today, "today") + timedelta(days=1)
        spans: Sequence[Row] = (
            {"due_before": today},
            {"due_after": today, "due_before": tomorrow},
            {"due_after": tomorrow},
        )
        return [row for span in spans for row in self.page(sort="due", limit=limit, open=True, **span).rows]

    def set_status(self, ids: Sequence[Any], status: str) -> int:
        """Set the status of many tasks; return how many there were."""
        return self.update_where({"status": status}, ids=ids)

    def _derived(self, row: Row) -> Row:
        """Clear the time together with the date."""
        if "due_date" in row and row["due_date"] is None:
            if row.get("due_time") is not None:
                raise _time_without_date()
            row = row | {"due_time": None}
        return super()._derived(row)

    def _allowing(self, changes: Row) -> Conditions:
        """Require a stored date for a time that is set alone, in the UPDATE itself."""
        if changes.get("due_time") is not None and "due_date" not in changes:
            return [tasks.c.due_date.is_not(None)]
        return []

    def _explain_missed(self, changes: Row) -> Exception:
        if changes.get("due_time") is not None and changes.get("due_date") is None:
            return _time_without_date()
        return super()._explain_missed(changes)


def _time_without_date() -> ConfigurationError:
    return values.refuse("due_time", "needs a due_date.")
