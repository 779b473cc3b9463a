"""Put a row's state into ``ETag``, and compare it with the state that the client has seen.

A tag holds the row's version and when it was made: a row deleted and made again under the same id begins at
version 1 again, and is another row.
"""

from __future__ import annotations

import re
from typing import Any

from flask import request

from repositories.base.repository import BaseUserScopedRepository
from web.http.cursors import EPOCH, MICROSECOND
from web.http.errors import Problem

TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
TAGS = re.compile(rf"\s*(?:\*|{TAG}(?:\s*,\s*{TAG})*)\s*")


def etag(row: dict[str, Any]) -> str:
    """Return the tag of a row."""
    return f'"{row["version"]}-{(row["created_at"] - EPOCH) // MICROSECOND:x}"'


def precondition() -> frozenset[str] | None:
    """Return the tags of ``If-Match``, which may include ``*``; None without the header; 400 if it is malformed."""
    given = request.environ.get("HTTP_IF_MATCH")
    return None if given is None else _tags(given, "If-Match")


def seen_version(repository: BaseUserScopedRepository, key: object, wanted: frozenset[str] | None) -> int | None:
    """Compare the row with what the client has seen, and return the version for the UPDATE or DELETE to check again.

    Raises 412 if the row has changed; a weak tag never matches.
    """
    if wanted is None:
        return None
    row = repository.get(key)
    if "*" not in wanted and etag(row) not in wanted:
        raise Problem(412, "stale_version", "The row was changed in the meantime: read it again, then decide.")
    version: int = row["version"]
    return version


def unchanged(row: dict[str, Any]) -> bool:
    """Tell whether the client already has this state (``If-None-Match``)."""
    given = request.environ.get("HTTP_IF_NONE_MATCH")
    if given is None or not TAGS.fullmatch(given):
        return False
    seen = {tag.removeprefix("W/") for tag in _tags(given, "If-None-Match")}
    return "*" in seen or etag(row) in seen


def _tags(given: str, header: str) -> frozenset[str]:
    if not TAGS.fullmatch(given):
        raise Problem(400, "header_malformed", f'{header} must be * or a list of tags in quotes, such as "1-5f0".')
    return frozenset(re.findall(rf"\*|{TAG}", given) if given.strip() != "*" else ["*"])
