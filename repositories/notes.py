"""Keep a user's notes."""

from __future__ import annotations

import operator
from typing import ClassVar

from repositories import values
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
    filters: ClassVar = {"pinned": ("pinned", operator.eq), "category_id": IN_CATEGORY}
    searched = ("title", "body")
