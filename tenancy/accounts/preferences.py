"""Check and merge users' preferences: short texts by name, in one JSON column of the account.

They are read with every request (``User.preferences``), so their number and length are limited. What the names mean is
the application's business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from tenancy import names
from tenancy.errors import ConfigurationError

MOST = 32
LONGEST = 200
_NAME = re.compile(r"[a-z_.]{1,32}")


def check(changes: Mapping[str, str | None]) -> None:
    """Refuse invalid names and texts; the error's field is the name."""
    for name, value in changes.items():
        if not _NAME.fullmatch(name):
            raise ConfigurationError("a preference's name is 1 to 32 of a-z, . and _.", field="preferences")
        if value is not None and len(names.storable(value, name)) > LONGEST:
            raise ConfigurationError(f"{name} has at most {LONGEST} characters.", field=name)


def merged(before: Mapping[str, str], changes: Mapping[str, str | None]) -> str | None:
    """Return the text to store, or None if no preference is left."""
    kept = {name: value for name, value in {**before, **changes}.items() if value is not None}
    if len(kept) > MOST:
        raise ConfigurationError(f"an account keeps at most {MOST} preferences.", field="preferences")
    return json.dumps(kept, sort_keys=True) if kept else None
