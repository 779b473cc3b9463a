"""Keep a user's tasks."""

from __future__ import annotations

import operator
from typing import ClassVar

import sqlalchemy as sa

from repositories import values
from repositories.base_user_scoped_repository import Rows
from repositories.categorized import CATEGORY, IN_CATEGORY, CategorizedRepository
from repositories.schema import PRIORITIES, STATUSES, TITLE_MAX, tasks
from repositories.statements import shown


class TaskRepository(CategorizedRepository):
    """Read and write tasks."""

    table = tasks
    fields: ClassVar = {
        "title": values.line(TITLE_MAX),
        "description": values.optional(values.text()),
        "status": values.one_of(STATUSES, ", ".join(STATUSES)),
        "priority": values.whole(PRIORITIES[0], PRIORITIES[-1]),
        "due_date": values.optional(values.day),
        "category_id": CATEGORY,
    }
    defaults: ClassVar = {
        "description": None,
        "status": STATUSES[0],
        "priority": PRIORITIES[0],
        "due_date": None,
        "category_id": None,
    }
    filters: ClassVar = {
        "status": ("status", operator.eq),
        "priority": ("priority", operator.eq),
        "category_id": IN_CATEGORY,
        "due_before": ("due_date", operator.lt),
        "due_after": ("due_date", operator.ge),
    }
    searched = ("title", "description")

    def agenda(self, *, limit: int = 10) -> Rows:
        """Give the tasks that are not done, the soonest due first and those without a date last."""
        undated = sa.case((tasks.c.due_date.is_(None), 1), else_=0)  # where NULL sorts differs from engine to engine
        statement = self.apply_user_filter(sa.select(*shown(tasks))).where(tasks.c.status != STATUSES[-1])
        order = undated, tasks.c.due_date, tasks.c.created_at, tasks.c.id
        return self._rows(statement.order_by(*order).limit(self._limit(limit)), {})
