"""Say in words which program on which system a browser's user agent names."""

from __future__ import annotations

LONGEST = 60

# The first that occurs is meant: most browsers also name those that they would be taken for.
_PROGRAMS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Vivaldi/", "Vivaldi"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def device(user_agent: str | None) -> str:
    """Give words like "Firefox on Linux"; a program that is not known is called as it calls itself."""
    text = (user_agent or "").strip()
    program, system = _first(_PROGRAMS, text), _first(_SYSTEMS, text)
    if program is None:
        return f"{text[:LONGEST]}…" if len(text) > LONGEST else text or "Unknown program"
    return f"{program} on {system}" if system else program


def _first(known: tuple[tuple[str, str], ...], text: str) -> str | None:
    return next((words for sign, words in known if sign in text), None)
