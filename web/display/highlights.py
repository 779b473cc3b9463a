"""Highlight the words of a search in a line, and cut an excerpt of a long text around the first of them.

Texts are cut before they are escaped, and never inside a character that consists of several code points, such as a
letter with accents or an emoji with a skin tone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

from markupsafe import Markup, escape

WIDTH = 220
"""The length of an excerpt, in characters."""

_BEFORE = 60
_READ = 3 * WIDTH
_JOINED_MAX = 32
_JOINERS = frozenset("\u200d" + "".join(map(chr, [*range(0x1160, 0x1200), *range(0x1F3FB, 0x1F400)])))
_MARK = Markup("<mark>{}</mark>")

_LEADING = re.compile(
    r"^[ \t]{0,12}(?:(?:>[ \t]*|(?:#{1,6}|[-*+]|\d{1,9}[.)])[ \t]+(?:\[[ xX]\][ \t]+)?)+|`{3,}.*|~{3,}.*|[-|: ]{3,}$)",
    re.MULTILINE,
)
_LINK = re.compile(r"!?\[([^\[\]]{0,200})\]\([^()\s]{0,500}(?:\s[^()]{0,200})?\)|<(https?://[^<>\s]{1,500})>")
_SIGNS = re.compile(r"\*\*|__|~~|`+|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)|\|")


def mark(text: str, words: Sequence[str]) -> Markup:
    """Return a line as HTML with the words marked, ignoring case."""
    parts = Markup()
    done = 0
    for start, end in _found(text, words):
        parts += Markup("{}{}").format(text[done:start], _MARK.format(text[start:end]))
        done = end
    return parts + escape(text[done:])


def excerpt(text: str | None, words: Sequence[str] = ()) -> Markup:
    """Return an excerpt of a Markdown text: around the first of the words, or from its beginning."""
    text = text or ""
    hit = next(_found(text, words), (0, 0))[0]
    start = hit - _BEFORE if hit > WIDTH // 2 else 0
    start = _edge(text, text.find(" ", start, hit) + 1 or start) if start else 0
    piece = text[start : start + _READ]
    line = plain(piece)
    if words and next(_found(line, words), None) is None:
        line = _lines(piece)  # the word is in what Markdown hides, an address for instance
    end = _edge(line, WIDTH)
    cut = "…" if end < len(line) or start + _READ < len(text) else ""
    return mark(("… " if start else "") + line[:end] + cut, words)


def plain(text: str) -> str:
    """Strip the Markdown syntax from a text by regular expressions, which is cheap and good enough for a list."""
    bare = _SIGNS.sub("", _LINK.sub(r"\1\2", _LEADING.sub("", text)))
    return _lines(bare)


def _lines(text: str) -> str:
    """Remove blank lines, and all but one of the spaces between words."""
    return "\n".join(line for each in text.splitlines() if (line := " ".join(each.split())))


def _found(text: str, words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield start and end of each occurrence of the words, in order."""
    if not words:
        return
    done = 0
    for found in _pattern(tuple(words)).finditer(text):
        start, end = max(done, _edge(text, found.start(), -1)), _edge(text, found.end())
        if start < end:
            yield start, end
            done = end


@lru_cache(256)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)


def _edge(text: str, place: int, step: int = 1) -> int:
    """Return the nearest boundary between two characters, unless it is absurdly far away."""
    for moved in range(_JOINED_MAX):
        here = place + step * moved
        if not (0 < here < len(text) and _joins(text[here - 1], text[here])):
            return here
    return place


def _joins(before: str, each: str) -> bool:
    """Tell whether a code point belongs to the character before it."""
    return unicodedata.category(each)[0] == "M" or each in _JOINERS or before == "\u200d"
