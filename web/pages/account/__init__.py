"""Show and change a user's own account, with a small page for each part of it.

``profile`` edits name and preferences, ``security`` password and sessions, ``keys`` API keys. ``database`` shows the
state of the user's database, ``own_database`` connects another one, ``data`` backs it up and restores it, ``values``
edits the named values stored in it. All of these pages work whatever state the database is in.
"""

from __future__ import annotations

from web.pages.account import data, database, keys, own_database, profile, security, values
from web.pages.account.layout import blueprint

__all__ = ["blueprint", "data", "database", "keys", "own_database", "profile", "security", "values"]
