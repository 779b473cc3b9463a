"""Carry a form that could not be accepted, so that what was typed is not lost (``expired_session`` decides when).

The values travel in hidden fields: first in the login page, then in a page that shows them and submits them when the
user presses its button. Nothing is stored on the server, and nothing is submitted automatically. Secrets, files and
tokens are not carried.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from flask import Response, current_app, make_response, render_template, request
from werkzeug.exceptions import HTTPException

from web.http import errors
from web.http.addresses import inner, outer, split
from web.http.csrf import KEY_BLUEPRINTS
from web.pages.common.resources import RESOURCES

PREFIX = "kept:"
ADDRESS = "kept-address"
LOST = "kept-lost"

_SECRET = re.compile("password|passphrase|secret|token", re.IGNORECASE)
_MACHINE = re.compile(r"version|next|.*\.(was|none)")
_LABELS = {field.name: field.label for resource in RESOURCES.values() for field in resource.fields}
_LABELS |= {"db_type": "Type", "db_host": "Host", "db_port": "Port", "db_name": "Database", "db_user": "User"}
_UUID = re.compile("[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class Kept:
    """A form's target path, its fields in order, and ``lost``: whether secrets or files had to be left out."""

    address: str
    fields: tuple[tuple[str, str], ...]
    lost: bool = False

    @classmethod
    def of_request(cls) -> Self:
        """Return the form posted with this request."""
        posted = list(request.form.items(multi=True))
        fields = tuple((name, value) for name, value in posted if not _SECRET.search(name))
        secrets = any(_SECRET.search(name) and value for name, value in posted if name != "csrf_token")
        files = any(upload.filename for upload in request.files.values())
        return cls(asked_path(), fields, secrets or files)

    @classmethod
    def carried(cls) -> Self | None:
        """Return the form carried by the login page, or None if there is none or its target does not accept it."""
        address = request.form.get(ADDRESS, "")
        if not is_sendable(address):
            return None
        carried = (item for item in request.form.items(multi=True) if item[0].startswith(PREFIX))
        return cls(
            address,
            tuple((name.removeprefix(PREFIX), value) for name, value in carried if not _SECRET.search(name)),
            lost=LOST in request.form,
        )

    @property
    def readable(self) -> list[tuple[str, str]]:
        """Return the (label, value) pairs worth showing to the user, without ids and versions."""
        return [
            (_LABELS.get(name) or name.replace("_", " ").strip().capitalize(), value)
            for name, value in self.fields
            if value.strip() and not _MACHINE.fullmatch(name) and not _UUID.fullmatch(value)
        ]


def asked_path() -> str:
    """Return path and query of this request, as the browser knows them."""
    return outer(request.full_path if request.query_string else request.path)


def is_sendable(address: str) -> bool:
    """Tell whether a form may be sent to ``address``: one of our pages that accepts POST, sign-in excepted."""
    path = inner(split(address).path)
    if path is None or path.startswith(("//", *errors.JSON_PREFIXES)):
        return False
    if not address.startswith("/") or address.startswith("//") or "\\" in address or not address.isprintable():
        return False
    try:
        endpoint, _ = current_app.url_map.bind("").match(path, method="POST")
    except HTTPException:
        return False
    return endpoint.partition(".")[0] not in {"auth", *KEY_BLUEPRINTS}


def page(kept: Kept, status: int = 200) -> Response:
    """Show a carried form to the user who is signed in now, with a button that submits it."""
    return make_response(render_template("sign_in/kept.html", kept=kept), status)
