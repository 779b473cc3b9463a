"""The list of tasks: what it shows, what is done to tasks in it, one by one and many at once."""

from __future__ import annotations

import json
import re
import uuid
from datetime import date, timedelta

import pytest

from repositories.repository_factory import RepositoryFactory
from tests.support.moments import today

HTMX = {"HX-Request": "true"}


@pytest.fixture
def of(parts, user):
    """Give a function that runs something with one of ada's repositories."""

    def run(name, work, *, write=False):
        with parts.manager.session(user.id, write=write) as session:
            return work(RepositoryFactory.get_repository(name, session, user.id))

    return run


@pytest.fixture
def make(of):
    """Give a function that writes tasks, the first of which stands lowest in the list, and gives their ids."""

    def write(*titles, **values):
        return of("tasks", lambda tasks: [tasks.create({"title": each} | values)["id"] for each in titles], write=True)

    return write


def titles(page):
    return re.findall(r'<a class="title[^>]*>([^<]*)</a>', page.html)


def task(of, key):
    return of("tasks", lambda tasks: tasks.get(key))


def quietly(visitor, path, **typed):
    """Post as htmx does from the list."""
    data = {"csrf_token": visitor.token} | typed
    return visitor.client.post(path, data=data, headers=HTMX | {"HX-Current-URL": "http://localhost/tasks"})


def bulk(visitor, ids, action, **typed):
    data = {"csrf_token": visitor.token, "ids": [str(each) for each in ids], "action": action} | typed
    return visitor.client.post("/tasks/bulk", data=data)


def undo(visitor, path="/tasks"):
    """Press the button of the message that offers to undo."""
    form = next(form for form in visitor.get(path).forms if "/bin/" in form.action)
    return visitor.client.post(form.action, data=form.values)


def test_the_list_shows_what_is_open_and_the_newest_on_top(ada, make):
    make("first", "second")
    make("over", status="done")
    assert titles(ada.get("/tasks")) == ["second", "first"]
    assert titles(ada.get("/tasks?status=any")) == ["over", "second", "first"]
    assert titles(ada.get("/tasks?status=done")) == ["over"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("due=overdue", {"late"}),
        ("due=today", {"now"}),
        ("due=week", {"now", "soon"}),
        ("due=none", {"never"}),
        ("priority=3", {"soon"}),
        ("priority=0&due=none", {"never"}),
        ("q=NEV", {"never"}),
        ("q=o&due=week", {"now", "soon"}),
        ("due=nonsense&priority=9&status=x&sort=y", {"late", "now", "soon", "far", "never"}),
    ],
)
def test_filters_leave_what_they_say(ada, make, query, found):
    for title, days, priority in (("late", -1, 0), ("now", 0, 0), ("soon", 6, 3), ("far", 7, 1)):
        make(title, due_date=today() + timedelta(days=days), priority=priority)
    make("never")
    assert set(titles(ada.get(f"/tasks?{query}"))) == found


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("due", ["b", "c", "a"]),
        ("priority", ["c", "b", "a"]),
        ("newest", ["c", "b", "a"]),
        ("oldest", ["a", "b", "c"]),
        ("title", ["a", "b", "c"]),
    ],
)
def test_every_order_is_kept(ada, make, sort, order):
    make("a")
    make("b", due_date=today(), priority=1)
    make("c", due_date=today() + timedelta(days=1), priority=2)
    assert titles(ada.get(f"/tasks?sort={sort}")) == order


def test_a_category_narrows_by_id_and_by_name(ada, of, make):
    home = of("categories", lambda categories: categories.create({"name": "Home"})["id"], write=True)
    make("sweep", category_id=home)
    make("other")
    assert titles(ada.get(f"/tasks?category={home}")) == ["sweep"]
    assert titles(ada.get("/tasks?category=HOME")) == ["sweep"]
    unknown = ada.get("/tasks?category=<b>nowhere")
    assert titles(unknown) == []
    assert "There is no category named" in unknown.html
    assert "<b>nowhere" not in unknown.html
    assert titles(ada.get(f"/tasks?category={uuid.uuid4()}")) == []


def test_an_empty_list_says_what_to_do_and_a_narrow_one_how_to_widen_it(ada):
    assert "Type your first task" in ada.get("/tasks").html
    assert "No task matches" in ada.get("/tasks?q=100%25").html


def test_one_press_marks_a_task_as_done_and_another_takes_it_back(ada, of, make):
    [key] = make("sweep")
    for done, status in (("1", "done"), ("1", "done"), ("0", "todo")):
        assert ada.post(f"/tasks/{key}/done", done=done).location == "/tasks"
        assert task(of, key)["status"] == status
    assert "“sweep” is to do." in ada.get("/tasks").html


def test_with_htmx_only_the_row_changes_and_the_message_comes_along(ada, of, make):
    [key] = make("sweep", priority=3)
    answer = quietly(ada, f"/tasks/{key}/done", done="1")
    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert f'id="task-{key}"' in answer.text
    assert f'id="done-{key}"' in answer.text
    assert 'data-move="up"' in answer.text
    assert "high priority" in answer.text
    assert "“sweep” is done." in answer.text
    assert "is done." not in ada.get("/tasks").html, "what was shown is not shown again"
    assert quietly(ada, f"/tasks/{uuid.uuid4()}/done", done="1").status_code == 404


def test_editing_in_the_list_changes_title_day_and_time(ada, of, make):
    [key] = make("sweep", description="kept", priority=2)
    small = ada.client.get(f"/tasks/{key}/inline", headers=HTMX)
    assert f'id="task-{key}"' in small.text
    typed = {"version": "1", "title": "Sweep", "due_date": "2030-01-02", "due_time": "17:30"}
    answer = quietly(ada, f"/tasks/{key}/inline", **typed)
    assert "due Wed 2 Jan 2030, 17:30" in answer.text
    row = task(of, key)
    assert (row["title"], row["due_time"], row["description"], row["priority"]) == ("Sweep", "17:30", "kept", 2)
    stale = quietly(ada, f"/tasks/{key}/inline", **typed | {"title": "late"})
    assert stale.status_code == 422
    assert "changed elsewhere" in stale.text
    assert 'value="late"' in stale.text


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ({"title": " "}, "This field is required."),
        ({"title": "x" * 201}, "at most 200 characters"),
        ({"due_date": "soon"}, "Enter a date such as"),
        ({"due_time": "17:30"}, "A time needs a date"),
        ({"due_date": "2030-01-02", "due_time": "25:00"}, "Enter a time such as"),
        ({"due_date": "2030-01-02", "due_time": "٠١:٠٠"}, "Enter a time such as"),
    ],
)
def test_what_is_wrong_in_the_small_form_is_said_beside_it_and_nothing_is_lost(ada, of, make, typed, says):
    [key] = make("sweep")
    for post in (quietly, lambda visitor, path, **form: visitor.post(path, **form)):
        answer = post(ada, f"/tasks/{key}/inline", **{"version": "1", "title": "kept"} | typed)
        assert answer.status_code == 422
        assert says in answer.text
        assert all(f'value="{text}"' in answer.text for text in typed.values())
    assert task(of, key)["title"] == "sweep"


def test_without_scripts_the_parts_of_the_list_lead_to_the_tasks_page(ada, make):
    [key] = make("sweep")
    for part in ("row", "inline"):
        answer = ada.client.get(f"/tasks/{key}/{part}")
        assert (answer.status_code, answer.location) == (303, f"/tasks/{key}")


def test_leaving_the_small_form_gives_the_row_back(ada, make):
    [key] = make("sweep")
    row = ada.client.get(f"/tasks/{key}/row", headers=HTMX).text
    assert "sweep" in row
    assert "autofocus" in row


def test_a_task_moves_up_and_down_and_stops_at_the_ends(ada, make):
    keys = dict(zip("cba", make("c", "b", "a"), strict=True))
    for name, step, order in (("c", "up", "acb"), ("c", "up", "cab"), ("c", "up", "cab"), ("a", "down", "cba")):
        assert ada.post(f"/tasks/{keys[name]}/move", step=step).location == "/tasks"
        assert "".join(titles(ada.get("/tasks"))) == order
    assert ada.post(f"/tasks/{keys['a']}/move", step="sideways").status_code == 303
    assert "".join(titles(ada.get("/tasks"))) == "cba"


def test_a_task_moves_among_those_that_the_list_shows(ada, make):
    keys = dict(zip("cba", make("c", "b", "a"), strict=True))
    ada.post(f"/tasks/{keys['b']}/done", done="1")
    ada.post(f"/tasks/{keys['c']}/move", step="up", next="/tasks")
    assert titles(ada.get("/tasks")) == ["c", "a"]
    assert titles(ada.get("/tasks?status=any")) == ["c", "a", "b"]


def test_a_task_is_dropped_beside_another(ada, make):
    keys = dict(zip("cba", make("c", "b", "a"), strict=True))
    ada.post(f"/tasks/{keys['c']}/move", before=str(keys["a"]))
    assert "".join(titles(ada.get("/tasks"))) == "cab"
    ada.post(f"/tasks/{keys['c']}/move", after=str(keys["b"]))
    assert "".join(titles(ada.get("/tasks"))) == "abc"
    assert ada.post(f"/tasks/{keys['c']}/move", before=str(uuid.uuid4())).status_code == 422
    assert ada.post(f"/tasks/{keys['c']}/move", before="nonsense").status_code == 422


def test_many_tasks_change_at_once(ada, of, make):
    home = of("categories", lambda categories: categories.create({"name": "Home"})["id"], write=True)
    keys = make("a", "b")
    [other] = make("c")
    for action, typed, field, value in (
        ("doing", {}, "status", "doing"),
        ("done", {}, "status", "done"),
        ("todo", {}, "status", "todo"),
        ("priority", {"priority": "3"}, "priority", 3),
        ("due_date", {"due_date": "2030-05-06"}, "due_date", date(2030, 5, 6)),
        ("due_date", {"due_date": ""}, "due_date", None),
        ("category", {"category_id": str(home)}, "category_id", home),
    ):
        answer = bulk(ada, keys, action, **typed)
        assert answer.status_code == 303, action
        assert "2 tasks" in ada.get("/tasks").html
        assert [task(of, key)[field] for key in keys] == [value, value], action
    assert task(of, other)["version"] == 1


def test_taking_the_day_away_takes_its_time_along(ada, of, make):
    keys = make("a", due_date=today(), due_time="10:00")
    bulk(ada, keys, "due_date", due_date="")
    assert (task(of, keys[0])["due_date"], task(of, keys[0])["due_time"]) == (None, None)


def test_many_deleted_tasks_come_back_with_one_press(ada, of, make):
    keys = make("a", "b", "c")
    before = [task(of, key) for key in keys]
    bulk(ada, keys[:2], "delete")
    assert titles(ada.get("/tasks?q=a")) == []
    bulk(ada, keys[2:], "delete")
    assert undo(ada).status_code == 303
    assert titles(ada.get("/tasks")) == ["c"]
    bulk(ada, keys[2:], "todo")
    assert "1 task is to do." in ada.get("/tasks").html
    assert [task(of, keys[2])[name] for name in ("title", "created_at")] == ["c", before[2]["created_at"]]


def test_undo_leads_back_to_the_list_it_was_pressed_in(ada, make):
    [key] = make("a")
    assert ada.post(f"/tasks/{key}/delete", next="/tasks?status=any").location == "/tasks?status=any"
    assert undo(ada, "/tasks?status=any").location == "/tasks?status=any"
    assert titles(ada.get("/tasks")) == ["a"]


def test_with_htmx_a_deleted_row_goes_and_the_undo_comes(ada, make):
    [key] = make("a")
    answer = quietly(ada, f"/tasks/{key}/delete")
    assert answer.status_code == 200
    assert "<li" not in answer.text
    assert "Deleted “a”." in answer.text
    assert "/restore" in answer.text


@pytest.mark.parametrize(
    ("action", "typed", "says"),
    [
        ("due_date", {"due_date": "soon"}, "Enter a date such as"),
        ("priority", {"priority": "9"}, "The largest value is 3"),
        ("category", {"category_id": "nonsense"}, "Choose one from the list"),
        ("category", {"category_id": "00000000-0000-7000-8000-000000000000"}, "no such category"),
    ],
)
def test_a_wrong_choice_for_many_is_said_and_the_selection_is_kept(ada, of, make, action, typed, says):
    keys = make("a", "b")
    answer = bulk(ada, keys, action, **typed)
    assert answer.status_code == 422
    assert says in answer.text
    assert answer.text.count("data-select checked") == 2
    assert [task(of, key)["version"] for key in keys] == [1, 1]


def test_nothing_chosen_or_too_much_changes_nothing(ada, of, make):
    [key] = make("a")
    for ids in ([], ["nonsense"], [uuid.uuid4() for _ in range(201)]):
        assert bulk(ada, ids, "done").status_code == 303
    unsaid = bulk(ada, [key], "")
    assert unsaid.status_code == 422
    assert "Nothing has been changed yet" in unsaid.text
    assert unsaid.text.count("data-select checked") == 1
    assert task(of, key)["version"] == 1


def test_the_key_enter_in_the_bar_presses_no_button_of_a_task(ada, make):
    make("a")
    buttons = re.findall(r"<button[^>]*>", ada.get("/tasks").html)
    first = next(each for each in buttons if 'name="action"' in each or 'form="acts"' in each)
    assert 'value=""' in first, "browsers press a form's first button when Enter is pressed in one of its texts"


def test_other_peoples_tasks_are_no_part_of_many(ada, bob, of, make):
    [key] = make("a")
    bulk(bob, [key], "done")
    bulk(bob, [key], "delete")
    assert (task(of, key)["status"], task(of, key)["version"]) == ("todo", 1)


def test_a_view_is_saved_listed_used_and_removed(ada, of):
    answer = ada.post("/tasks/views", name="My <week>", due="week", sort="due", status="nonsense", page="x")
    assert (answer.status_code, answer.location) == (303, "/tasks?due=week&sort=due")
    page = ada.get("/tasks?due=week&sort=due")
    assert "My &lt;week&gt;</a>" in page.html
    kept = of("settings", lambda settings: settings.get("views.tasks")["value"])
    assert json.loads(kept) == [{"name": "My <week>", "words": {"due": "week", "sort": "due"}}]
    form = next(form for form in page.forms if form.action == "/tasks/views/remove")
    assert ada.client.post(form.action, data=form.values).status_code == 303
    assert "My &lt;week&gt;</a>" not in ada.get("/tasks").html


def test_views_have_names_of_their_own_and_are_at_most_twenty(ada):
    assert ada.post("/tasks/views", name="One", due="week").status_code == 303
    for name, says in (
        ("ONE", "with this name already exists"),
        (" ", "This field is required"),
        ("x" * 101, "at most"),
    ):
        answer = ada.post("/tasks/views", name=name, due="today")
        assert answer.status_code == 422
        assert says in answer.text
        assert 'id="view-name-error"' in answer.text
    for number in range(19):
        assert ada.post("/tasks/views", name=f"n{number}", due="week").status_code == 303
    assert "20 views already" in ada.post("/tasks/views", name="more", due="week").text


@pytest.mark.parametrize(
    "value",
    ["", "no json", "5", '[1, {"name": 5}, {"name": "x"}, {"name": "y", "words": {"due": 5, "q": "a"}}]', "[" * 99],
)
def test_a_setting_that_holds_no_views_is_no_failure(ada, of, value):
    of("settings", lambda settings: settings.put("views.tasks", value), write=True)
    assert ada.get("/tasks")
    assert ada.post("/tasks/views", name="new", due="week").status_code == 303


def test_where_there_are_too_many_categories_one_is_typed(ada, of, make, parts, user):
    of("categories", lambda rows: [rows.create({"name": f"Room {n:03}"}) for n in range(205)], write=True)
    page = ada.get("/tasks")
    assert '<option value="Room' not in page.html
    form = ada.form("/tasks")
    assert "category" in form.names
    assert "category_id" not in form.names
    assert ada.send("/tasks", title="sweep", category="ROOM 203").status_code == 303
    [row] = of("tasks", lambda tasks: tasks.page(sort="oldest").rows)
    assert row["category_name"] == "Room 203"
    wrong = ada.send("/tasks", title="mop", category="Nowhere")
    assert wrong.status_code == 422
    assert 'id="tasks-category-error">There is no category with this name.' in wrong.text
    assert 'value="Nowhere"' in wrong.text
    edit = ada.form(f"/tasks/{row['id']}")
    assert edit.values["category"] == "Room 203"
    assert ada.send(f"/tasks/{row['id']}", category="").status_code == 303
    assert of("tasks", lambda tasks: tasks.page(sort="oldest").rows)[0]["category_name"] == "Uncategorized"
    assert bulk(ada, [row["id"]], "category", category="room 004").status_code == 303
    assert of("tasks", lambda tasks: tasks.page(sort="oldest").rows)[0]["category_name"] == "Room 004"
    refused = bulk(ada, [row["id"]], "category", category="Nowhere")
    assert 'id="bulk-category-error">There is no category with this name.' in refused.text
    assert titles(ada.get("/tasks?category=room+004")) == ["sweep"]


def test_categories_are_suggested_while_one_is_typed(ada, bob, of):
    of("categories", lambda rows: [rows.create({"name": name}) for name in ("Garden", "Gar<b>age", "Home")], write=True)
    answer = ada.client.get("/tasks/categories?category=gar", headers=HTMX).text
    assert re.findall(r'value="([^"]*)"', answer) == ["Gar&lt;b&gt;age", "Garden"]
    assert "Garden" not in bob.client.get("/tasks/categories?category=gar", headers=HTMX).text
    assert "Home" in ada.client.get("/tasks/categories", headers=HTMX).text
    assert ada.client.get("/tasks/categories?category=%00", headers=HTMX).status_code in (200, 400, 422)


def test_a_time_stands_beside_the_day_and_programs_do_not_see_it(ada, of):
    ada.send("/tasks", title="call", due_date="2030-01-02", due_time="09:05")
    [row] = of("tasks", lambda tasks: tasks.page(sort="oldest").rows)
    assert row["due_time"] == "09:05"
    assert ada.form(f"/tasks/{row['id']}").values["due_time"] == "09:05"
    assert "due_time" not in ada.client.get("/api/v1/tasks").json["items"][0]


@pytest.mark.parametrize(
    "title", ["<svg onload=alert(1)>", "w" * 200, "\u202eעברית", "Z\u0335\u0321\u0322a\u0301\u0301"]
)
def test_odd_titles_are_text_in_every_part(ada, make, title):
    [key] = make(title, due_date=today())
    for path in ("/tasks", "/", f"/tasks/{key}"):
        page = ada.get(path)
        assert page.inline == [] or all(each == "script" for each in page.inline)
        assert "<svg onload" not in page.html
    for part in ("row", "inline"):
        assert "<svg onload" not in ada.client.get(f"/tasks/{key}/{part}", headers=HTMX).text
    assert 'dir="auto"' in ada.get("/tasks").html


def test_a_page_of_tasks_sends_as_many_statements_narrowed_and_with_views(statements, ada, make):
    make(*(f"number {each}" for each in range(60)), due_date=today())
    ada.post("/tasks/views", name="new", due="week")
    for path in ("/tasks", "/tasks?due=week&sort=due&q=number&priority=0", "/tasks?status=any&sort=title"):
        ada.get(path)
        with statements() as sent:
            ada.get(path)
        assert len(sent) == 4, [sql for _, sql in sent]


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("neighbour", ["nonsense", "01a22806-0000-7000-8000-000000000000", "theirs"])
def test_a_task_is_not_moved_beside_what_is_no_task_of_its_owner(ada, bob, parts, user, other, place, neighbour):
    def titles(owner):
        with parts.manager.session(owner.id) as session:
            return RepositoryFactory.get_repository("tasks", session, owner.id).page(sort="manual").rows

    for title in ("low", "middle", "high"):
        ada.send("/tasks", title=title)
    bob.send("/tasks", title="his")
    before = titles(user)
    beside = titles(other)[0]["id"] if neighbour == "theirs" else neighbour
    answer = ada.post(f"/tasks/{before[1]['id']}/move", **{place: str(beside)})
    assert answer.status_code == 422
    assert "The task at that position is gone" in answer.text
    assert titles(user) == before
    assert ada.post(f"/tasks/{titles(other)[0]['id']}/move", step="up").status_code == 404
