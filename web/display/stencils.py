"""Render once per page what all rows of a list share, and fill in each row's own values by joining strings.

Jinja calls ``escape`` for every value that a template writes, and a task's row writes its id and title some thirty
times: in a list of fifty rows, these calls are most of the time of the page. ``stencil`` calls a macro once, with
placeholders for the values that differ between rows, and splits its HTML at them. The stencil then takes each row's
values, escapes each value once and joins the pieces; the result is the HTML that the macro returns for these values.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from flask import Flask
from jinja2.runtime import Macro
from markupsafe import Markup, escape

_MARK = re.compile("\x00(\\d+)\x00")


def register(app: Flask) -> None:
    """Register ``stencil`` and ``once`` for templates."""
    app.add_template_global(stencil)
    app.add_template_global(once)


def once(macro: Macro) -> Callable[..., Markup]:
    """Return the macro with a cache: arguments that many rows share, such as a category, are rendered once."""
    return cache(lambda *values: Markup(macro(*values)))  # noqa: S704 - what a macro gives is HTML


class Stencil:
    """Hold the pieces of a macro's HTML, and the number of the value that belongs between each two."""

    def __init__(self, html: str) -> None:
        self._pieces = _MARK.split(html)
        self._places = [int(number) for number in self._pieces[1::2]]

    def __call__(self, *values: object) -> Markup:
        """Return the HTML that the macro returns for these values."""
        shown = [escape(value) for value in values]
        pieces = self._pieces.copy()
        pieces[1::2] = [shown[place] for place in self._places]
        return Markup("".join(pieces))  # noqa: S704 - a template's text, and values that were escaped above


def stencil(macro: Macro, **same: object) -> Stencil:
    """Return a stencil of a macro: ``same`` are the arguments that all rows share, the others come with each row.

    The macro may only write the latter: a condition or a filter would see the placeholder instead of the value.
    """
    given = [name for name in macro.arguments if name not in same]
    marks = {name: f"\x00{number}\x00" for number, name in enumerate(given)}
    return Stencil(str(macro(**same, **marks)))
