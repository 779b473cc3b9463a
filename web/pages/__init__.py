"""Serve the pages: plain HTML from the server, complete without JavaScript.

``auth`` lets people in and out, ``workspace`` and the modules beside it show and change their rows (declared in
``resources``), ``settings`` their account, ``console`` everybody's accounts and databases. Every change is a POST with
a CSRF token that answers with a redirect (303), or with the form again, its text kept and its errors beside their
fields (422); ``resume`` keeps the text where a session ended meanwhile.
"""

from __future__ import annotations

from typing import Any

from flask import Flask, request

from tenancy.errors import TenancyError
from tenancy.models import Principal
from web.api.openapi import page as api_docs
from web.auth.sessions import current_principal
from web.display import template_filters
from web.display.preferences import Preferences
from web.http.addresses import outer
from web.pages import account, bin, categories, console, dashboard, notes, search
from web.pages.calendar import event_times, feed, page as calendar
from web.pages.common import flash, rows
from web.pages.sign_in import expired_session, views as sign_in
from web.pages.tasks import page as tasks
from web.parts import current_parts

WORKSPACE = (calendar, categories, dashboard, event_times, notes, tasks)
"""Name the modules whose views are the workspace's: to import them is to add them to its blueprint."""

Entry = tuple[str, str, str]

MENU: tuple[Entry, ...] = (
    ("/", "Today", "today"),
    ("/tasks", "Tasks", "tasks"),
    ("/notes", "Notes", "notes"),
    ("/events", "Events", "events"),
    ("/categories", "Categories", "categories"),
)
TOOLS: tuple[Entry, ...] = (("/bin", "Bin", "bin"), ("/settings", "Settings", "settings"))
ADMIN_TOOLS: tuple[Entry, ...] = (*TOOLS, ("/admin/", "Admin", "admin"))


def register(app: Flask) -> None:
    """Join the pages to the application."""
    template_filters.register(app)
    app.context_processor(_common)
    expired_session.register(app)
    app.url_map.strict_slashes = False  # for the rules that follow: people type "/tasks/" and mean "/tasks"
    for room in (sign_in, rows, feed, search, bin, account, console, api_docs):
        app.register_blueprint(room.blueprint)


def _common() -> dict[str, Any]:
    """Give what the frame of every page shows; asks the database nothing that the request has not asked before."""
    principal = _viewer()
    configured = current_parts().settings
    wishes = Preferences.of(principal.user.preferences) if principal else Preferences()
    return {
        "viewer": principal.user if principal else None,
        "theme": wishes.theme,
        "shortcuts": wishes.shortcuts,
        "menu": _entries(MENU),
        "tools": _entries(ADMIN_TOOLS if principal and principal.user.is_admin else TOOLS),
        "messages": flash.pending,
        "registration_open": configured.registration == "open",
        "multi_tenant": configured.multi_tenant_mode,
    }


def _viewer() -> Principal | None:
    """Give who is looking; the page that says that the catalog is down has to do without."""
    try:
        return current_principal()
    except TenancyError:
        return None


def _entries(menu: tuple[Entry, ...]) -> list[tuple[str, str, str, bool]]:
    """Say of each entry of a menu whether the page shown now stands under it."""
    shown = request.path
    return [
        (outer(path), label, icon, shown == path or (path != "/" and shown.startswith(path.rstrip("/") + "/")))
        for path, label, icon in menu
    ]
