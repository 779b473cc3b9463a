"""Name everything that can go wrong under the application; every class carries fields and a stable code.

A message says what happened, to which tenant, and what to do next. It never holds a URL or a password.
``web/http/errors.py`` holds the one table from these classes to HTTP statuses.
"""

from __future__ import annotations

from typing import ClassVar

PREPARE_CATALOG = "run `unify db create-config-table` or call `manager.prepare_catalog()`"
"""What to do about a missing catalog, or shared database: by Unify's command, or in another application's code."""


class TenancyError(Exception):
    """Carry a message for people, a stable ``code`` for programs and ``fields`` for both."""

    code: ClassVar[str] = "tenancy_error"
    retryable: ClassVar[bool] = False
    """Whether it passes by itself: what failed over it is left as it was, and may be tried again."""

    def __init__(self, message: str, **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields

    @property
    def field(self) -> str | None:
        """Name the input field at fault, where there is one."""
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
    """Report a row of the catalog that cannot be read as it is."""

    code = "catalog_damaged"


class UserNotFoundError(CatalogError):
    code = "user_not_found"


class ServerNotFoundError(CatalogError):
    """Report a database server that is not registered."""

    code = "server_not_found"


class ServerExistsError(CatalogError):
    """Refuse a second server of one name, or to remove one that holds databases."""

    code = "server_exists"


class NoServerError(CatalogError):
    """Report that no registered server of a type takes another database."""

    code = "no_server"


class UserExistsError(CatalogError):
    """Refuse a second account for one e-mail address."""

    code = "user_exists"


class TenantNotFoundError(CatalogError):
    """Report a user without a database configuration."""

    code = "tenant_not_found"


class TenantExistsError(CatalogError):
    """Refuse to configure another database in place of the one there is."""

    code = "tenant_exists"


class TenantNotReadyError(CatalogError):
    """Report a tenant whose state does not allow what was asked; ``state`` says which."""

    code = "tenant_not_ready"


class TenantCrowdedError(CatalogError):
    """Refuse one more request at once of a user whose database does not answer; ``retry_after_s`` says when to come."""

    code = "tenant_crowded"


class ClaimedError(CatalogError):
    """Report that another operation holds the tenant's claim."""

    code = "tenant_busy"


class ClaimLostError(CatalogError):
    """Stop a runner whose claim expired or was taken over: nothing more of it is written."""

    code = "claim_lost"


class RunNotFoundError(CatalogError):
    """Report a fleet run that is not there."""

    code = "run_not_found"


class RunStateError(CatalogError):
    """Refuse what a fleet run's state does not allow; ``state`` says which, ``run_id`` whose."""

    code = "run_state"


class AuditBrokenError(CatalogError):
    """Name the first audit row whose seal does not hold; ``row_id`` is its id."""

    code = "audit_broken"


class AccountError(CatalogError):
    """Report that an account cannot do what was asked."""

    code = "account_error"


class LastAdministratorError(AccountError):
    """Refuse to take away the only active administrator."""

    code = "last_administrator"


class BadCredentialsError(AccountError):
    """Refuse a sign-in: the same words whether the account exists or not."""

    code = "bad_credentials"


class ThrottledError(AccountError):
    """Refuse for now; ``retry_after_s`` says how many seconds to wait."""

    code = "too_many_attempts"


class RegistrationClosedError(AccountError):
    code = "registration_closed"


class PasswordTooWeakError(AccountError):
    code = "password_too_weak"


class KeyNotFoundError(AccountError):
    """Report an API key that is not there, or not this user's."""

    code = "key_not_found"


class SessionNotFoundError(KeyNotFoundError):
    """Report a session that has ended, or is not this user's."""

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
    """Report what a database server or file refused."""

    code = "backend_error"


class UnsupportedBackendError(BackendError):
    code = "backend_unsupported"


class DatabaseExistsError(BackendError):
    """Refuse to touch a database that belongs to somebody else."""

    code = "database_exists"


class DatabaseUnreachableError(BackendError):
    """Report a database that is down, gone or silent."""

    code = "database_unreachable"
    retryable = True


class ConnectionRefusedByServerError(DatabaseUnreachableError):
    """Report a machine that answers and has no server at that port."""

    code = "connection_refused"


class DatabaseTimeoutError(DatabaseUnreachableError):
    """Report a server that did not answer in time."""

    code = "database_timeout"


class StatementTooLongError(DatabaseTimeoutError):
    """Report a statement that a server gave up by its own limit: the server is well, and would do so again."""

    retryable = False


class DatabaseMissingError(DatabaseUnreachableError):
    """Report a database that was provisioned and is not there any more; none is made in its place."""

    code = "database_missing"
    retryable = False


class DatabaseBusyError(BackendError):
    """Report a lock or a connection that was not free in time."""

    code = "database_busy"
    retryable = True


class WriteConflictError(DatabaseBusyError):
    """Report a transaction that was given up because another one wrote the same at that moment."""


class TooManyConnectionsError(DatabaseBusyError):
    """Report a server that takes no further connection."""

    code = "too_many_connections"


class AccessDeniedError(BackendError):
    """Report a login that may not do what was asked."""

    code = "access_denied"


class LoginRefusedError(AccessDeniedError):
    """Report a login or password that the server does not take."""

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
    """Report a tenant behind or ahead of the code, or whose ledger and version table disagree."""

    code = "revision_mismatch"


class ArchiveError(TenancyError):
    code = "archive_error"


class ScopeError(TenancyError):
    """Refuse work whose owner is missing, foreign or out of date."""

    code = "scope_error"


class NoTenantError(ScopeError):
    """Refuse work that names no user."""

    code = "no_tenant"


class WrongTenantError(ScopeError):
    """Refuse another user's database than the one this context is for."""

    code = "wrong_tenant"


class IdentityError(WrongTenantError):
    """Refuse a database whose identity row names somebody else."""

    code = "identity_mismatch"


class StaleRouteError(ScopeError):
    """Stop work whose route was replaced: the tenant was moved, restored or retired meanwhile."""

    code = "stale_route"


class ReadOnlyRouteError(ScopeError):
    """Refuse a write in a unit of work that was opened for reading, or on a read-only tenant."""

    code = "read_only"


class UnfencedError(ScopeError):
    """Refuse a statement that would write past the fence; the message says what to use in its place."""

    code = "unfenced"


def code_and_message(error: BaseException) -> tuple[str, str]:
    """Give code and words of an error, as the catalog keeps them; a driver's own words may hold anything."""
    if isinstance(error, TenancyError):
        return error.code, error.message
    return ProvisionError.code, type(error).__name__
