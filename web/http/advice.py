"""Say to whoever works with the application, not to its operator, what an error of the layers below means for them.

The messages of those layers are for operators: they name commands, servers and revisions. The console shows them as
they are, and so do programs' answers; a person gets the words of this table and what can be done about it. Whoever
runs the database they work in reads what that database said.
"""

from __future__ import annotations

from typing import NamedTuple

from tenancy.errors import BackendError, TenancyError, TenantNotReadyError
from tenancy.models import Origin, State, Tenant

WAIT = "This usually passes: wait a moment, then try again. If it does not, tell the operator of this installation."
ASK = "Trying again does not help: tell the operator of this installation."
SETTINGS = "“Your database” in Settings sets it up."
OWN = "You run this database yourself: look at it there."


class Advice(NamedTuple):
    """Hold what an error means for a person, and what they can do."""

    means: str
    do: str


STATES: dict[str, Advice] = {
    State.PROVISIONING: Advice("Your database is being set up.", WAIT),
    State.MIGRATING: Advice("Your database is being brought up to date.", WAIT),
    State.MOVING: Advice("Your database is being moved.", WAIT),
    State.READ_ONLY: Advice("Your rows can be read and not changed at present.", WAIT),
    State.SUSPENDED: Advice("Your database is suspended: an administrator has stopped all work on it.", ASK),
    State.FAILED: Advice("The last work on your database failed.", f"{SETTINGS[:-1]} again; nothing in it is lost."),
    State.ARCHIVED: Advice(
        "Your database is being deleted, and cannot be brought back.",
        "Once it is gone, “Your database” in Settings makes a new, empty one. If that takes long, tell the operator "
        "of this site.",
    ),
}
"""Say what a state of the database means for its user."""

CODES: dict[str, Advice] = {
    "tenant_not_found": Advice("You have no database yet, so there is nowhere to keep your rows.", SETTINGS),
    "tenant_not_ready": Advice("Your database is not ready.", ASK),
    "tenant_busy": Advice("Somebody else works on your database at this moment.", WAIT),
    "tenant_crowded": Advice("Your database does not keep up with your requests.", WAIT),
    "claim_lost": Advice("Somebody else worked on your database at the same time.", WAIT),
    "account_error": Advice("This account cannot do what was asked.", ASK),
    "no_server": Advice("There is no room here for another database.", ASK),
    "catalog_error": Advice("The catalog, which knows all accounts, could not do what was asked.", ASK),
    "catalog_not_ready": Advice(
        "The catalog cannot be reached or is not ready. It knows all accounts, so nobody can work here at present.",
        WAIT,
    ),
    "catalog_damaged": Advice("What the catalog knows of your database is damaged.", ASK),
    "audit_broken": Advice("The log of what is done here is damaged, so nothing is done.", ASK),
    "credential_error": Advice("Your database cannot be opened: its password cannot be read.", ASK),
    "backend_error": Advice("Your database refused what was asked of it.", ASK),
    "database_unreachable": Advice("Your database does not answer at present.", WAIT),
    "database_missing": Advice("Your database is not where it should be. No empty one is made in its place.", ASK),
    "database_busy": Advice("Your database is busy at present.", WAIT),
    "access_denied": Advice("Your database does not let this site in.", ASK),
    "storage_full": Advice(
        "There is no room left: the disk of the server is full, and what was sent is not saved.", ASK
    ),
    "provision_failed": Advice("Your database could not be set up.", ASK),
    "migration_failed": Advice("Your database could not be brought up to date.", ASK),
    "revision_mismatch": Advice("Your database does not fit this version of the site.", ASK),
    "identity_mismatch": Advice("What stands in your database's place is another one: nothing of it is shown.", ASK),
    "stale_route": Advice("Your database was moved or stopped meanwhile: nothing was saved.", WAIT),
    "read_only": Advice("Your rows can be read and not changed at present.", WAIT),
    "unfenced": Advice("This could not be saved safely, so nothing was.", ASK),
}
"""Say what an error's code means."""

_LIKE = {
    "connection_refused": "database_unreachable",
    "database_timeout": "database_unreachable",
    "too_many_connections": "database_busy",
    "login_refused": "access_denied",
    "credential_key_unknown": "credential_error",
    "credential_tampered": "credential_error",
}
CODES |= {code: CODES[like] for code, like in _LIKE.items()}

OTHER = Advice("This cannot be done at present.", ASK)


def to_person(error: TenancyError, tenant: Tenant | None = None) -> Advice:
    """Give the words for an error that the database of whoever looks (``tenant``) met."""
    state = error.fields.get("state")
    if isinstance(error, TenantNotReadyError) and state in STATES:
        return STATES[str(state)]
    return of_code(error.code, error.message, tenant if isinstance(error, BackendError) else None)


def of_code(code: str, message: str, tenant: Tenant | None = None) -> Advice:
    """Give the words for a code that comes with a message; who runs the database reads the message itself."""
    found = CODES.get(code, OTHER)
    if tenant is None or tenant.origin != Origin.USER:
        return found
    return Advice(message, WAIT if found.do == WAIT else OWN)


def of_failure(tenant: Tenant) -> str:
    """Say why the last work on a database failed, as the catalog has it."""
    known = CODES.get(tenant.last_error_code or "")
    if known is None or tenant.origin == Origin.USER:
        return tenant.last_error or STATES[State.FAILED].means
    return known.means
