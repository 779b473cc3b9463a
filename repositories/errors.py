"""Define the errors of repositories; ``web/http/errors.py`` turns the classes into HTTP statuses."""

from __future__ import annotations

from tenancy.errors import TenancyError


class RepositoryError(TenancyError):
    code = "repository_error"


class NotFoundError(RepositoryError):
    """Report a row that does not exist or belongs to another user; callers cannot tell which."""

    code = "not_found"


class ConflictError(RepositoryError):
    """Refuse a value that another row already has, or that must not change; ``field`` names it."""

    code = "conflict"


class StaleVersionError(RepositoryError):
    """Refuse a change to a row that was changed meanwhile; ``version`` is its current one."""

    code = "stale_version"


class InvalidReferenceError(RepositoryError):
    """Refuse a reference to a row that the owner does not have; ``field`` names it."""

    code = "invalid_reference"
