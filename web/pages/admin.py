"""Show administrators every account and its database, and let them act on both.

A page is two catalog statements, whatever the number of users: the accounts by key, and the databases of the same
stretch of ids. No tenant database is opened but by "Test".
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug import Response

from tenancy import names
from tenancy.errors import ConfigurationError, TenancyError
from tenancy.models import User
from web import metrics
from web.auth import admin_required, signed_in
from web.errors import NOT_THERE, Problem
from web.parts import current_parts

blueprint = Blueprint("admin", __name__, url_prefix="/admin")

PAGE = 50


@blueprint.get("/")
@admin_required
def index() -> ResponseReturnValue:
    """List users with their databases, by id."""
    query = request.args.get("q", "").replace("\x00", "").strip()[: names.EMAIL_MAX]
    after = _after(request.args.get("after", "0"))
    users = current_parts().accounts.list(after=after, limit=PAGE + 1, query=query or None)
    shown = users[:PAGE]
    narrowed: dict[str, Any] = {"q": query} if query else {}
    return render_template(
        "admin/index.html",
        users=[(user, database) for user, database in _with_databases(shown, query)],
        query=query,
        head=current_parts().manager.head,
        next_url=url_for("admin.index", after=shown[-1].id, **narrowed) if len(users) > PAGE else None,
        first_url=url_for("admin.index", **narrowed) if after else None,
    )


@blueprint.post("/users/<int:user_id>/initialize")
@admin_required
def initialize(user_id: int) -> ResponseReturnValue:
    """Make a user's database, or say that it stood ready."""
    user = _user(user_id)
    try:
        with metrics.provisioning():
            made = current_parts().manager.provision(user.id).created
        flash(f"The database of {user.email} {'was made' if made else 'stood ready already'}.", "good")
    except TenancyError as error:
        flash(f"The database of {user.email} could not be made: {error.message}", "bad")
    return _back()


@blueprint.post("/users/<int:user_id>/test")
@admin_required
def test(user_id: int) -> ResponseReturnValue:
    """Open a user's database and show what came of it."""
    user = _user(user_id)
    return render_template("admin/test.html", user=user, result=_test(user))


@blueprint.post("/users/<int:user_id>/deactivate")
@admin_required
def deactivate(user_id: int) -> ResponseReturnValue:
    """Shut an account out, from its next request on; never one's own."""
    user = _user(user_id)
    if user.id == signed_in().user.id:
        flash("You cannot deactivate your own account.", "bad")
        return _back()
    current_parts().accounts.deactivate(user.id)
    flash(f"{user.email} is deactivated and signed out everywhere.", "good")
    return _back()


@blueprint.post("/users/<int:user_id>/activate")
@admin_required
def activate(user_id: int) -> ResponseReturnValue:
    """Let an account in again."""
    user = current_parts().accounts.activate(_user(user_id).id)
    flash(f"{user.email} is active.", "good")
    return _back()


def _with_databases(users: list[User], query: str) -> list[tuple[User, dict[str, Any] | None]]:
    """Join a page of users with their databases: at most one each, so the same stretch of ids holds them all."""
    if not users:
        return []
    found = current_parts().manager.list_databases(after=users[0].id - 1, limit=len(users), query=query or None)
    by_user = {each["user_id"]: each for each in found}
    return [(user, by_user.get(user.id)) for user in users]


def _test(user: User) -> dict[str, Any]:
    """Give the result; a test that cannot even begin is a result too."""
    manager = current_parts().manager
    try:
        return manager.test_database(user.id)
    except TenancyError as error:
        failed = {"ok": False, "code": error.code, "message": error.message, "latency_ms": 0.0}
        return failed | {"revision": None, "head_revision": manager.head}


def _user(user_id: int) -> User:
    try:
        return current_parts().accounts.get(names.user_id(user_id))
    except ConfigurationError:
        raise Problem(404, "not_found", NOT_THERE) from None


def _after(text: str) -> int:
    """Give the id after which the page begins."""
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= names.MAX_USER_ID:
        return int(text)
    raise Problem(400, "page_invalid", "This page of the list does not exist. Begin again at the first one.")


def _back() -> Response:
    return redirect(url_for("admin.index"), 303)
