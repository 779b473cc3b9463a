"""Turn what somebody typed into a portable, case-blind LIKE.

Where a database folds ASCII letters only (SQLite, PostgreSQL in the C locale) three spellings stand in for the rest:
all small, all capitals, each word with a capital. So "äpfel" finds "Äpfel" and "ÄPFEL" everywhere; a word that mixes
capital and small letters beyond ASCII in another way is found as it was typed. Accents count: "apfel" does not
find "äpfel". Texts are compared as they were stored, without Unicode normalization.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

SEARCH_MAX = 200
_ESCAPE = "!"
_SPECIAL = str.maketrans({character: _ESCAPE + character for character in "%_[" + _ESCAPE})
_ASCII_SMALL = str.maketrans({chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)})


def matches(columns: Sequence[sa.ColumnElement[str]], text: str) -> sa.ColumnElement[bool]:
    """Say that one of the columns contains the text, in any case."""
    found = [sa.func.lower(column).like(pattern, escape=_ESCAPE) for column in columns for pattern in patterns(text)]
    if not text.isascii():  # lower() may change such a letter into another that no spelling foresees
        found += [column.like(_pattern(text), escape=_ESCAPE) for column in columns]
    return sa.or_(*found)


def patterns(text: str) -> list[str]:
    """Give the LIKE patterns that find the text in what ``lower`` gives of a column."""
    spellings = (text.lower(), text.upper(), text.title(), text)
    return list(dict.fromkeys(_pattern(spelling.translate(_ASCII_SMALL)) for spelling in spellings))


def _pattern(text: str) -> str:
    """Let what LIKE reads as a wildcard stand for itself; ``[`` is one on SQL Server only, and harmless elsewhere."""
    return f"%{text.translate(_SPECIAL)}%"
