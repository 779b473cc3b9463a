"""Show and change a user's own account, a small page for each part of it.

``profile`` asks how things are shown, ``security`` keeps password and sessions, ``keys`` the API keys, ``database``
says how the user's database is, ``own_database`` connects another, ``values`` keeps named values in it. All of them
answer whatever state that is in.
"""

from __future__ import annotations

from web.pages.account import database, keys, own_database, profile, security, values
from web.pages.account.layout import blueprint

__all__ = ["blueprint", "database", "keys", "own_database", "profile", "security", "values"]
