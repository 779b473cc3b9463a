"""Turn what somebody typed into portable, case-blind LIKEs.

``/api/v1`` looks for the text as a whole. The pages look for its words, all of which must occur, in any column and
order: ``"two words"`` in quotes are one, and ``-word`` must not occur.

Where a database folds ASCII letters only (SQLite, PostgreSQL in the C locale) three spellings stand in for the rest:
all small, all capitals, each word with a capital. So "äpfel" finds "Äpfel" and "ÄPFEL" everywhere; a word that mixes
capital and small letters beyond ASCII in another way is found as it was typed. Accents count: "apfel" does not
find "äpfel". Texts are compared as they were stored, without Unicode normalization.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from repositories.base import values

SEARCH_MAX = 200
WORDS_MAX = 20
"""Words that count in one search; each is looked for in every text that holds the words before it."""

_WORD = re.compile(r'(-?)(?:"([^"]*)"?|([^\s"]+))')
_ESCAPE = "!"
_SPECIAL = str.maketrans({character: _ESCAPE + character for character in "%_[" + _ESCAPE})
_ASCII_SMALL = str.maketrans({chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)})


def words(text: str) -> list[str]:
    """Give the words and phrases that a text looks for, each once, as they were typed: what to highlight."""
    return _parsed(text)[0]


def holds(columns: Sequence[sa.ColumnElement[str]], text: object) -> list[sa.ColumnElement[bool]]:
    """Say that the columns together hold the words of a text, and none of those it excludes."""
    wanted, unwanted = _parsed(checked(text))
    # A column that is NULL holds no word; NOT would make it unknown.
    present = [sa.func.coalesce(column, "") for column in columns]
    return [matches(columns, word) for word in wanted] + [sa.not_(matches(present, word)) for word in unwanted]


def title_hits(title: sa.ColumnElement[str], text: str) -> sa.ColumnElement[int]:
    """Count the words of a text that a title holds."""
    hits: sa.ColumnElement[int] = sa.literal(0)
    for word in words(text):
        hits = hits + sa.case((matches([title], word), 1), else_=0)
    return hits


def checked(text: object) -> str:
    """Give a text that can be searched for, or refuse it."""
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
    """Yield each word and whether it is excluded; a quote that is never closed reaches to the end."""
    for minus, phrase, plain in _WORD.findall(text):
        word = (phrase or plain).strip()
        if word and word != "-":
            yield bool(minus), word


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
