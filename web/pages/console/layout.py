"""Share what all console pages need: the blueprint, the tabs, finding accounts, and reading filters."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug import Response

from tenancy import names
from tenancy.errors import ConfigurationError, UserNotFoundError
from tenancy.models import User
from web.http.errors import NOT_THERE, Problem
from web.parts import current_parts

blueprint = Blueprint("admin", __name__, url_prefix="/admin")

TABS = (
    ("index", "Overview"),
    ("users", "Users and databases"),
    ("backups", "Backups"),
    ("servers", "Servers"),
    ("fleet", "Fleet"),
    ("jobs", "Jobs"),
    ("audit", "Audit log"),
    ("health", "Health"),
)
NOBODY = -1
"""The id to search for when an account does not exist; no row has it."""

PRODUCTS = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL", "sqlserver": "SQL Server"}


def show(tab: str, page: str | None = None, /, **context: Any) -> str:
    """Render the page of one tab, or another page that belongs to the tab."""
    tabs = [(url_for(f"admin.{name}"), label, name == tab and ("true" if page else "page")) for name, label in TABS]
    common = {"tabs": tabs, "products": PRODUCTS, "head": current_parts().manager.head}
    return render_template(f"console/{page or tab}.html", **common | context)


def find_user(user_id: int) -> User:
    """Return the account; 404 if it does not exist or the id is out of range."""
    return current_parts().accounts.get(known_id(user_id))


def known_id(user_id: int) -> int:
    """Return the id if the catalog can have given it out; otherwise 404."""
    try:
        return names.user_id(user_id)
    except ConfigurationError:
        raise Problem(404, "not_found", NOT_THERE) from None


def text(name: str, longest: int = names.EMAIL_MAX) -> str:
    """Return one text of the URL's query, without NUL, which databases cannot store."""
    return request.args.get(name, "").replace("\x00", "").strip()[:longest]


def account(reference: str | None) -> int | None:
    """Return the user id that a filter names, by id or e-mail address: None for all, NOBODY if there is none."""
    if not reference:
        return None
    try:
        if reference.isascii() and reference.isdigit():
            return names.user_id(reference)  # rows are kept of accounts that no longer exist
        return current_parts().accounts.find(reference).id
    except (ConfigurationError, UserNotFoundError):
        return NOBODY


def choice(name: str, known: Collection[str]) -> str | None:
    """Return the chosen value, or None if nothing was chosen; refuse a value that is not in ``known``."""
    chosen = request.args.get(name, "")
    if chosen and chosen not in known:
        raise Problem(400, "filter_invalid", "This list has no such filter. Begin again with the whole list.")
    return chosen or None


def key(name: str) -> int:
    """Return the id after which a page of a list begins; 0 for the first page."""
    typed = request.args.get(name, "")
    if not typed:
        return 0
    if typed.isascii() and typed.isdigit() and len(typed) <= 18:
        return int(typed)
    raise Problem(400, "page_invalid", "This page of the list does not exist. Begin again at the first one.")


def to_tenant(user_id: int) -> Response:
    return redirect(url_for("admin.tenant", user_id=user_id), 303)
