"""Build portable, case-insensitive LIKE conditions from a search text.

``/api/v1`` searches for the text as a whole. Pages search for its words, all of which must occur, in any column and
order; ``"two words"`` in quotes count as one, and ``-word`` must not occur.

Some databases lower ASCII letters only (SQLite, PostgreSQL in the C locale). For them three spellings are tried: lower
case, upper case and title case. So "äpfel" finds "Äpfel" and "ÄPFEL" everywhere; a word with another mix of upper and
lower case beyond ASCII is found only as it was typed. Accents matter: "apfel" does not find "äpfel". Texts are compared
as stored, without Unicode normalization.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from repositories.base import values

SEARCH_MAX = 200
WORDS_MAX = 20
"""How many words of a search text are used; each one costs a comparison with every remaining text."""

_WORD = re.compile(r'(-?)(?:"([^"]*)"?|([^\s"]+))')
_ESCAPE = "!"
_SPECIAL = str.maketrans({character: _ESCAPE + character for character in "%_[" + _ESCAPE})
_ASCII_SMALL = str.maketrans({chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)})


def words(text: str) -> list[str]:
    """Return the words and phrases to highlight, each once, as they were typed."""
    return _parsed(text)[0]


def holds(columns: Sequence[sa.ColumnElement[str]], text: object) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that the columns together contain the words of a text, and none that it excludes."""
    wanted, unwanted = _parsed(checked(text))
    # NOT (NULL LIKE ...) would be unknown, so NULL counts as empty text.
    present = [sa.func.coalesce(column, "") for column in columns]
    return [matches(columns, word) for word in wanted] + [sa.not_(matches(present, word)) for word in unwanted]


def title_hits(title: sa.ColumnElement[str], text: str) -> sa.ColumnElement[int]:
    """Return an expression that counts the words of a text in a title."""
    hits: sa.ColumnElement[int] = sa.literal(0)
    for word in words(text):
        hits = hits + sa.case((matches([title], word), 1), else_=0)
    return hits


def checked(text: object) -> str:
    """Return the stripped search text, or refuse it."""
    plain: str = values.text(SEARCH_MAX)(text, "text")
    return plain.strip()


def _parsed(text: str) -> tuple[list[str], list[str]]:
    wanted: dict[str, str] = {}
    unwanted: dict[str, str] = {}
    for excluded, word in _split(text):
        if len(wanted) + len(unwanted) < WORDS_MAX:
            (unwanted if excluded else wanted).setdefault(word.casefold(), word)
    return list(wanted.values()), list(unwanted.values())


def _split(text: str) -> Iterator[tuple[bool, str]]:
    """Yield whether a word is excluded, and the word; an unclosed quote extends to the end."""
    for minus, phrase, plain in _WORD.findall(text):
        word = (phrase or plain).strip()
        if word and word != "-":
            yield bool(minus), word


def matches(columns: Sequence[sa.ColumnElement[str]], text: str) -> sa.ColumnElement[bool]:
    """Return the condition that one of the columns contains the text, ignoring case."""
    found = [sa.func.lower(column).like(pattern, escape=_ESCAPE) for column in columns for pattern in patterns(text)]
    if not text.isascii():  # lower() may turn such a letter into one that no spelling covers
        found += [column.like(_pattern(text), escape=_ESCAPE) for column in columns]
    return sa.or_(*found)


def patterns(text: str) -> list[str]:
    """Return the LIKE patterns to compare with ``lower(column)``."""
    spellings = (text.lower(), text.upper(), text.title(), text)
    return list(dict.fromkeys(_pattern(spelling.translate(_ASCII_SMALL)) for spelling in spellings))


def _pattern(text: str) -> str:
    """Escape the wildcards of LIKE; ``[`` is one on SQL Server only, where escaping it elsewhere does no harm."""
    return f"%{text.translate(_SPECIAL)}%"
