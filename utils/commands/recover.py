"""Hold ``unify recover``: bring the whole system back on an empty machine, from backups and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from utils.output import Failed, complain, counted, say, show
from utils.parameters import answering
from utils.toolbox import Toolbox

if TYPE_CHECKING:
    from tenancy.fleet.recovery import Report
    from tenancy.fleet.tenant_recovery import Result


@click.command()
@click.option("--from", "url", metavar="URL", help="Where the backups lie: a folder, s3://...; by default BACKUP_URL.")
@click.option("--adopt", is_flag=True, help="Take databases that are newer than the recovered catalog as they are.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@answering
def recover(toolbox: Toolbox, url: str | None, adopt: bool, dry_run: bool, as_json: bool) -> None:
    """Bring catalog and databases back from backups; what is there is kept; run it again to finish.

    ADMIN_DATABASE_URL must lead to an empty database or none. The keys of the installation must be in the settings:
    TENANT_CREDENTIAL_KEYS, AUDIT_KEY, BACKUP_SIGNING_KEYS, and BACKUP_IDENTITY_FILE or BACKUP_PASSPHRASE.
    """
    if url is not None:
        toolbox.read_backups_from(url)

    def told(result: Result) -> None:
        if not as_json:
            complain(_line(result))

    report = toolbox.parts.manager.recovery.run(adopt=adopt, dry_run=dry_run, on_tenant=told)
    show(as_json, report.to_dict(), lambda: _tell(report))
    if not report.ended and not dry_run:
        raise Failed("not everything could be reached: run the same command again when it can be.")


def _line(result: Result) -> str:
    why = f": {result.why}" if result.why else ""
    return f"User {result.tenant.user_id}: {result.outcome}{why}"


def _tell(report: Report) -> None:
    catalog = report.catalog
    would = "would come" if report.dry_run else "comes"
    say(f"The catalog {would} from backup {catalog['backup_id']}, made at {catalog['made_at']}.")
    say(
        f"Ended: {counted(catalog['sessions'], 'session')}, {counted(len(catalog['claims']), 'claim')}. "
        f"Held until `unify keys confirm`: {counted(catalog['keys'], 'key')}. No user gets an id up to "
        f"{report.highest_user}."
    )
    _list("Cancelled, as it may have been done since", [f"job {job['id']} ({job['kind']})" for job in catalog["jobs"]])
    _list("Paused", [f"fleet run {run}" for run in catalog["runs"]])
    _list("Deleted since, and again", [f"the database of user {each['user_id']}" for each in catalog["deleted"]])
    _list("No longer listed, as it may be in use by now", catalog["forgotten"])
    _list("Not believed", report.ignored)
    _list("Did not answer", report.silent)
    _list("Has backups, and is not in the catalog", [_named(each) for each in report.unknown])
    counts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(report.counts.items()))
    say(f"Databases: {counts or 'none'}.")


def _named(unknown: dict[str, Any]) -> str:
    return f"tenant {unknown['tenant_id']} of user {unknown['user_id']}, last backed up {unknown['made_at']}"


def _list(what: str, lines: list[str]) -> None:
    for line in lines:
        say(f"{what}: {line}")
