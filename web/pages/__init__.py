"""Serve the pages: plain HTML from the server, fully usable without JavaScript.

``sign_in`` handles registration, login and logout. ``tasks``, ``calendar``, ``notes`` and the other tabs show and
change the user's rows (declared in ``common/resources.py``), ``account`` the user's account, ``console`` all accounts
and databases. Every change is a POST with a CSRF token. It answers with a redirect (303), or with the form again, its
text kept and its errors next to their fields (422). ``sign_in/expired_session.py`` keeps the text when the session has
ended in the meantime.
"""

from __future__ import annotations

from typing import Any

from flask import Flask, request

from tenancy.errors import TenancyError
from tenancy.models import Principal
from web.api.openapi import page as api_docs
from web.auth.sessions import current_principal
from web.display import stencils, template_filters
from web.display.preferences import Preferences
from web.http.addresses import outer
from web.pages import account, bin, categories, console, dashboard, notes, search
from web.pages.calendar import event_times, feed, page as calendar
from web.pages.common import flash, rows
from web.pages.sign_in import expired_session, views as sign_in
from web.pages.tasks import page as tasks
from web.parts import current_parts

WORKSPACE = (calendar, categories, dashboard, event_times, notes, tasks)
"""The modules that add their views to the blueprint of ``common/rows.py`` when they are imported."""

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
    """Register all pages with the application."""
    template_filters.register(app)
    stencils.register(app)
    app.context_processor(_common)
    expired_session.register(app)
    app.url_map.strict_slashes = False  # for the rules that follow: "/tasks/" means "/tasks"
    for room in (sign_in, rows, feed, search, bin, account, console, api_docs):
        app.register_blueprint(room.blueprint)


def _common() -> dict[str, Any]:
    """Return what the layout of every page shows, without any further database query."""
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
    """Return who is looking; None on the error page of a catalog that is down."""
    try:
        return current_principal()
    except TenancyError:
        return None


def _entries(menu: tuple[Entry, ...]) -> list[tuple[str, str, str, bool]]:
    """Return the entries of a menu, each with whether the current page belongs to it."""
    shown = request.path
    return [
        (outer(path), label, icon, shown == path or (path != "/" and shown.startswith(path.rstrip("/") + "/")))
        for path, label, icon in menu
    ]
