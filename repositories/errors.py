"""Name what a repository can refuse; ``web/http/errors.py`` turns the classes into HTTP statuses."""

from __future__ import annotations

from tenancy.errors import TenancyError


class RepositoryError(TenancyError):
    code = "repository_error"


class NotFoundError(RepositoryError):
    """Report a row that is not there, or that is somebody else's: the two cannot be told apart."""

    code = "not_found"


class ConflictError(RepositoryError):
    """Refuse what another row already has, or what must stay as it is; ``field`` names it."""

    code = "conflict"


class StaleVersionError(RepositoryError):
    """Refuse a change to a row that was changed meanwhile; ``version`` is the one it has now."""

    code = "stale_version"


class InvalidReferenceError(RepositoryError):
    """Refuse a reference to a row that the owner does not have; ``field`` names it."""

    code = "invalid_reference"
