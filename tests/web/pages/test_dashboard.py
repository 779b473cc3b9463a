"""The page of the day, and the line that adds a task to it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from repositories.repository_factory import RepositoryFactory
from tests.support.moments import now, today

HTMX = {"HX-Request": "true"}


@pytest.fixture
def tasks(parts, user):
    def read():
        with parts.manager.session(user.id) as session:
            return RepositoryFactory.get_repository("tasks", session, user.id).page(sort="oldest").rows

    return read


def said(page):
    return re.findall(r"<p>([^<]*)</p>", page.html)


def test_an_empty_day_says_what_to_do(ada):
    page = ada.get("/").html
    for text in ("Nothing is due", "No upcoming events", "Pin a note to keep it here."):
        assert text in page


def test_the_day_shows_what_is_overdue_due_and_to_come(ada):
    for title, days in (("late", -2), ("now", 0), ("soon", 3)):
        ada.send("/tasks", title=f"{title} task", due_date=(today() + timedelta(days=days)).isoformat())
    ada.send("/tasks", title="no day at all")
    ada.send("/tasks", title="over", status="done", due_date=today().isoformat())
    for title, hours in (("coming", 24), ("past", -48)):
        start = now() + timedelta(hours=hours)
        ada.send("/events", title=f"{title} event", starts_at=start.strftime("%Y-%m-%dT%H:%M"), ends_at="")
    ada.send("/notes", title="pinned note", pinned="1")
    ada.send("/notes", title="loose note")
    ada.get("/settings")
    page = ada.get("/").html
    order = [
        page.find(text) for text in (">Overdue<", "late task", ">Today</h3>", "now task", ">Upcoming<", "soon task")
    ]
    assert -1 not in order
    assert order == sorted(order)
    assert "overdue since" in page
    assert "coming event" in page
    assert "pinned note" in page
    for hidden in ("no day at all", ">over<", "past event", "loose note"):
        assert hidden not in page


def test_many_overdue_tasks_do_not_hide_what_is_due_today(ada, parts, user):
    with parts.manager.session(user.id, write=True) as session:
        repository = RepositoryFactory.get_repository("tasks", session, user.id)
        for number in range(30):
            repository.create({"title": f"late {number}", "due_date": today() - timedelta(days=1)})
        repository.create({"title": "due now", "due_date": today()})
    page = ada.get("/")
    assert "due now" in page.html
    assert page.html.count(">late ") == 8
    assert "/tasks?due=overdue&sort=due" in page.links


def test_one_press_marks_a_task_as_done_and_stays_on_the_page(ada, tasks):
    ada.send("/tasks", title="call", due_date=today().isoformat())
    [row] = tasks()
    token = ada.token
    answer = ada.client.post(f"/tasks/{row['id']}/done", data={"csrf_token": token, "done": "1", "next": "/"})
    assert (answer.status_code, answer.location) == (303, "/")
    assert tasks()[0]["status"] == "done"
    headers = HTMX | {"HX-Current-URL": "http://localhost/"}
    row_again = ada.client.post(f"/tasks/{row['id']}/done", data={"csrf_token": token, "done": "0"}, headers=headers)
    assert "Select call" not in row_again.text, "there is nothing to select on this page"
    assert f"/tasks/{row['id']}?next=/" in row_again.text


def test_a_line_becomes_a_task_and_the_message_says_what_was_understood(ada, tasks):
    tomorrow = today() + timedelta(days=1)
    assert ada.send("/", "/quick-add", text="call mum tomorrow 5pm #home !2").location == "/"
    [row] = tasks()
    assert (row["title"], row["due_date"], row["due_time"], row["priority"], row["category_name"]) == (
        "call mum",
        tomorrow,
        "17:00",
        2,
        "home",
    )
    [message] = [text for text in said(ada.get("/")) if "Added" in text]
    assert re.fullmatch(
        r"Added “call mum”, due \w{3} \d{1,2} \w{3}( \d{4})? 17:00, new category home, medium priority\.", message
    )


def test_a_category_that_is_there_is_taken_in_any_case(ada, tasks):
    ada.send("/categories", name="Home")
    ada.send("/tasks", "/quick-add", text="sweep #HOME")
    assert tasks()[0]["category_name"] == "Home"
    assert "Added “sweep”, HOME." in said(ada.get("/tasks"))


def test_a_line_of_plain_words_is_a_title(ada, tasks):
    assert ada.send("/tasks", "/quick-add", text="read a \\#book").location == "/tasks"
    [row] = tasks()
    assert (row["title"], row["due_date"], row["category_name"]) == ("read a #book", None, "Uncategorized")


def test_an_added_task_is_taken_back_with_one_press_and_comes_back_with_another(ada, tasks):
    ada.send("/", "/quick-add", text="oops")
    for count in (0, 1):
        form = next(form for form in ada.get("/").forms if form.action.endswith("?next=/"))
        assert ada.client.post(form.action, data=form.values).location == "/"
        assert len(tasks()) == count


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "This field is required"),
        ("  ", "This field is required"),
        ("tomorrow 5pm #home", "What needs to be done?"),
        ("x" * 201, "at most 200"),
        ("word " * 300, "at most 200"),
        ("nul\x00", "cannot be stored"),
    ],
)
def test_a_line_that_is_no_task_is_shown_again_with_its_text(ada, tasks, text, says):
    answer = ada.send("/", "/quick-add", text=text)
    assert answer.status_code == 422
    assert says in answer.text
    assert 'id="quick-error"' in answer.text
    assert tasks() == []
    form = next(form for form in type(ada.get("/"))(answer.text).forms if form.action == "/quick-add")
    assert form.values["text"] == text.replace("\x00", "\x00")


def test_a_line_sent_twice_makes_one_task(ada, tasks):
    form = ada.form("/", "/quick-add")
    for _ in range(2):
        assert ada.client.post(form.action, data=form.values | {"text": "once #new tomorrow"}).status_code == 303
    assert len(tasks()) == 1
    ada.client.post(form.action, data=form.values | {"text": "another"})
    assert {row["title"] for row in tasks()} == {"once", "another"}


def test_what_is_understood_is_shown_while_a_line_is_typed(ada, tasks):
    ask = {"text": "<b>call</b> mum today 17:00 #home"}
    shown = ada.client.get("/quick-add", query_string=ask, headers=HTMX).text
    for text in ("&lt;b&gt;call&lt;/b&gt; mum", "17:00", "#home"):
        assert text in shown
    assert "<html" not in shown
    plain = ada.client.get("/quick-add", query_string={"text": "call mum"}, headers=HTMX).text
    assert "Understood" not in plain
    assert tasks() == []


def test_the_line_has_a_page_of_its_own_without_scripts(ada):
    page = ada.get("/quick-add?text=call+mum")
    form = next(form for form in page.forms if form.action == "/quick-add")
    assert form.values["text"] == "call mum"
    assert ada.client.post(form.action, data=form.values).status_code == 303


def test_the_line_below_tells_what_is_not_taken(ada):
    shown = ada.client.get("/quick-add", query_string={"text": "lunch Fri 9 Dec 2028"}, headers=HTMX).text
    assert "“Fri” and “9 Dec 2028” stay in the title: 9 Dec 2028 is a Saturday." in shown
    assert "Understood" not in shown
    ada.send("/", "/quick-add", text="water plants every monday #home")
    [message] = [text for text in said(ada.get("/")) if "Added" in text]
    assert "repeating tasks are not supported yet" in message


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("tomorrow", "What needs to be done?"),
        ("x" * 300, "it has 300 characters, and at most 200 are allowed"),
        ("call mum yesterday", "it has passed"),
        ("call mum 25:00", "there is no such time"),
        ("ring in 99999 days", "999 is the most that can be counted"),
    ],
)
def test_the_line_below_tells_at_once_what_cannot_be(ada, text, tells):
    assert tells in ada.client.get("/quick-add", query_string={"text": text}, headers=HTMX).text
    assert tells not in ada.client.get("/quick-add", query_string={"text": "call mum"}, headers=HTMX).text


def test_a_date_in_figures_is_read_in_the_order_of_the_settings(ada, tasks):
    for order, month in (("day", 5), ("month", 12)):
        assert ada.send("/settings", "/settings/you", day_order=order).status_code == 303
        ada.send("/", "/quick-add", text=f"by {order} 12/05")
        assert {row["title"]: row["due_date"].month for row in tasks()}[f"by {order}"] == month
    assert ada.send("/settings", "/settings/you", day_order="year").status_code == 422
    assert ada.form("/settings", "/settings/you").values["day_order"] == "month"


def test_hours_are_counted_from_the_viewers_clock(ada, tasks, parts, user, monkeypatch):
    from web.display import clock

    parts.accounts.set_preferences(user.id, {"time_zone": "Pacific/Auckland"})
    monkeypatch.setattr(clock, "now", lambda: datetime(2026, 3, 4, 10, 30, tzinfo=UTC).astimezone(clock.zone()))
    ada.send("/", "/quick-add", text="check oven in 2h")
    [row] = tasks()
    assert (row["due_date"].isoformat(), row["due_time"]) == ("2026-03-05", "01:30")
