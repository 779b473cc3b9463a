"""Keep a user's events, none of which ends before it starts."""

from __future__ import annotations

import operator
from datetime import datetime
from typing import ClassVar

import sqlalchemy as sa

from repositories import values
from repositories.base_user_scoped_repository import Row, Rows
from repositories.categorized import CATEGORY, IN_CATEGORY, CategorizedRepository
from repositories.schema import LOCATION_MAX, TITLE_MAX, events
from repositories.statements import shown
from tenancy.errors import ConfigurationError


class EventRepository(CategorizedRepository):
    """Read and write events."""

    table = events
    fields: ClassVar = {
        "title": values.line(TITLE_MAX),
        "description": values.optional(values.text()),
        "location": values.optional(values.text(LOCATION_MAX)),
        "starts_at": values.moment,
        "ends_at": values.optional(values.moment),
        "all_day": values.flag,
        "category_id": CATEGORY,
    }
    defaults: ClassVar = {
        "description": None,
        "location": None,
        "ends_at": None,
        "all_day": False,
        "category_id": None,
    }
    filters: ClassVar = {
        "category_id": IN_CATEGORY,
        "starts_after": ("starts_at", operator.ge),
        "starts_before": ("starts_at", operator.lt),
    }
    searched = ("title", "description", "location")

    def upcoming(self, since: datetime, *, limit: int = 10) -> Rows:
        """Give the events that start at a moment or after it, the soonest first."""
        starts_at = events.c.starts_at
        statement = self.apply_user_filter(sa.select(*shown(events)))
        statement = statement.where(starts_at >= values.moment(since, "since"))
        return self._rows(statement.order_by(starts_at, events.c.id).limit(self._limit(limit)), {})

    def _derived(self, row: Row) -> Row:
        if row.get("starts_at") and row.get("ends_at") and row["ends_at"] < row["starts_at"]:
            raise _ends_too_early()
        return super()._derived(row)

    def _allowing(self, changes: Row) -> list[sa.ColumnElement[bool]]:
        """Hold the end that changes against the one that stays, in the statement that writes."""
        starts_at, ends_at = events.c.starts_at, events.c.ends_at
        if "starts_at" in changes and "ends_at" not in changes:
            return [sa.or_(ends_at.is_(None), ends_at >= changes["starts_at"])]
        if changes.get("ends_at") and "starts_at" not in changes:
            return [sa.or_(starts_at.is_(None), starts_at <= changes["ends_at"])]
        return []

    def _explain_missed(self, changes: Row) -> Exception:
        if changes["starts_at"] and changes["ends_at"] and changes["ends_at"] < changes["starts_at"]:
            return _ends_too_early()
        return super()._explain_missed(changes)


def _ends_too_early() -> ConfigurationError:
    return values.refuse("ends_at", "must not be earlier than starts_at.")
