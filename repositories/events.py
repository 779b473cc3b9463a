"""Store a user's events, none of which ends before it starts."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time
from typing import Any, ClassVar

import sqlalchemy as sa

from repositories.base import sorting, values
from repositories.base.paged import AMONG, CHUNK
from repositories.base.repository import Conditions
from repositories.base.sorting import Page, Row, Rows, down, up
from repositories.base.statements import Filter
from repositories.categorized import CATEGORY, IN_CATEGORY, CategorizedRepository
from repositories.schema import LOCATION_MAX, TITLE_MAX, events
from tenancy.errors import ConfigurationError

# An event without a start, from raw SQL, counts as starting when it was created.
_STARTS = sa.func.coalesce(events.c.starts_at, events.c.created_at)
_ALL_DAY = events.c.all_day == sa.true()


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
        "starts_after": Filter("starts_at", operator.ge),
        "starts_before": Filter("starts_at", operator.lt),
        "ends_after": Filter("ends_at", lambda column, since: sa.func.coalesce(column, events.c.starts_at) >= since),
        "ids": AMONG,
    }
    searched = ("title", "description", "location")
    sorts: ClassVar = {
        "starts": up(_STARTS, events.c.id),
        "latest": down(_STARTS, events.c.id),
        "newest": down(events.c.created_at, events.c.id),
    }

    def between(self, start: datetime, end: datetime, *, first_day: date, last_day: date, limit: int = 500) -> Rows:
        """Return the events that overlap a span of time, by their start, with their category; one statement.

        Timed events are compared with ``[start, end)``, the span in UTC. An all-day event lasts from the UTC date of
        ``starts_at`` to that of ``ends_at``, both included, in every time zone; it is compared with ``first_day`` to
        ``last_day``, the span's days in the viewer's calendar, both included. For a month, ``start`` and ``end`` are
        ``day_bounds`` of its first day and of the day after its last, and the days are its first and last.
        """
        starts_at, ends_at = events.c.starts_at, events.c.ends_at
        since, until = values.moment(start, "start"), values.moment(end, "end")
        first, last = _day_starts(first_day, "first_day"), _day_ends(last_day, "last_day")
        timed = sa.and_(~_ALL_DAY, starts_at < until, sa.or_(starts_at >= since, ends_at > since))
        whole_days = sa.and_(_ALL_DAY, starts_at <= last, sa.or_(starts_at >= first, ends_at >= first))
        # The bound common to both lets every database stop within the index.
        return self._touching(sa.and_(starts_at <= max(until, last), sa.or_(timed, whole_days)), limit)

    def upcoming(self, now: datetime, *, today: date | None = None, limit: int = 10) -> Rows:
        """Return the events that are not over (``agenda``), the soonest first, with their category; one statement."""
        return self._touching(sa.not_(_over(now, today)), limit)

    def agenda(
        self,
        now: datetime,
        *,
        today: date | None = None,
        past: bool = False,
        limit: int = 50,
        after: Sequence[Any] | None = None,
        text: str | None = None,
        **filters: Any,
    ) -> Page:
        """Return a page of the events that are not over, the soonest first; with ``past`` of the others, latest first.

        A timed event is over when it has ended or, without an end, as soon as it has begun. An all-day event is over
        when its last day is before ``today``, the viewer's date (by default the date in UTC). The other arguments are
        those of ``page``.
        """
        over = _over(now, today)
        sort = self._sort("latest" if past else "starts")
        statement = sorting.ordered(self._narrowed(text, filters).where(over if past else sa.not_(over)), sort)
        return self._page(sorting.starting(statement, sort, after), sort, limit)

    def feed(self, since: datetime) -> Iterator[Row]:
        """Yield the events that end at ``since`` or later, by their start; one statement per 500 rows."""
        place: list[Any] | None = None
        while True:
            rows, place = self.page(sort="starts", limit=CHUNK, after=place, ends_after=since)
            yield from rows
            if place is None:
                return

    def _touching(self, condition: sa.ColumnElement[bool], limit: int) -> Rows:
        statement = self._shown().where(condition)
        return self._rows(statement.order_by(events.c.starts_at, events.c.id).limit(self._limit(limit)))

    def _derived(self, row: Row) -> Row:
        if row.get("starts_at") and row.get("ends_at") and row["ends_at"] < row["starts_at"]:
            raise _ends_too_early()
        return super()._derived(row)

    def _allowing(self, changes: Row) -> Conditions:
        """Compare a changed start or end with the stored other one, in the UPDATE itself."""
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


def _over(now: datetime, today: date | None) -> sa.ColumnElement[bool]:
    """Return the condition that an event is over, at a time that is ``today`` in the viewer's calendar."""
    at = values.moment(now, "now")
    first = _day_starts(at.date() if today is None else today, "today")
    ends_at = events.c.ends_at
    timed = sa.and_(~_ALL_DAY, at > _STARTS, sa.or_(ends_at.is_(None), ends_at <= at))
    return sa.or_(timed, sa.and_(_ALL_DAY, sa.func.coalesce(ends_at, _STARTS) < first))


def _ends_too_early() -> ConfigurationError:
    return values.refuse("ends_at", "must not be earlier than starts_at.")


def _day_starts(day: date, field: str) -> datetime:
    return datetime.combine(values.day(day, field), time.min, UTC)


def _day_ends(day: date, field: str) -> datetime:
    return datetime.combine(values.day(day, field), time.max, UTC)
