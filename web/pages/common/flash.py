"""Tell people what happened: a short message on the next page they see, perhaps with a way to undo it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from flask import flash, get_flashed_messages

Tone = Literal["good", "bad", "warn", ""]

TEXT_MAX = 200
"""Say how long a message may be: it travels in the session's cookie, which browsers cut off at 4 KB."""


@dataclass(frozen=True)
class Message:
    """Hold one message; ``undo`` is the path that a POST takes it back with."""

    text: str
    tone: str = "good"
    undo: str | None = None


def say(text: str, tone: Tone = "good", *, undo: str | None = None) -> None:
    """Show a message on the next page, or with the fragment that answers this request."""
    short = text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"
    flash([short, undo] if undo else short, tone)  # type: ignore[arg-type]  # any JSON value passes through the session


def pending() -> list[Message]:
    """Give what was said and not shown yet, once."""
    waiting: list[tuple[str, Any]] = get_flashed_messages(with_categories=True)  # type: ignore[assignment]  # pairs
    return [
        Message(said, tone) if isinstance(said, str) else Message(said[0], tone, undo=said[1]) for tone, said in waiting
    ]
