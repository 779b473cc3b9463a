"""Store named views of the task list, with filters and order, in one of the tenant's settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from repositories.errors import ConflictError, NotFoundError
from tenancy.names import fold
from web.pages.common import rows as row_pages
from web.pages.common.forms import Field, Form
from web.pages.tasks import filters
from web.pages.tasks.filters import Words

KEY = "views.tasks"
MOST = 20
NAME_MAX = 40
FIELDS = (Field("name", "Name of the view", required=True, max_length=NAME_MAX),)


@dataclass(frozen=True)
class View:
    name: str
    words: Words


def read(session: Session) -> list[View]:
    """Return the saved views in the order they were saved; invalid contents of the setting are ignored."""
    return _read(_setting(session))


def add(form: Form, words: Words, session: Session) -> None:
    """Save a view; ConflictError if the name is taken or there are too many views."""
    setting, name = _setting(session), " ".join(form.values.get("name", "").split())
    saved = _read(setting)
    if fold(name) in {fold(view.name) for view in saved}:
        raise ConflictError("a view with this name already exists.", field="name")
    if len(saved) >= MOST:
        raise ConflictError(f"there are {MOST} views already; remove one first.", field="name")
    _write(session, setting, [*saved, View(name, words)])


def remove(session: Session, name: str) -> bool:
    """Delete a view; return whether it existed."""
    setting = _setting(session)
    saved = _read(setting)
    kept = [view for view in saved if fold(view.name) != fold(name)]
    if len(kept) == len(saved):
        return False
    _write(session, setting, kept)
    return True


def _setting(session: Session) -> dict[str, Any]:
    try:
        row: dict[str, Any] = row_pages.of("settings", session).get(KEY)
    except NotFoundError:
        return {}
    return row


def _read(setting: dict[str, Any]) -> list[View]:
    try:
        stored = json.loads(setting.get("value", "[]"))
    except ValueError:
        return []
    known = [each for each in stored if isinstance(each, dict)] if isinstance(stored, list) else []
    return [
        View(name[:NAME_MAX], filters.words({key: word for key, word in words.items() if isinstance(word, str)}))
        for name, words in ((each.get("name"), each.get("words")) for each in known[:MOST])
        if isinstance(name, str) and fold(name) and isinstance(words, dict)
    ]


def _write(session: Session, setting: dict[str, Any], views: list[View]) -> None:
    value = json.dumps([{"name": view.name, "words": view.words} for view in views], ensure_ascii=False)
    rows = row_pages.of("settings", session)
    if setting:
        rows.update(KEY, {"value": value}, if_version=setting["version"])
    else:
        rows.create({"key": KEY, "value": value})
