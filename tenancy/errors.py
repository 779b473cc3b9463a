"""Define every error that ``tenancy`` raises. Each class has a stable code, each instance carries fields.

A message says what happened, to which tenant, and what to do next. It never contains a URL or a password.
``web/http/errors.py`` holds the one table from these classes to HTTP statuses.
"""

from __future__ import annotations

from typing import ClassVar

PREPARE_CATALOG = "run `unify db create-config-table` or call `manager.prepare_catalog()`"
"""How to create a missing catalog or shared database: by command, or from a program that embeds ``tenancy``."""


class TenancyError(Exception):
    """Carry a message for people, a stable ``code`` for programs and ``fields`` for both."""

    code: ClassVar[str] = "tenancy_error"
    retryable: ClassVar[bool] = False
    """Whether the cause is temporary: the operation changed nothing and may be tried again."""

    def __init__(self, message: str, **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields

    @property
    def field(self) -> str | None:
        """The input field at fault, if there is one."""
        name = self.fields.get("field")
        return name if isinstance(name, str) else None


class ConfigurationError(TenancyError):
    """Refuse a setting or a connection field; ``field`` names it."""

    code = "configuration_invalid"


class CatalogError(TenancyError):
    """Report that the catalog cannot do what was asked."""

    code = "catalog_error"


class CatalogNotReadyError(CatalogError):
    """Report a catalog that cannot be reached or is not at the code's revision."""

    code = "catalog_not_ready"


class CatalogDamagedError(CatalogError):
    """Report a row of the catalog that cannot be read."""

    code = "catalog_damaged"


class UserNotFoundError(CatalogError):
    code = "user_not_found"


class ServerNotFoundError(CatalogError):
    """Report a database server that is not registered."""

    code = "server_not_found"


class ServerExistsError(CatalogError):
    """Refuse a second server of the same name, or to remove one that still holds databases."""

    code = "server_exists"


class NoServerError(CatalogError):
    """Report that no registered server of the wanted type accepts another database."""

    code = "no_server"


class UserExistsError(CatalogError):
    """Refuse a second account for an e-mail address."""

    code = "user_exists"


class TenantNotFoundError(CatalogError):
    """Report a user who has no database."""

    code = "tenant_not_found"


class TenantExistsError(CatalogError):
    """Refuse to replace the database that a user already has."""

    code = "tenant_exists"


class TenantNotReadyError(CatalogError):
    """Report a tenant whose state does not allow what was asked; ``state`` says which."""

    code = "tenant_not_ready"


class TenantCrowdedError(CatalogError):
    """Refuse another concurrent request of a user whose database hangs; ``retry_after_s`` says when to try again."""

    code = "tenant_crowded"


class ClaimedError(CatalogError):
    """Report that another operation holds the tenant's claim."""

    code = "tenant_busy"


class ClaimLostError(CatalogError):
    """Stop a runner whose claim expired or was taken over; it must not write anything more."""

    code = "claim_lost"


class RestoreDoneError(CatalogError):
    """Report a restore, or the undoing of one, that a runner finished before it was cut off; ``user_id`` says whose."""

    code = "restore_done"


class NewerRowsError(CatalogError):
    """Refuse to undo a restore after which rows were written; ``rows`` is their number at least."""

    code = "newer_rows"


class RunNotFoundError(CatalogError):
    """Report a fleet run that does not exist."""

    code = "run_not_found"


class RunStateError(CatalogError):
    """Refuse what a fleet run's state does not allow; the fields are ``state`` and ``run_id``."""

    code = "run_state"


class JobNotFoundError(CatalogError):
    """Report a job that does not exist."""

    code = "job_not_found"


class JobStateError(CatalogError):
    """Refuse what cannot be done to a job in its present state."""

    code = "job_state"


class JobCancelledError(CatalogError):
    """Stop a job's handler because somebody cancelled the job; what the handler began it undoes itself."""

    code = "job_cancelled"


class JobStoppedError(CatalogError):
    """Stop a job's handler because its worker ends; the job runs again."""

    code = "job_stopped"


class ScheduleNotFoundError(CatalogError):
    """Report a schedule that does not exist."""

    code = "schedule_not_found"


class AuditBrokenError(CatalogError):
    """Report the first audit row that is missing or was changed; ``row_id`` is its id."""

    code = "audit_broken"


class AccountError(CatalogError):
    """Report that an account cannot do what was asked."""

    code = "account_error"


class LastAdministratorError(AccountError):
    """Refuse to demote or deactivate the only active administrator."""

    code = "last_administrator"


class BadCredentialsError(AccountError):
    """Refuse a sign-in, in the same words whether or not the account exists."""

    code = "bad_credentials"


class ThrottledError(AccountError):
    """Refuse because of too many attempts; ``retry_after_s`` is how many seconds to wait."""

    code = "too_many_attempts"


class RegistrationClosedError(AccountError):
    code = "registration_closed"


class PasswordTooWeakError(AccountError):
    code = "password_too_weak"


class KeyNotFoundError(AccountError):
    """Report an API key that does not exist or is not this user's."""

    code = "key_not_found"


class SessionNotFoundError(KeyNotFoundError):
    """Report a session that has ended or is not this user's."""

    code = "session_not_found"


class CredentialError(TenancyError):
    code = "credential_error"


class UnknownKeyError(CredentialError):
    """Report a secret sealed under a key that is not in TENANT_CREDENTIAL_KEYS."""

    code = "credential_key_unknown"


class TamperedCredentialError(CredentialError):
    """Report a secret that was moved to another row, or whose bound fields were changed."""

    code = "credential_tampered"


class BackendError(TenancyError):
    """Report that a database server or file refused something."""

    code = "backend_error"


class UnsupportedBackendError(BackendError):
    code = "backend_unsupported"


class DatabaseExistsError(BackendError):
    """Refuse to touch a database that belongs to somebody else."""

    code = "database_exists"


class DatabaseUnreachableError(BackendError):
    """Report a database that is down, gone or does not answer."""

    code = "database_unreachable"
    retryable = True


class ConnectionRefusedByServerError(DatabaseUnreachableError):
    """Report a machine that answers but has no server listening at that port."""

    code = "connection_refused"


class DatabaseTimeoutError(DatabaseUnreachableError):
    """Report a server that did not answer in time."""

    code = "database_timeout"


class StatementTooLongError(DatabaseTimeoutError):
    """Report a statement that a healthy server cancelled at its own time limit, and would cancel again."""

    retryable = False


class DatabaseDamagedError(DatabaseUnreachableError):
    """Report a database file that is there, and is none any more."""


class DatabaseMissingError(DatabaseUnreachableError):
    """Report a database that was provisioned and no longer exists; an empty one is never created in its place."""

    code = "database_missing"
    retryable = False


class DatabaseBusyError(BackendError):
    """Report a lock or a connection that did not become free in time."""

    code = "database_busy"
    retryable = True


class WriteConflictError(DatabaseBusyError):
    """Report a transaction that lost a conflict (deadlock, serialization) with a concurrent one."""


class TooManyConnectionsError(DatabaseBusyError):
    """Report a server that accepts no further connection."""

    code = "too_many_connections"


class AccessDeniedError(BackendError):
    """Report a login that lacks a right."""

    code = "access_denied"


class LoginRefusedError(AccessDeniedError):
    """Report a login or password that the server does not accept."""

    code = "login_refused"


class HostNotAllowedError(AccessDeniedError):
    """Refuse a host that users may not name; ``field`` is ``db_host``."""

    code = "host_not_allowed"


class StorageFullError(BackendError):
    code = "storage_full"


class ProvisionError(TenancyError):
    code = "provision_failed"


class MigrationError(TenancyError):
    code = "migration_failed"


class RevisionMismatchError(MigrationError):
    """Report a tenant whose revision the code does not serve, or whose ledger contradicts its version table."""

    code = "revision_mismatch"


class ArchiveError(TenancyError):
    """Report an archive that cannot be made, or cannot be loaded where it should be."""

    code = "archive_error"


class ArchiveDamagedError(ArchiveError):
    """Refuse an archive that was cut off or changed."""

    code = "archive_damaged"


class ArchiveHostileError(ArchiveDamagedError):
    """Refuse an archive that breaks the format's rules or limits, which no export does."""

    code = "archive_hostile"


class ArchiveKeyError(ArchiveError):
    """Report that no key is known for an archive: to encrypt it, or to open it."""

    code = "archive_key"


class ArchiveSignatureError(ArchiveError):
    """Refuse a record that no key in BACKUP_SIGNING_KEYS signed, or that is not where it was signed for."""

    code = "archive_signature"


class BackupNotFoundError(ArchiveError):
    """Report a backup that does not exist, or a file that the storage does not have."""

    code = "backup_not_found"


class BackupExistsError(ArchiveError):
    """Refuse to write over something that is stored already."""

    code = "backup_exists"


class StorageUnavailableError(ArchiveError):
    """Report a storage of backups that does not answer, is full or stopped in the middle."""

    code = "storage_unavailable"
    retryable = True


class StorageRefusedError(ArchiveError):
    """Report a storage of backups that does not let us do this."""

    code = "storage_refused"


class ScopeError(TenancyError):
    """Refuse work for no user, for the wrong user, or by an outdated route."""

    code = "scope_error"


class NoTenantError(ScopeError):
    """Refuse work that names no user."""

    code = "no_tenant"


class WrongTenantError(ScopeError):
    """Refuse the database of another user than the context's."""

    code = "wrong_tenant"


class IdentityError(WrongTenantError):
    """Refuse a database whose identity row names somebody else."""

    code = "identity_mismatch"


class StaleRouteError(ScopeError):
    """Stop work by an outdated route: the tenant was moved, restored or retired in the meantime."""

    code = "stale_route"


class ReadOnlyRouteError(ScopeError):
    """Refuse to write in a unit of work that was opened for reading, or to a read-only tenant."""

    code = "read_only"


class UnfencedError(ScopeError):
    """Refuse a statement that would bypass the write fence; the message names the alternative."""

    code = "unfenced"


def code_and_message(error: BaseException) -> tuple[str, str]:
    """Return what the catalog stores of an error; of a foreign one only its class, as its text may hold secrets."""
    if isinstance(error, TenancyError):
        return error.code, error.message
    return ProvisionError.code, type(error).__name__
