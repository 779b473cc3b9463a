"""Translate ``?`` placeholders into each driver's own, and leave strings, names, comments and operators alone.

A tokenizer does it: ``'what?'``, ``"a?b"``, ``[a?b]``, ``$$?$$``, ``-- ?`` and ``/* ? */`` are no placeholders, ``??``
is a literal question mark, and ``%`` and ``:x`` are passed on to the database.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from tenancy.errors import ConfigurationError


@dataclass(frozen=True)
class Rules:
    """Say how one product writes strings, quoted names and comments.

    ``mark`` is the driver's placeholder. Drivers with ``%s`` want every literal ``%`` doubled.
    """

    mark: str = "?"
    brackets: bool = False
    backticks: bool = False
    backslash: bool = False
    escape_strings: bool = False
    dollar_quotes: bool = False
    nested_comments: bool = False
    hash_comments: bool = False
    spaced_dashes: bool = False


_DOLLAR = re.compile(r"\$(?:[A-Za-z_\u0080-\uffff][A-Za-z0-9_\u0080-\uffff]*)?\$")
_CONTINUED = re.compile(r"[ \t\f\v]*[\n\r][ \t\n\r\f\v]*'")  # the SQL standard joins two literals on two lines
_WORD = re.compile(r"[A-Za-z0-9_$\u0080-\U0010ffff]+")


@lru_cache(maxsize=1024)
def translate(sql: str, rules: Rules, count: int) -> str:
    """Return ``sql`` with the driver's placeholders; ConfigurationError if it does not hold ``count`` of them."""
    pieces: list[str] = []
    found = 0
    position = 0
    while position < len(sql):
        end, is_mark = _token(sql, position, rules)
        piece = sql[position:end]
        if is_mark:
            found += 1
            pieces.append(rules.mark)
        else:
            # A driver with ``?`` counts the marks itself, and may find one in a comment inside a comment.
            unmarked = rules.nested_comments and rules.mark == "?" and piece.startswith("/*")
            piece = piece.replace("?", " ") if unmarked else piece
            literal = "?" if piece == "??" else piece
            pieces.append(literal.replace("%", "%%") if "%" in rules.mark else literal)
        position = end
    if found != count:
        raise ConfigurationError(
            f"the statement has {found} placeholders and {count} values were given.", field="params"
        )
    return "".join(pieces)


def statements(sql: str, rules: Rules) -> Iterator[list[str]]:
    """Yield the words of each statement of a text, in capitals, without strings, quoted names and comments."""
    words: list[str] = []
    position = 0
    while position < len(sql):
        end, _ = _token(sql, position, rules)
        if sql[position] == ";":
            if words:
                yield words
            words = []
        elif _WORD.match(sql, position):
            words.append(sql[position:end].upper())
        position = end
    if words:
        yield words


def _token(sql: str, at: int, rules: Rules) -> tuple[int, bool]:
    """Return where the token that starts at ``at`` ends, and whether it is a placeholder."""
    character = sql[at]
    if character == "?":
        return (at + 2, False) if sql.startswith("??", at) else (at + 1, True)
    if character in "'\"" or (character == "`" and rules.backticks):
        return _quoted(sql, at, character, rules.backslash and character != "`"), False
    if character == "[" and rules.brackets:
        return _quoted(sql, at, "]", False), False
    if _starts_comment(sql, at, rules):
        return _line_end(sql, at), False
    if sql.startswith("/*", at):
        return _comment(sql, at, rules.nested_comments), False
    if character == "$" and rules.dollar_quotes:
        return _dollar(sql, at), False
    word = _WORD.match(sql, at)
    if word is None:
        return at + 1, False
    return _word(sql, word, rules), False


def _quoted(sql: str, at: int, closing: str, backslash: bool) -> int:
    position = at + 1
    while position < len(sql):
        if (backslash and sql[position] == "\\") or sql.startswith(closing * 2, position):
            position += 2
        elif sql[position] == closing:
            return position + 1
        else:
            position += 1
    return len(sql)


def _starts_comment(sql: str, at: int, rules: Rules) -> bool:
    if sql[at] == "#":
        return rules.hash_comments
    if not sql.startswith("--", at):
        return False
    # MySQL: two dashes begin a comment only before a blank, a control character or the end; `5--3` is arithmetic.
    return not rules.spaced_dashes or at + 2 >= len(sql) or sql[at + 2] <= " " or sql[at + 2] == "\x7f"


def _line_end(sql: str, at: int) -> int:
    end = sql.find("\n", at)
    return len(sql) if end < 0 else end + 1


def _comment(sql: str, at: int, nested: bool) -> int:
    depth, position = 1, at + 2
    while position < len(sql):
        if nested and sql.startswith("/*", position):
            depth, position = depth + 1, position + 2
        elif sql.startswith("*/", position):
            depth, position = depth - 1, position + 2
            if depth == 0:
                return position
        else:
            position += 1
    return len(sql)


def _dollar(sql: str, at: int) -> int:
    opening = _DOLLAR.match(sql, at)
    if opening is None:
        return at + 1
    end = sql.find(opening.group(), opening.end())
    return len(sql) if end < 0 else end + len(opening.group())


def _word(sql: str, word: re.Match[str], rules: Rules) -> int:
    """Return the end of a whole word, so that ``a$b$c`` opens no dollar quote; ``E'..'`` is an escape string."""
    end = word.end()
    if not (rules.escape_strings and word.group() in ("e", "E") and sql.startswith("'", end)):
        return end
    end = _quoted(sql, end, "'", True)
    while more := _CONTINUED.match(sql, end):
        end = _quoted(sql, more.end() - 1, "'", True)
    return end
