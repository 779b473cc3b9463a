"""Show the state of catalog, folders, engines and keys, each with the equivalent command."""

from __future__ import annotations

from flask.typing import ResponseReturnValue

from web.auth.guards import admin_required
from web.pages.console.layout import blueprint, show
from web.parts import current_parts

SHOWN = 99
"""Databases left behind are counted up to this number."""


@blueprint.get("/health")
@admin_required
def health() -> ResponseReturnValue:
    """Show what this process reports about itself, and the catalog about the fleet."""
    found = current_parts().manager.reports.health()
    ready = bool(found["catalog"]["reachable"] and found["catalog"]["at_head"])
    left = len(current_parts().manager.leftovers.listed(0, SHOWN + 1)) if ready else None
    return show("health", health=found, ready=ready, left=left, most=SHOWN)
