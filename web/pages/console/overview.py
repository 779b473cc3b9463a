"""Show an overview of the fleet; every figure links to the accounts that it counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask.typing import ResponseReturnValue

from web.auth.guards import admin_required
from web.display import charts
from web.pages.console.layout import PRODUCTS, blueprint, show
from web.parts import current_parts

GROWTH = {"width": 600.0, "height": 120.0}
WHOLE = {"width": 600.0, "height": 18.0}
TONES = {
    "ready": "good",
    "failed": "bad",
    "read_only": "warn",
    "suspended": "quiet",
    "archived": "line",
    "provisioning": "accent",
    "migrating": "accent",
    "moving": "accent",
    "sqlite": "accent",
    "postgresql": "good",
    "mysql": "warn",
    "sqlserver": "bad",
}


@blueprint.get("/")
@admin_required
def index() -> ResponseReturnValue:
    """Count and draw, with a handful of catalog statements whatever the number of accounts."""
    found = current_parts().manager.reports.overview()
    weeks = charts.weeks(found["growth"])
    return show(
        "index",
        fleet=found,
        weeks=weeks,
        growth=charts.bars([(day.isoformat(), made) for day, made in weeks], **GROWTH),
        states=_shares(found["by_state"], {}),
        types=_shares(found["by_type"], PRODUCTS),
        revisions=sorted(found["by_revision"].items(), reverse=True),
    )


def _shares(counts: Mapping[str, int], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the parts of a whole, largest first, each with its label, colour and place in the bar."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    boxes = {box.label: box for box in charts.shares(ordered, **WHOLE)}
    return [
        {
            "key": key,
            "label": labels.get(key, key.replace("_", " ")),
            "count": count,
            "tone": TONES.get(key, "accent"),
            "box": boxes[key],
        }
        for key, count in ordered
        if key in boxes
    ]
