"""Declare which parts of the application ``web`` needs, and find them during a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from flask import current_app

if TYPE_CHECKING:
    from settings import Settings
    from tenancy.accounts.accounts import Accounts
    from tenancy.manager import TenantManager
    from tenancy.monitoring.activity import Activity


class Parts(Protocol):
    """The parts of the application that ``web`` needs."""

    @property
    def settings(self) -> Settings: ...

    @property
    def manager(self) -> TenantManager: ...

    @property
    def accounts(self) -> Accounts: ...

    @property
    def activity(self) -> Activity: ...


def current_parts() -> Parts:
    """Return the parts of the application that handles this request."""
    return cast("Parts", current_app.extensions["unify"])
