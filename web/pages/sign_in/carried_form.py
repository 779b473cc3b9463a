"""Hold a form that could not be taken, so that what was typed into it is not lost (``resume`` says when).

The text travels in hidden fields: with the login page, then with a page that shows it and sends it when its writer
presses the button. Nothing is stored here and nothing is done by itself. Secrets, files and tokens are not carried.
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
_UUID = re.compile("[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class Kept:
    """Hold where a form goes, its fields in order, and whether something of it had to be left behind."""

    address: str
    fields: tuple[tuple[str, str], ...]
    lost: bool = False

    @classmethod
    def of_request(cls) -> Self:
        """Keep the form that was posted just now."""
        posted = list(request.form.items(multi=True))
        fields = tuple((name, value) for name, value in posted if not _SECRET.search(name))
        secrets = any(_SECRET.search(name) and value for name, value in posted if name != "csrf_token")
        files = any(upload.filename for upload in request.files.values())
        return cls(asked_path(), fields, secrets or files)

    @classmethod
    def carried(cls) -> Self | None:
        """Give the form that the login page carried, or None where it carried none that pages of ours take."""
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
        """Give what its writer would know again, each under its label; ids and versions are for the server."""
        return [
            (_LABELS.get(name) or name.replace("_", " ").strip().capitalize(), value)
            for name, value in self.fields
            if value.strip() and not _MACHINE.fullmatch(name) and not _UUID.fullmatch(value)
        ]


def asked_path() -> str:
    """Give the path and query of this request."""
    return outer(request.full_path if request.query_string else request.path)


def is_sendable(address: str) -> bool:
    """Tell whether a form may be sent there again: a path of our pages that takes a POST, and not to sign in."""
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
    """Show a kept form to whoever is signed in now, with the button that sends it."""
    return make_response(render_template("sign_in/kept.html", kept=kept), status)
