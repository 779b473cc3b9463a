"""Turn a browser's User-Agent header into words such as "Firefox on Linux"."""

from __future__ import annotations

LONGEST = 60

# The first match wins: most browsers also name the browsers that they are compatible with.
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
    """Return words like "Firefox on Linux"; an unknown program keeps the name it gives itself."""
    text = (user_agent or "").strip()
    program, system = _first(_PROGRAMS, text), _first(_SYSTEMS, text)
    if program is None:
        return f"{text[:LONGEST]}…" if len(text) > LONGEST else text or "Unknown program"
    return f"{program} on {system}" if system else program


def _first(known: tuple[tuple[str, str], ...], text: str) -> str | None:
    return next((words for sign, words in known if sign in text), None)
