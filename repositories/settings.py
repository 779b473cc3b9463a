"""Store a user's settings: texts under keys like ``theme`` or ``calendar.first_day``."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from repositories.base import values
from repositories.base.repository import BaseUserScopedRepository
from repositories.base.sorting import Row
from repositories.errors import ConflictError
from repositories.schema import settings

_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


class SettingRepository(BaseUserScopedRepository):
    """Read and write settings, which have a ``key`` in place of the ``id`` of other rows."""

    table = settings
    fields: ClassVar = {"value": values.text()}
    searched = ("key", "value")

    def put(self, key: str, value: str, *, if_version: int | None = None) -> tuple[Row, bool]:
        """Write a setting; return its row and whether it is new. With ``if_version`` it must exist."""
        if if_version is not None or self._is_there(key):
            return self.update(key, {"value": value}, if_version=if_version), False
        try:
            return self.create({"key": key, "value": value}), True
        except ConflictError:  # another request created it between the two statements
            return self.update(key, {"value": value}), False

    def _is_there(self, key: object) -> bool:
        # An UPDATE that matches no row locks the gap on MySQL, and two of them deadlock at the INSERT; so look first.
        return isinstance(key, str) and bool(_KEY.fullmatch(key)) and self.exists(key)

    def _new_key(self, given: Row) -> Row:
        key = given.pop("key", None)
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            allowed = "up to 63 of a-z, 0-9, dots, dashes and underscores"
            raise values.refuse("key", f"must begin with a lowercase letter, followed by {allowed}.")
        return {"key": key}

    def _found_key(self, id: Any) -> Any:
        if not isinstance(id, str) or not _KEY.fullmatch(id):
            raise self._missing()
        return id
