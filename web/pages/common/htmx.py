"""Answer htmx requests with a part of a page instead of the whole, together with any messages.

Forms work the same with and without scripts: a view checks ``wants_fragment`` and returns either the part that changed
or the redirect that a form without scripts gets.
"""

from __future__ import annotations

from flask import Response, make_response, render_template

from web.http.errors import wants_fragment
from web.pages.common.flash import Message, pending

__all__ = ["fragment", "htmx_redirect", "wants_fragment"]


def fragment(
    template: str, /, *, status: int = 200, message: Message | str | None = None, **context: object
) -> Response:
    """Render a part of a page; pending messages go along and are swapped into the message area."""
    said = pending()
    if message is not None:
        said.append(Message(message) if isinstance(message, str) else message)
    body = render_template(template, **context)
    if said:
        body += render_template("messages.html", messages=said)
    return make_response(body, status)


def htmx_redirect(url: str) -> Response:
    """Send the browser to another page; htmx would follow a plain redirect itself and swap in what it finds."""
    answer = make_response("", 204)
    answer.headers["HX-Redirect"] = url
    return answer
