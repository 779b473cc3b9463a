"""List, create and revoke the API keys with which a user's programs call ``/api/v1``."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue

from tenancy.errors import ConfigurationError
from web.auth.guards import page_login_required
from web.auth.sessions import signed_in
from web.pages.account.layout import blueprint, part, show
from web.pages.common.flash import say
from web.pages.common.forms import Field, Form
from web.parts import current_parts
from web.schemas import KEY_NAME_MAX, KeyCreate

KEY = (
    Field("name", "Name", max_length=KEY_NAME_MAX, hint="To remind you later what uses it."),
    Field("expires_at", "Expires", "datetime-local", hint="Leave blank for never."),
    Field("read_only", "Read only", "checkbox"),
)


@blueprint.get("/keys")
@page_login_required
def keys() -> ResponseReturnValue:
    """List the keys, newest first."""
    return _page(Form.blank("key", KEY))


@blueprint.post("/keys")
@page_login_required
def issue_key() -> ResponseReturnValue:
    """Create an API key and show it in this response: a redirect, as after other writes, could not carry a secret."""
    form = Form.posted("key", KEY, request.form)
    body = form.validate(KeyCreate)
    if body is not None:
        try:
            key, secret = current_parts().accounts.issue_key(
                signed_in().user.id, body.name, read_only=body.read_only, expires_at=body.expires_at
            )
            return show("keys", "key", key=key, secret=secret, address=request.url_root.rstrip("/")), 201
        except ConfigurationError as error:
            form.refuse(error.field, "This is in the past." if error.field == "expires_at" else error.message)
    return _page(form), 422


@blueprint.post("/keys/<uuid:key_id>/revoke")
@page_login_required
def revoke_key(key_id: UUID) -> ResponseReturnValue:
    """Revoke one of the user's own keys."""
    current_parts().accounts.revoke_key(signed_in().user.id, key_id)
    say("The key has been revoked: its next request will be refused.")
    return redirect(url_for("settings.keys"), 303)


def _page(form: Form) -> str:
    found = list(reversed(current_parts().accounts.keys(signed_in().user.id)))
    return show("keys", form=form, keys=part(found, "keys"), now=datetime.now(UTC))
