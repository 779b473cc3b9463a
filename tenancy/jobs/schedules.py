"""Add and remove schedules, and start the jobs of those that are due: ``manager.schedules``.

A schedule that was due several times while no worker ran starts one job, not one for each time. While a job of a
schedule is unfinished, the schedule starts no other: the next time finds the one that is there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import sqlalchemy as sa

from tenancy import context
from tenancy.catalog import now, schedules
from tenancy.catalog.schedules import Schedule
from tenancy.errors import ConfigurationError
from tenancy.jobs.cron import Cron
from tenancy.jobs.queue import Jobs

log = logging.getLogger(__name__)


class Schedules:
    """Hold the schedules of an installation."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.catalog = jobs.catalog

    def add(
        self,
        cron: str,
        kind: str,
        arguments: Mapping[str, Any] | None = None,
        zone: str = "UTC",
        *,
        actor_id: int | None = None,
    ) -> Schedule:
        """Add a schedule: five fields of cron by the clocks of a zone, and the kind and arguments of its jobs."""
        checked = self.jobs.kinds.to_schedule(kind).checked(arguments or {})
        times = Cron.read(cron, zone)
        values: dict[str, Any] = {"cron": " ".join(cron.split()), "zone": zone, "kind": kind, "arguments": checked}
        values["actor_id"] = actor_id if actor_id is not None else context.current().actor_id

        def work(connection: sa.Connection) -> Schedule:
            added = schedules.add(connection, values | {"next_due_at": times.after(now(connection))})
            self._announce(connection, "schedule.add", added)
            return added

        return self.catalog.repeating(work)

    def listed(self) -> list[Schedule]:
        """List all schedules, oldest first."""
        with self.catalog.reading() as connection:
            return schedules.every(connection)

    def get(self, schedule_id: int) -> Schedule:
        with self.catalog.reading() as connection:
            return schedules.get(connection, schedule_id)

    def remove(self, schedule_id: int) -> Schedule:
        """Remove and return a schedule; a job that it has started goes on."""

        def work(connection: sa.Connection) -> Schedule:
            removed = schedules.remove(connection, schedule_id)
            self._announce(connection, "schedule.remove", removed)
            return removed

        return self.catalog.repeating(work)

    def start_due(self) -> list[int]:
        """Start the jobs of all schedules whose time has come; return the jobs' ids."""
        with self.catalog.reading() as connection:
            due = schedules.due(connection)
        started = [self.catalog.repeating(partial(self._start, seen=seen)) for seen in due if self._is_ours(seen)]
        return [job_id for job_id in started if job_id is not None]

    def correct(self) -> None:
        """Bring back the next time of schedules that was written while the catalog's clock was ahead."""
        with self.catalog.reading() as connection:
            found, moment = schedules.every(connection), now(connection)
        for seen in found:
            if self._is_ours(seen) and seen.next_due_at > (due := Cron.read(seen.cron, seen.zone).after(moment)):
                with self.catalog.writing() as connection:
                    schedules.advance(connection, seen, due)

    def _start(self, connection: sa.Connection, seen: Schedule) -> int | None:
        """Insert a schedule's job and write its next time, unless another worker was first."""
        following = Cron.read(seen.cron, seen.zone).after(now(connection))
        if not schedules.advance(connection, seen, following):
            return None
        more: dict[str, Any] = {"actor_id": seen.actor_id, "schedule_id": seen.id, "key": f"schedule {seen.id}"}
        job = self.jobs.put(connection, self.jobs.described(seen.kind, seen.arguments, **more))
        schedules.started(connection, seen.id, job.id)
        return job.id

    def _is_ours(self, seen: Schedule) -> bool:
        """Return whether this process can start a schedule's jobs; one of a later version is left to its workers."""
        try:
            Cron.read(seen.cron, seen.zone)
            self.jobs.kinds.to_schedule(seen.kind).checked(seen.arguments)
        except ConfigurationError as error:
            log.warning("schedule %d is passed over: %s", seen.id, error.message)
            return False
        return True

    def _announce(self, connection: sa.Connection, action: str, schedule: Schedule) -> None:
        names = ("cron", "zone", "kind", "arguments")
        detail = {"schedule": schedule.id} | {name: getattr(schedule, name) for name in names}
        self.catalog.audit.append(connection, action, detail=detail)
