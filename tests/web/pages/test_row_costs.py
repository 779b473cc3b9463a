"""Count what the rows of a list cost: what is the same for all of them is made once a page, however many there are."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest
from flask import Flask

from repositories.repository_factory import RepositoryFactory
from web.http import assets

START = datetime(2099, 1, 1, 9, tzinfo=UTC)
MADE = {
    "tasks": lambda n: {"title": f"Task {n}", "due_date": date(2099, 1, 1) + timedelta(n), "priority": n % 4},
    "notes": lambda n: {"title": f"Note {n}", "body": "Some text", "pinned": n % 2 == 0},
    "events": lambda n: {"title": f"Event {n}", "starts_at": START + timedelta(hours=n)},
    "categories": lambda n: {"name": f"Category {n}", "color": "#00aa55"},
}
PAGES = {
    "/tasks": "tasks",
    "/tasks?status=any&sort=title": "tasks",
    "/notes": "notes",
    "/notes?q=text": "notes",
    "/events?view=list": "events",
    "/events?view=week&on=2099-01-01": "events",
    "/categories": "categories",
}


@pytest.fixture
def add(parts, user):
    """Give a function that writes a number of rows, in one category."""

    def write(name, numbers):
        with parts.manager.session(user.id, write=True) as session:
            categories = RepositoryFactory.get_repository("categories", session, user.id)
            extra = {"category_id": categories.uncategorized()} if name != "categories" else {}
            repository = RepositoryFactory.get_repository(name, session, user.id)
            for number in numbers:
                repository.create(MADE[name](number) | extra)

    return write


@contextmanager
def counted():
    """Count the calls that build an address, look at a static file or render an icon."""
    calls = Counter()
    codes = {Flask.url_for.__code__: "url_for", assets.fingerprint.__code__: "fingerprint"}

    def note(frame, happened, _):
        if happened == "call":
            if frame.f_code in codes:
                calls[codes[frame.f_code]] += 1
            elif frame.f_code.co_name == "macro":
                calls["macro"] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def cost(visitor, path):
    visitor.get(path)
    with counted() as calls:
        page = visitor.get(path)
    return calls, page


@pytest.mark.parametrize("path", PAGES)
def test_fifty_rows_build_as_many_addresses_as_five(ada, add, path):
    add(PAGES[path], range(5))
    few, _ = cost(ada, path)
    add(PAGES[path], range(5, 50))
    many, page = cost(ada, path)
    assert all(str(next(iter(MADE[PAGES[path]](number).values()))) in page.html for number in range(48))
    assert few["url_for"] > 0
    assert few["fingerprint"] > 0
    assert (many["url_for"], many["fingerprint"]) <= (few["url_for"] + 1, few["fingerprint"])


def test_a_task_with_nothing_but_a_title_calls_no_macro(ada, parts, user):
    def add(count):
        with parts.manager.session(user.id, write=True) as session:
            repository = RepositoryFactory.get_repository("tasks", session, user.id)
            for number in range(count):
                repository.create({"title": f"Task {number}", "category_id": None})

    add(5)
    few, _ = cost(ada, "/tasks")
    add(40)
    many, page = cost(ada, "/tasks")
    assert page.html.count("data-row") == 45
    assert many["macro"] == few["macro"]
