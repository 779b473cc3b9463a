"""Store a user's notes."""

from __future__ import annotations

import operator
from typing import ClassVar

import sqlalchemy as sa

from repositories.base import values
from repositories.base.paged import AMONG
from repositories.base.sorting import down, up
from repositories.base.statements import Filter
from repositories.categorized import CATEGORY, IN_CATEGORY, CategorizedRepository
from repositories.schema import TITLE_MAX, notes


class NoteRepository(CategorizedRepository):
    """Read and write notes."""

    table = notes
    fields: ClassVar = {
        "title": values.line(TITLE_MAX),
        "body": values.optional(values.text()),
        "pinned": values.flag,
        "category_id": CATEGORY,
    }
    defaults: ClassVar = {"body": None, "pinned": False, "category_id": None}
    filters: ClassVar = {"pinned": Filter("pinned", operator.eq), "category_id": IN_CATEGORY, "ids": AMONG}
    searched = ("title", "body")
    sorts: ClassVar = {
        "recent": down(notes.c.pinned, notes.c.updated_at, notes.c.id),
        "newest": down(notes.c.created_at, notes.c.id),
        "oldest": up(notes.c.created_at, notes.c.id),
        "title": up(sa.func.lower(notes.c.title), notes.c.id),
    }
    """``recent``: pinned notes first, then the last changed."""
