"""Show and change a user's own account, with a small page for each part of it.

``profile`` edits name and preferences, ``security`` password and sessions, ``keys`` API keys. ``database`` shows the
state of the user's database, ``own_database`` connects another one, ``values`` edits the named values stored in it. All
of these pages work whatever state the database is in.
"""

from __future__ import annotations

from web.pages.account import database, keys, own_database, profile, security, values
from web.pages.account.layout import blueprint

__all__ = ["blueprint", "database", "keys", "own_database", "profile", "security", "values"]
