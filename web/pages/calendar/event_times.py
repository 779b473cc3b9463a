"""Let templates offer the time zones in which an event's times can be typed (``common/form_times.py`` reads them)."""

from __future__ import annotations

from functools import cache

from markupsafe import Markup

from web.display import clock
from web.pages.common import rows


@rows.blueprint.app_template_global("own_zone")
def own_zone() -> str:
    return clock.zone().key


@rows.blueprint.app_template_global("zone_options")
@cache
def options() -> Markup:
    """Render the time zones as options of a select; they are the same on every page, so this is cached."""
    return Markup("\n").join(Markup("<option>{}</option>").format(name) for name in clock.zone_names())
