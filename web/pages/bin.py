"""Show deleted rows and restore them; rows are deleted for good after 30 days here."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from repositories.errors import ConflictError, NotFoundError
from web.auth.guards import page_login_required
from web.auth.sessions import signed_in
from web.display.template_filters import sentence
from web.http import cursors
from web.http.errors import Problem
from web.pages.common import paging, rows
from web.pages.common.flash import say
from web.pages.common.resources import RESOURCES
from web.parts import current_parts

blueprint = Blueprint("bin", __name__, url_prefix="/bin")

PAGE = 50
Rows = list[tuple[str, UUID]]


@blueprint.get("", endpoint="index")
@page_login_required
def page() -> ResponseReturnValue:
    """Show one page of deleted rows, latest first."""
    bound: dict[str, Any] = {"user_id": signed_in().user.id, "scope": ("page", "bin")}
    cursor = request.args.get("cursor")
    with current_parts().manager.session() as session:
        found = rows.of("bin", session).page(limit=PAGE, after=cursors.read(cursor, **bound) if cursor else None)
    further = cursors.write(found.place, **bound) if found.place else None
    return render_template(
        "bin/index.html",
        rows=found.rows,
        kinds=RESOURCES,
        **paging.links(partial(url_for, "bin.index"), cursor, cursor=further),
    )


@blueprint.post("/<uuid:batch>/restore")
@page_login_required
def restore(batch: UUID) -> ResponseReturnValue:
    """Restore the rows that were deleted together, and redirect to their list."""
    try:
        with current_parts().manager.session(write=True) as session:
            restored = rows.of("bin", session).restore(batch)
    except NotFoundError:
        raise Problem(
            404, "not_found", "There is nothing to put back: it has been put back already, or is gone for good."
        ) from None
    except ConflictError as error:
        say(f"It cannot be put back. {sentence(error.message)}", "bad")
        return redirect(url_for("bin.index"), 303)
    say(f"{_named(restored)} back.")
    return redirect(rows.next_path() or url_for(_list_of(restored)), 303)


def _named(restored: Rows) -> str:
    """Name what was restored: ``The note is``, ``3 tasks are``, ``5 rows are``."""
    kinds = {kind for kind, _ in restored}
    if len(restored) == 1:
        return f"The {RESOURCES[kinds.pop()].singular} is"
    return f"{len(restored)} {kinds.pop() if len(kinds) == 1 else 'rows'} are"


def _list_of(restored: Rows) -> str:
    kinds = {kind for kind, _ in restored}
    return f"pages.{kinds.pop()}" if len(kinds) == 1 else "bin.index"


@blueprint.post("/<uuid:row_id>/remove")
@page_login_required
def remove(row_id: UUID) -> ResponseReturnValue:
    """Delete one row for good."""
    with current_parts().manager.session(write=True) as session:
        rows.of("bin", session).remove(row_id)
    say("Deleted for good.")
    return redirect(url_for("bin.index"), 303)


@blueprint.get("/empty")
@page_login_required
def ask() -> ResponseReturnValue:
    """Ask for confirmation before the bin is emptied."""
    with current_parts().manager.session() as session:
        full = bool(rows.of("bin", session).page(limit=1).rows)
    return render_template("bin/empty.html", full=full)


@blueprint.post("/empty")
@page_login_required
def empty() -> ResponseReturnValue:
    """Delete everything in the bin for good."""
    with current_parts().manager.session(write=True) as session:
        count = rows.of("bin", session).empty()
    say(f"The bin is empty: {count} {'row was' if count == 1 else 'rows were'} deleted for good.")
    return redirect(url_for("bin.index"), 303)
