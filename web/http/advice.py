"""Translate errors of the layers below for the users of the application.

Those layers write their messages for operators: they name commands, servers and revisions. The console and the JSON
API show them unchanged. Every other page shows the text of this table instead, and what the user can do. Users who
run their own database are shown the original message of an error of that database.
"""

from __future__ import annotations

from typing import NamedTuple

from tenancy.errors import BackendError, TenancyError, TenantNotReadyError
from tenancy.models import Origin, State, Tenant

WAIT = (
    "This is usually temporary: wait a moment, then try again. If it keeps happening, tell the operator of this site."
)
LATER = "Try again in a few minutes. If that does not help, tell the operator of this site."
PASSING = frozenset({WAIT, LATER})
"""What to do about errors that may pass by themselves."""

ASK = "Trying again will not help: please tell the operator of this site."
SETTINGS = "Set it up under “Your database” in Settings."
SUSPENDED = "To use it again, ask an administrator of this site."
OWN = "You run this database yourself, so please check its server."


class Advice(NamedTuple):
    """What an error means for a user, and what they can do."""

    means: str
    do: str


STATES: dict[str, Advice] = {
    State.PROVISIONING: Advice("Your database is being set up.", WAIT),
    State.MIGRATING: Advice("Your database is being upgraded.", WAIT),
    State.MOVING: Advice("Your database is being replaced, by a backup or by another database.", WAIT),
    State.READ_ONLY: Advice("Your data can be read but not changed at the moment.", WAIT),
    State.SUSPENDED: Advice("An administrator has suspended your database. Nothing is lost.", SUSPENDED),
    State.FAILED: Advice("The last operation on your database failed.", f"{SETTINGS} Nothing in it is lost."),
    State.ARCHIVED: Advice(
        "Your database is being deleted and cannot be restored.",
        "Once it is gone, you can create a new, empty one under “Your database” in Settings. If this takes long, tell "
        "the operator of this site.",
    ),
}
"""What each state of a database means for its user."""

CODES: dict[str, Advice] = {
    "tenant_not_found": Advice("You have no database yet, so your data cannot be saved.", SETTINGS),
    "tenant_not_ready": Advice("Your database is not ready.", ASK),
    "tenant_busy": Advice("Another operation is running on your database.", WAIT),
    "tenant_crowded": Advice("Your database cannot keep up with your requests.", WAIT),
    "claim_lost": Advice("Another operation ran on your database at the same time.", WAIT),
    "account_error": Advice("This account cannot do what was asked.", ASK),
    "job_state": Advice("Something else that you asked for is under way, or waits for its turn.", WAIT),
    "newer_rows": Advice(
        "Rows were written since the restore, so it was not undone.",
        "Undo it again, and confirm that you will not see those rows afterwards.",
    ),
    "no_server": Advice("There is no room for another database.", ASK),
    "catalog_error": Advice("The catalog, which holds all accounts, could not do what was asked.", ASK),
    "catalog_not_ready": Advice(
        "The catalog cannot be reached or is not ready. It holds all accounts, so nobody can work here at the moment.",
        WAIT,
    ),
    "catalog_damaged": Advice("The catalog's record of your database is damaged.", ASK),
    "audit_broken": Advice("The audit log is damaged, so nothing can be changed.", ASK),
    "credential_error": Advice("Your database cannot be opened, because its password cannot be read.", ASK),
    "backend_error": Advice("Your database refused the request.", ASK),
    "database_unreachable": Advice("Your database is not answering at the moment.", WAIT),
    "database_missing": Advice("Your database is missing. No empty one is created in its place.", ASK),
    "database_busy": Advice("Your database is busy at the moment.", WAIT),
    "access_denied": Advice("Your database refuses access to this site.", ASK),
    "storage_full": Advice("The disk of the server is full, so what you sent was not saved.", ASK),
    "provision_failed": Advice("Your database could not be set up.", ASK),
    "migration_failed": Advice("Your database could not be upgraded.", ASK),
    "revision_mismatch": Advice(
        "Your database does not match this version of the site. Most likely it is being upgraded.", LATER
    ),
    "archive_damaged": Advice("This backup is damaged, so nothing was done with it.", ASK),
    "archive_signature": Advice("This backup was not made by this site, so nothing was done with it.", ASK),
    "backup_exists": Advice("This backup exists already, and no backup is ever written over.", ASK),
    "storage_unavailable": Advice("The storage of backups is not answering at the moment.", WAIT),
    "storage_refused": Advice("The storage of backups refused the request.", ASK),
    "job_cancelled": Advice("This was cancelled.", LATER),
    "job_stopped": Advice("This was put off, because the server restarts. It goes on by itself.", WAIT),
    "identity_mismatch": Advice("Another database is in the place of yours, so nothing of it is shown.", ASK),
    "stale_route": Advice(
        "Your database was replaced, suspended or upgraded in the meantime, so nothing was saved.", WAIT
    ),
    "read_only": Advice("Your data can be read but not changed at the moment.", WAIT),
    "unfenced": Advice("This could not be saved safely, so nothing was.", ASK),
}
"""What each error code means for a user."""

_LIKE = {
    "connection_refused": "database_unreachable",
    "database_timeout": "database_unreachable",
    "too_many_connections": "database_busy",
    "login_refused": "access_denied",
    "credential_key_unknown": "credential_error",
    "credential_tampered": "credential_error",
}
CODES |= {code: CODES[like] for code, like in _LIKE.items()}

OTHER = Advice("This cannot be done at the moment.", ASK)


def to_person(error: TenancyError, tenant: Tenant | None = None) -> Advice:
    """Return the advice for an error of the database of the user (``tenant``) who sees it."""
    state = error.fields.get("state")
    if isinstance(error, TenantNotReadyError) and state in STATES:
        return STATES[str(state)]
    return of_code(error.code, error.message, tenant if isinstance(error, BackendError) else None)


def of_code(code: str, message: str, tenant: Tenant | None = None) -> Advice:
    """Return the advice for an error code; users who run the database themselves see the original message."""
    found = CODES.get(code, OTHER)
    if tenant is None or tenant.origin != Origin.USER:
        return found
    return Advice(message, found.do if found.do in PASSING else OWN)


def of_failure(tenant: Tenant) -> str:
    """Say why the last operation on a database failed, from what the catalog recorded."""
    known = CODES.get(tenant.last_error_code or "")
    if known is None or tenant.origin == Origin.USER:
        return tenant.last_error or STATES[State.FAILED].means
    return known.means
