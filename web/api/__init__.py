"""Serve ``/api/v1``: one declaration per resource (``resources.py``), one set of views for all (``rows.py``)."""

from __future__ import annotations

from flask import Blueprint

from web.api import account, keys, resources, settings
from web.api.rows import RowViews

PREFIX = "/api/v1"

blueprint = Blueprint("api", __name__, url_prefix=PREFIX)

for _resource in resources.ALL:
    RowViews(_resource).register(blueprint)
for _module in (settings, keys, account):
    _module.register(blueprint)
