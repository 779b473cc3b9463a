"""Add the jobs that back up, verify, prune and restore: what pages and programs call as ``manager.backup_jobs``.

The same work is not added twice: while a job for it is unfinished, that one is returned. Other work of that sort on the
same database is refused meanwhile, so that nobody asks for one restore and is shown another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from tenancy.archive.backup_settings import BackupSettings
from tenancy.catalog import jobs as rows
from tenancy.catalog.jobs import Job
from tenancy.errors import JobNotFoundError, JobStateError
from tenancy.jobs.queue import Jobs
from tenancy.lifecycle.retention import Keep
from tenancy.names import MAX_USER_ID

BACKUP, RESTORE, UNDO, VERIFY, PRUNE = "backup", "restore", "undo", "verify", "prune"
OF_A_USER = (BACKUP, RESTORE, UNDO)
"""The kinds whose argument ``user`` names the user whose database they work on."""


class BackupJobs:
    """Add jobs; workers do the work."""

    def __init__(self, jobs: Jobs, settings: BackupSettings) -> None:
        self._jobs = jobs
        self._settings = settings

    def backup(self, user_id: int) -> Job:
        """Back up one user's database; ArchiveKeyError where no key encrypts backups, as for all that make some."""
        self._check_complete()
        return self._add(BACKUP, {"user": str(user_id)}, f"backup {user_id}")

    def backup_all(self) -> Job:
        self._check_complete()
        return self._add(BACKUP, {"all": True}, "backup all")

    def backup_catalog(self) -> Job:
        self._check_complete()
        return self._add(BACKUP, {"catalog": True}, "backup catalog")

    def verify(self, backup_id: UUID, *, by_restoring: bool = False) -> Job:
        """Read a backup through, or load it into a database of its own and compare that."""
        given = {"backup": str(backup_id), "by_restoring": by_restoring}
        return self._add(VERIFY, given, f"verify {backup_id} {by_restoring}")

    def prune(self, keep: str) -> Job:
        """Delete the backups that a rule does not keep; ConfigurationError says what is wrong with the rule."""
        Keep.read(keep)
        return self._add(PRUNE, {"keep": keep}, "prune")

    def restore(
        self, user_id: int, backup_id: UUID, *, only_tables: Sequence[str] = (), as_new_user: str | None = None
    ) -> Job:
        """Put a user's database, or some of its tables, back to a backup; or make a new account with its rows.

        ArchiveKeyError where this machine has no key that opens backups.
        """
        self._settings.identities()
        given = {"user": str(user_id), "backup": str(backup_id)}
        given |= {"only_tables": ",".join(only_tables), "as_new_user": as_new_user or ""}
        return self._add(RESTORE, given, f"restore {user_id}")

    def undo(self, user_id: int, *, discard_newer: bool = False) -> Job:
        """Undo a user's last restore."""
        return self._add(UNDO, {"user": str(user_id), "discard_newer": discard_newer}, f"restore {user_id}")

    def unfinished(self, user_id: int) -> list[Job]:
        """List the jobs that work on a user's database, or wait for it."""
        with self._jobs.catalog.reading() as connection:
            return rows.unfinished(connection, [f"backup {user_id}", f"restore {user_id}"])

    def of_user(self, user_id: int, job_id: int) -> Job:
        """Return a job that works on this user's database; JobNotFoundError for every other one."""
        job = self._jobs.get(job_id) if 0 < job_id <= MAX_USER_ID else None
        if job is None or job.kind not in OF_A_USER or job.arguments.get("user") != str(user_id):
            raise JobNotFoundError(f"no job {job_id} works on the database of user {user_id}.", job_id=job_id)
        return job

    def _check_complete(self) -> None:
        self._settings.encrypt_to()
        self._settings.signing().sign(b"")

    def _add(self, kind: str, given: Mapping[str, Any], key: str) -> Job:
        asked = {name: value for name, value in given.items() if value}
        job = self._jobs.add(kind, asked, key=key)
        if job.kind != kind or job.arguments != asked:
            raise JobStateError(
                f"job {job.id} ({job.kind}) is at work there already: wait until it ends, or cancel it "
                f"(`unify jobs cancel {job.id}` or `manager.jobs.cancel({job.id})`).",
                job_id=job.id,
            )
        return job
