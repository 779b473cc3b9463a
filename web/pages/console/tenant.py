"""Show everything known about one account and its database, and the progress of an operation on it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue

from tenancy.catalog.tenant_errors import KEPT_DAYS
from tenancy.monitoring.activity import FLUSH_S
from web.auth.guards import admin_required
from web.auth.sessions import signed_in
from web.display import charts
from web.pages.common.htmx import fragment, wants_fragment
from web.pages.console.actions import offered
from web.pages.console.layout import blueprint, known_id, show
from web.parts import current_parts

SIZES = {"width": 600.0, "height": 90.0}
AUDITED = 10
BACKUPS = 5


@blueprint.get("/users/<int:user_id>")
@admin_required
def tenant(user_id: int) -> ResponseReturnValue:
    """Show the account's page; the database is opened to read its identity and its ledger."""
    manager = current_parts().manager
    report = manager.reports.tenant(known_id(user_id))
    config = report["config"]
    backups = manager.reports.backups.of_tenant(UUID(config["tenant_id"]), limit=BACKUPS) if config else None
    return show(
        "users",
        "tenant",
        report=report,
        user=report["account"],
        config=config,
        backups=backups,
        warn_hours=manager.reports.backups.warn_hours,
        keys=manager.options.backups,
        kept=manager.restores.kept(user_id) if backups and manager.multi_tenant else None,
        trend=charts.trend(report["sizes"], **SIZES),
        audit=manager.audit.page(user_id=user_id, limit=AUDITED),
        minutes=FLUSH_S // 60,
        kept_days=KEPT_DAYS,
        actions=offered(report, signed_in().user.id),
    )


@blueprint.get("/users/<int:user_id>/progress")
@admin_required
def progress(user_id: int) -> ResponseReturnValue:
    """Tell htmx whether an operation is running; when it has ended, make htmx reload the whole page."""
    report: dict[str, Any] = current_parts().manager.reports.tenant(known_id(user_id))
    if not wants_fragment():
        return redirect(url_for("admin.tenant", user_id=user_id), 303)
    answer = fragment("console/claim.html", claim=report["claim"], user=report["account"])
    if report["claim"] is None and request.args.get("was") == "running":
        answer.headers["HX-Refresh"] = "true"
    return answer
