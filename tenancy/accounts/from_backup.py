"""Make a new account, with a database of its own, from a backup of somebody else's database."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from tenancy.accounts.accounts import Accounts
from tenancy.archive.encryption import Identities
from tenancy.archive.export import Progress, no_check, no_progress
from tenancy.errors import UserExistsError, UserNotFoundError
from tenancy.lifecycle.provision import Provisioned
from tenancy.lifecycle.restore import Restored, Restores
from tenancy.lifecycle.stored_backups import Backups
from tenancy.models import User


class AccountsFromBackups:
    """Serve as ``Parts.accounts_from_backups``."""

    def __init__(
        self,
        accounts: Accounts,
        backups: Backups,
        restores: Restores,
        provision: Callable[[int], Provisioned],
        delete: Callable[[int], bool],
    ) -> None:
        self._accounts = accounts
        self._backups = backups
        self._restores = restores
        self._provision = provision
        self._delete = delete

    def create(
        self,
        email: str,
        backup_id: UUID,
        *,
        identities: Identities | None = None,
        progress: Progress = no_progress,
        check: Callable[[], None] = no_check,
    ) -> tuple[User, Restored]:
        """Make an account without a password whose database holds the rows of a backup.

        The account stays deactivated until its rows are there; what was cut off is gone on with by calling it again.
        UserExistsError for an address that has an account already.
        """
        self._backups.verify(backup_id, identities=identities, check=check)
        user = self._account(email)
        self._provision(user.id)
        try:
            restored = self._restores.restore(
                user.id, backup_id, identities=identities, from_another=True, progress=progress, check=check
            )
        except Exception:
            self._delete(user.id)
            raise
        if restored.kept is not None:  # an empty database, which nobody wants back
            self._restores.forget(restored.kept)
        return self._accounts.activate(user.id), restored

    def _account(self, email: str) -> User:
        """Create the account, or find the one of an attempt that was cut off: nobody could sign in to it yet."""
        try:
            user = self._accounts.find(email)
        except UserNotFoundError:
            return self._accounts.deactivate(self._accounts.create(email).id, force=True)
        if user.is_active or user.last_seen_at is not None:
            raise UserExistsError(f"{email} has an account already: name an address that has none.", field="email")
        return user
