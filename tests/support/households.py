"""Fill a user's database the way lives fill one: nothing yet, a normal week, and far too much of everything."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from repositories.repository_factory import RepositoryFactory
from repositories.schema import events, notes, tasks
from tenancy.types import new_id

if TYPE_CHECKING:
    from compose import Parts

LONG_NAME = "What the neighbours lent us, who of them lent it, and when each would like to have it back, at last:"
LONG_WORD = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 125
HOSTILE = (
    "<svg onload=alert(1)> & <b>bold?</b>",
    "[x](javascript:alert(1)) {{ 7*7 }}",
    "مرحبا بالعالم – שלום עולם",
    "Z̵̡̢͍̦̦̺͙͙̟̣̅̈́̌͌͌̀a̴͇͑l̶̛͎g̵͙̈́o̷̙͌ combining e\u0301\u0301\u0301\u0301",
    "👩‍👩‍👧‍👦 family, 🇩🇪 flag, 👍🏽 thumb",
)
NOTE = """# Bread

Mix **500 g flour** with *350 g water*; rest an hour.

- [ ] feed the starter
- [x] buy salt

| step | time |
|---|---|
| knead | 10 min |
| bake | 45 min |

```
oven = 250
```

> Patience is the secret. <https://example.org/bread>
"""


def empty(parts: Parts, user_id: int) -> None:
    """Leave everything as it is after registration."""


def normal(parts: Parts, user_id: int) -> None:
    """Write a week of somebody orderly."""
    now = datetime.now(UTC)
    with parts.manager.session(user_id, write=True) as session:
        of = _repositories(session, user_id)
        home = of("categories").create({"name": "Home", "color": "#2f8f4e"})["id"]
        work = of("categories").create({"name": "Work", "color": "#b3261e"})["id"]
        of("categories").create({"name": LONG_NAME})
        for title, days, priority, status, category in (
            ("Return the ladder", -2, 2, "todo", home),
            ("Send the invoice", 0, 3, "doing", work),
            ("Water the tomatoes", 0, 0, "todo", home),
            ("Order seeds", 5, 1, "todo", home),
            ("Book the train to Vienna", 12, 0, "todo", None),
            ("Call the plumber", -1, 0, "done", home),
        ):
            due = now.date() + timedelta(days=days)
            of("tasks").create(
                {"title": title, "due_date": due, "priority": priority, "status": status, "category_id": category}
            )
        of("tasks").create({"title": "Read the long book", "description": "At least a chapter a week."})
        of("notes").create({"title": "Bread", "body": NOTE, "pinned": True, "category_id": home})
        of("notes").create({"title": "Ideas for the summer", "body": "Lake, bicycles, and a tent that stays dry."})
        for title, days, hours, length, all_day in (
            ("Dentist", -6, 2, 1, False),
            ("Stand-up", 0, 1, 1, False),
            ("Concert", 1, 6, 3, False),
            ("Holiday", 3, 0, 72, True),
            ("Night train", 7, 10, 12, False),
        ):
            begins = now.replace(minute=30, second=0, microsecond=0) + timedelta(days=days, hours=hours)
            begins = begins.replace(hour=0, minute=0) if all_day else begins
            of("events").create(
                {
                    "title": title,
                    "starts_at": begins,
                    "ends_at": begins + timedelta(hours=length),
                    "all_day": all_day,
                    "location": "Town hall" if title == "Concert" else None,
                    "category_id": work if title == "Stand-up" else home,
                }
            )
        _throw_away(of, "Buy a tent", "Draft of a letter")


def full(parts: Parts, user_id: int) -> None:
    """Write too much, and what should never have been typed."""
    normal(parts, user_id)
    now = datetime.now(UTC)
    texts = [*HOSTILE, LONG_WORD[:200]]
    with parts.manager.session(user_id, write=True) as session:
        of = _repositories(session, user_id)
        rooms = [of("categories").create({"name": f"Room {n:04}", "color": "#5b3fa8"})["id"] for n in range(250)]
        for number, text in enumerate(texts):
            days = timedelta(days=number)
            of("tasks").create({"title": text, "description": LONG_WORD, "due_date": now.date(), "priority": 3})
            of("notes").create({"title": text, "body": f"{text}\n\n{LONG_WORD}", "pinned": True})
            of("events").create({"title": text, "starts_at": now, "ends_at": now + days, "location": LONG_WORD[:200]})
        _throw_away(of, *texts)
        stamps = {"user_id": user_id, "updated_at": now, "version": 1}
        session.execute(tasks.insert(), [_task(number, now, rooms) | stamps for number in range(2_000)])
        session.execute(notes.insert(), [_note(number, now) | stamps for number in range(500)])
        session.execute(events.insert(), [_event(number, now) | stamps for number in range(500)])


STATES: dict[str, Callable[[Parts, int], None]] = {"empty": empty, "normal": normal, "full": full}


def _repositories(session: Any, user_id: int) -> Callable[[str], Any]:
    return lambda name: RepositoryFactory.get_repository(name, session, user_id)


def _throw_away(of: Callable[[str], Any], *titles: str) -> None:
    for title in titles:
        for name in ("tasks", "notes"):
            of(name).discard(of(name).create({"title": title})["id"])


def _task(number: int, now: datetime, rooms: list[Any]) -> dict[str, Any]:
    return {
        "id": new_id(),
        "title": f"Task number {number}",
        "status": ("todo", "doing", "done")[number % 3],
        "priority": number % 4,
        "due_date": now.date() + timedelta(days=number % 60 - 20),
        "category_id": rooms[number % len(rooms)],
        "created_at": now - timedelta(minutes=number),
    }


def _note(number: int, now: datetime) -> dict[str, Any]:
    body = "All work and no play makes a dull note. " * 40
    return {"id": new_id(), "title": f"Note number {number}", "body": body, "created_at": now}


def _event(number: int, now: datetime) -> dict[str, Any]:
    begins = now + timedelta(hours=3 * number - 500)
    return {
        "id": new_id(),
        "title": f"Event number {number}",
        "starts_at": begins,
        "ends_at": begins + timedelta(hours=1 + number % 40),
        "all_day": number % 9 == 0,
        "created_at": now,
    }
