"""Show a short message about what happened on the next page, with an undo button where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from flask import flash, get_flashed_messages

Tone = Literal["good", "bad", "warn", ""]

TEXT_MAX = 200
"""Longest message, in characters: it travels in the session cookie, and browsers limit a cookie to 4 KB."""


@dataclass(frozen=True)
class Message:
    """One message; a POST to the path ``undo`` undoes what it reports."""

    text: str
    tone: str = "good"
    undo: str | None = None


def say(text: str, tone: Tone = "good", *, undo: str | None = None) -> None:
    """Show a message on the next page, or in the response if it is an htmx fragment."""
    short = text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"
    flash([short, undo] if undo else short, tone)  # type: ignore[arg-type]  # any JSON value passes through the session


def pending() -> list[Message]:
    """Return the messages that have not been shown yet, and forget them."""
    waiting: list[tuple[str, Any]] = get_flashed_messages(with_categories=True)  # type: ignore[assignment]  # pairs
    return [
        Message(said, tone) if isinstance(said, str) else Message(said[0], tone, undo=said[1]) for tone, said in waiting
    ]
