"""Serve the pages: plain HTML from the server, complete without JavaScript.

``auth`` lets people in and out, ``workspace`` shows and changes their rows (declared in ``resources``),
``settings`` their account, ``admin`` everybody's accounts and databases. Every change is a POST with a CSRF token
that answers with a redirect (303), or with the form again, its text kept and its errors beside their fields (422).
"""

from __future__ import annotations

from typing import Any

from flask import Flask, request

from tenancy.errors import TenancyError
from tenancy.models import Principal
from web.auth import current_principal
from web.pages import admin, auth, filters, settings, workspace
from web.parts import current_parts

MENU = (
    ("pages.home", "Today"),
    ("pages.tasks", "Tasks"),
    ("pages.notes", "Notes"),
    ("pages.events", "Events"),
    ("pages.categories", "Categories"),
    ("settings.index", "Settings"),
)
ADMIN_MENU = (*MENU, ("admin.index", "Admin"))


def register(app: Flask) -> None:
    """Join the pages to the application."""
    filters.register(app)
    app.context_processor(_common)
    for room in (auth, workspace, settings, admin):
        app.register_blueprint(room.blueprint)


def _common() -> dict[str, Any]:
    """Give what the frame of every page shows; asks the database nothing that the request has not asked before."""
    principal = _viewer()
    configured = current_parts().settings
    return {
        "viewer": principal.user if principal else None,
        "menu": [
            (endpoint, label, _is_here(endpoint))
            for endpoint, label in (ADMIN_MENU if principal and principal.user.is_admin else MENU)
        ],
        "registration_open": configured.registration == "open",
        "multi_tenant": configured.multi_tenant_mode,
    }


def _viewer() -> Principal | None:
    """Give who is looking; the page that says that the catalog is down has to do without."""
    try:
        return current_principal()
    except TenancyError:
        return None


def _is_here(endpoint: str) -> bool:
    """Tell whether the page shown now stands under an entry of the menu."""
    shown = request.endpoint or ""
    room = endpoint.partition(".")[0]
    return shown.startswith(room + ".") and (room != "pages" or shown == endpoint or shown.startswith(endpoint + "_"))
