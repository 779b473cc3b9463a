"""Do the jobs that back up, verify, prune and restore; ``backup_jobs.py`` adds them.

Each is safe to repeat, as a job that is killed runs again: a backup of all goes on with those that are missing, and a
restore begins anew unless it came as far as its switch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tenancy import names
from tenancy.archive.export import Progress
from tenancy.catalog import Catalog, tenants, users
from tenancy.catalog.backups import BackupFilter
from tenancy.errors import (
    ArchiveDamagedError,
    ArchiveError,
    ArchiveKeyError,
    ArchiveSignatureError,
    BackupNotFoundError,
    ConfigurationError,
    NewerRowsError,
    RestoreDoneError,
    RevisionMismatchError,
    TenancyError,
)
from tenancy.jobs.backup_jobs import BACKUP, PRUNE, RESTORE, UNDO, VERIFY
from tenancy.jobs.kinds import FINAL, Argument, Kind
from tenancy.jobs.run import JobRun
from tenancy.lifecycle.restore import Restores
from tenancy.lifecycle.retention import EXAMPLE, Keep
from tenancy.lifecycle.stored_backups import Backups

NewUser = Callable[[str, UUID, Progress, Callable[[], None]], int]
"""Make an account with the rows of a backup; return the user's id."""

_USER = Argument("user", "The user, by id or address.", positional=True)
_BACKUP = Argument("backup", "The id of the backup, its first 8 digits at least, or latest.", positional=True)
_FINAL = (
    *FINAL,
    ArchiveDamagedError,
    ArchiveKeyError,
    ArchiveSignatureError,
    BackupNotFoundError,
    NewerRowsError,
    RevisionMismatchError,
)


@dataclass
class BackupWork:
    """Handle the jobs; ``new_user`` is given by whoever has accounts."""

    catalog: Catalog
    backups: Backups
    restores: Restores
    new_user: NewUser | None = None

    def kinds(self) -> list[Kind]:
        """Return the kinds of jobs about backups."""
        switches = (
            Argument("all", "Every user's database.", "switch"),
            Argument("catalog", "The catalog itself.", "switch"),
        )
        return [
            Kind(
                BACKUP,
                "Back up one user's database, all of them, or the catalog.",
                self.backup,
                (_USER, *switches),
                final=_FINAL,
                check=_one_of_three,
            ),
            Kind(
                VERIFY,
                "Check that a backup, or every backup that never was checked, is whole.",
                self.verify,
                (
                    _BACKUP,
                    Argument("by_restoring", "Load it into a scratch database as well.", "switch"),
                    Argument("again", "Also those that were checked before.", "switch"),
                ),
                final=_FINAL,
            ),
            Kind(
                PRUNE,
                "Delete the backups that a rule does not keep.",
                self.prune,
                (Argument("keep", f"What is kept, such as {EXAMPLE}.", required=True),),
                final=_FINAL,
                check=lambda given: _readable(given["keep"]),
            ),
            Kind(
                RESTORE,
                "Put a user's database back to a backup.",
                self.restore,
                (
                    Argument("user", "The user, by id or address.", positional=True, required=True),
                    Argument("backup", _BACKUP.meaning, positional=True, required=True),
                    Argument("only_tables", "Only these tables, with commas between them."),
                    Argument("as_new_user", "Make a new account of this address instead."),
                ),
                final=_FINAL,
                schedulable=False,
            ),
            Kind(
                UNDO,
                "Undo a user's last restore.",
                self.undo,
                (
                    Argument("user", "The user, by id or address.", positional=True, required=True),
                    Argument("discard_newer", "Although rows were written since.", "switch"),
                ),
                final=_FINAL,
                schedulable=False,
            ),
        ]

    def backup(self, run: JobRun, given: Mapping[str, Any]) -> dict[str, Any]:
        if "all" in given:
            return self._all(run)
        made = (
            self.backups.create_catalog(progress=run.progress, check=run.check)
            if "catalog" in given
            else self.backups.create(self._user(given["user"]), progress=run.progress, check=run.check)
        )
        return {"backup_id": str(made.id), "rows": made.row_count, "size_bytes": made.size_bytes}

    def verify(self, run: JobRun, given: Mapping[str, Any]) -> dict[str, Any]:
        by_restoring = "by_restoring" in given
        if "backup" in given:
            found = self.backups.verify(
                self.backups.find(given["backup"]).id, by_restoring=by_restoring, check=run.check
            )
            if found.error is not None:
                raise found.error
            return {"backup_id": str(found.backup.id), "how": found.how}
        done = self.backups.verify_all(
            lambda each: _say(run, each.ok, str(each.backup.id), each.error),
            again="again" in given,
            by_restoring=by_restoring,
            check=run.check,
        )
        return _counted(run, "damaged", [each.ok for each in done])

    def prune(self, run: JobRun, given: Mapping[str, Any]) -> dict[str, Any]:
        found = self.backups.prune(given["keep"], dry_run=False, check=run.check)
        for name, why in found.staying:
            run.log(f"{name} stays: {why}")
        gone = len(found.backups) + len(found.partial) - len(found.staying)
        return {"deleted": gone, "staying": len(found.staying)}

    def restore(self, run: JobRun, given: Mapping[str, Any]) -> dict[str, Any]:
        user_id = self._user(given["user"])
        backup = self.backups.find(given["backup"], BackupFilter(user_id=user_id))
        if "as_new_user" in given:
            if self.new_user is None:
                raise ConfigurationError("this worker makes no accounts: run it on the server.", field="as_new_user")
            return {"user_id": self.new_user(given["as_new_user"], backup.id, run.progress, run.check)}
        tables = [name.strip() for name in given.get("only_tables", "").split(",") if name.strip()]
        try:
            done = self.restores.restore(
                user_id, backup.id, only_tables=tables, key=_key(run), progress=run.progress, check=run.check
            )
        except RestoreDoneError as before:
            return _done_before(run, before)
        return {"rows": done.rows, "kept": done.kept.id if done.kept else None}

    def undo(self, run: JobRun, given: Mapping[str, Any]) -> dict[str, Any]:
        run.check()
        discard = "discard_newer" in given
        try:
            done = self.restores.undo(self._user(given["user"]), discard_newer=discard, key=_key(run))
        except RestoreDoneError as before:
            return _done_before(run, before)
        return {"newer_rows": done.written.rows, "kept": done.kept.id if done.kept else None}

    def _all(self, run: JobRun) -> dict[str, Any]:
        total = self._count()
        done = 0

        def tell(result: Any) -> None:
            nonlocal done
            done += 1
            run.progress(done, total)
            _say(run, result.ok, f"user {result.user_id}", result.error)

        since = run.job.created_at if run.attempt > 1 else None
        return _counted(
            run, "failed", [each.ok for each in self.backups.create_all(tell, since=since, check=run.check)]
        )

    def _count(self) -> int:
        with self.catalog.reading() as connection:
            return tenants.count(connection, [])

    def _user(self, reference: str) -> int:
        found = names.user_reference(reference)
        if isinstance(found, int):
            return found
        with self.catalog.reading() as connection:
            return users.by_email(connection, found).id


def _say(run: JobRun, ok: bool, what: str, error: TenancyError | None) -> None:
    if not ok:
        run.log(f"{what}: {error.message if error else 'failed'}")


def _counted(run: JobRun, word: str, each: list[bool]) -> dict[str, Any]:
    """Return how many went well; where any did not, fail, so that the job is tried again and seen."""
    bad = each.count(False)
    if bad:
        raise ArchiveError(f"{bad} of {len(each)} {word}: the job's log names them.")
    return {"good": len(each)}


def _key(run: JobRun) -> str:
    return f"job {run.job_id}"


def _done_before(run: JobRun, before: RestoreDoneError) -> dict[str, Any]:
    run.log(before.message)
    return {"done_before": True}


def _one_of_three(given: Mapping[str, Any]) -> None:
    if len(given.keys() & {"user", "all", "catalog"}) != 1:
        raise ConfigurationError(f"{BACKUP} needs one of USER, --all and --catalog.", field="user")


def _readable(rule: str) -> None:
    Keep.read(rule)
