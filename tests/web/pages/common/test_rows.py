"""Tasks, notes, events, categories and the dashboard, as their owner and as somebody else sees them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

import web
from repositories.repository_factory import RepositoryFactory
from repositories.schema import HOLDING

ROWS = {
    "tasks": {"title": "Water the plants", "description": "all of them", "priority": "2", "due_date": "2026-02-28"},
    "notes": {"title": "Recipe", "body": "flour\r\nwater", "pinned": "1"},
    "events": {"title": "Concert", "starts_at": "2026-03-01T19:30", "ends_at": "2026-03-01T22:00", "location": "Town"},
    "categories": {"name": "Garden", "color": "#00aa55"},
}
NAMES = list(ROWS)
LABEL = {"tasks": "title", "notes": "title", "events": "title", "categories": "name"}
XSS = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def stored(parts, user, name):
    with parts.manager.session(user.id) as session:
        rows = RepositoryFactory.get_repository(name, session, user.id).list(limit=200)
    return [row for row in rows if row.get("name") != "Uncategorized"]


def fill(parts, user, name, count):
    with parts.manager.session(user.id, write=True) as session:
        repository = RepositoryFactory.get_repository(name, session, user.id)
        for number in range(count):
            extra = {"starts_at": datetime.now(UTC) + timedelta(hours=number + 1)} if name == "events" else {}
            extra |= {"pinned": True} if name == "notes" else {}
            repository.create({LABEL[name]: f"{name} number {number}"} | extra)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_added_shown_changed_and_deleted(ada, parts, user, name):
    answer = ada.send(f"/{name}", **ROWS[name])
    assert answer.status_code == 303
    assert answer.location.startswith(f"/{name}")
    [row] = stored(parts, user, name)
    page = ada.get(f"/{name}")
    assert ROWS[name][LABEL[name]] in page.html
    assert "Added" in page.html

    edit = f"/{name}/{row['id']}"
    assert edit in (ada.get("/events?on=2026-03-01") if name == "events" else page).links
    form = ada.form(edit)
    for field, typed in ROWS[name].items():
        assert form.values[field] == typed.replace("\r\n", "\n"), field
    assert ada.send(edit, **{LABEL[name]: "Renamed"}).status_code == 303
    [changed] = stored(parts, user, name)
    assert changed[LABEL[name]] == "Renamed"
    kept = {field: value for field, value in row.items() if field not in (LABEL[name], "version", "updated_at")}
    assert {field: changed[field] for field in kept} == kept, "what the form showed must come back as it was"

    assert ada.send(edit, f"{edit}/delete").status_code == 303
    assert stored(parts, user, name) == []
    assert ada.get(edit, 404)


@pytest.mark.parametrize("name", NAMES)
def test_a_form_sent_empty_names_what_is_needed_and_keeps_the_rest(ada, parts, user, name):
    kept = {field: text for field, text in ROWS[name].items() if field != LABEL[name]}
    answer = ada.send(f"/{name}", **kept | {LABEL[name]: "  "})
    assert answer.status_code == 422
    assert f'id="{name}-{LABEL[name]}-error">This field is required.' in answer.text
    page = type(ada.get(f"/{name}"))(answer.text)
    form = next(form for form in page.forms if form.action == f"/{name}" and form.method == "POST")
    assert {field: form.values[field] for field in kept} == {f: t.replace("\r\n", "\n") for f, t in kept.items()}
    assert stored(parts, user, name) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_form_with_nothing_in_it_at_all_is_refused(ada, parts, user, name):
    assert ada.post(f"/{name}").status_code == 422
    assert stored(parts, user, name) == []


@pytest.mark.parametrize(
    ("name", "field", "text", "says"),
    [
        ("tasks", "title", "x" * 201, "at most 200 characters"),
        ("tasks", "title", "nul\x00", "cannot be stored"),
        ("tasks", "description", "x" * 200_001, "at most 200000 characters"),
        ("tasks", "status", "later", "Choose one from the list"),
        ("tasks", "priority", "4", "The largest value is 3"),
        ("tasks", "priority", "-1", "The smallest value is 0"),
        ("tasks", "priority", "9" * 30, "whole number"),
        ("tasks", "priority", "high", "whole number"),
        ("tasks", "due_date", "2023-02-29", "Enter a date such as"),
        ("tasks", "due_date", "yesterday", "Enter a date such as"),
        ("tasks", "due_date", "0001-01-01", "1000 or later"),
        ("tasks", "category_id", "nonsense", "Choose one from the list"),
        ("tasks", "category_id", "00000000-0000-7000-8000-000000000000", "no such category"),
        ("notes", "title", "x" * 201, "at most 200 characters"),
        ("notes", "body", "x" * 200_001, "at most 200000 characters"),
        ("events", "starts_at", "", "This field is required"),
        ("events", "starts_at", "soon", "Enter a date and time such as"),
        ("events", "starts_at", "2026-02-30T10:00", "Enter a date and time such as"),
        ("events", "ends_at", "2026-03-01T19:29", "must not be before"),
        ("events", "location", "x" * 201, "at most 200 characters"),
        ("categories", "name", "x" * 101, "at most 100 characters"),
        ("categories", "color", "red", "cannot be stored"),
        ("categories", "name", "uncategorized", "with this name already exists"),
    ],
)
def test_a_wrong_field_is_named_beside_it(ada, parts, user, name, field, text, says):
    ada.send(f"/{name}", **ROWS[name])
    [row] = stored(parts, user, name)
    for path in (f"/{name}", f"/{name}/{row['id']}"):
        answer = ada.send(path, **ROWS[name] | {field: text})
        assert answer.status_code == 422
        where = answer.text.find(f'id="{name}-{field}-error"')
        assert where > 0
        assert says in answer.text[where : where + 200]
    assert stored(parts, user, name) == [row]


@pytest.mark.parametrize("name", NAMES)
def test_a_form_sent_twice_makes_one_row(ada, parts, user, name):
    form = ada.form(f"/{name}")
    for _ in range(2):
        assert ada.client.post(form.action, data=form.values | ROWS[name]).status_code == 303
    assert len(stored(parts, user, name)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_form_sent_again_with_another_text_loses_nothing(ada, parts, user, name):
    form = ada.form(f"/{name}")
    for text in ("first", "second"):
        assert ada.client.post(form.action, data=form.values | ROWS[name] | {LABEL[name]: text}).status_code == 303
    assert [row[LABEL[name]] for row in stored(parts, user, name)] == ["first", "second"]


@pytest.mark.parametrize("name", NAMES)
def test_a_change_sent_twice_or_meanwhile_is_not_overwritten_unseen(ada, parts, user, name):
    ada.send(f"/{name}", **ROWS[name])
    [row] = stored(parts, user, name)
    form = ada.form(f"/{name}/{row['id']}")
    assert ada.client.post(form.action, data=form.values | {LABEL[name]: "from the phone"}).status_code == 303
    late = ada.client.post(form.action, data=form.values | {LABEL[name]: "from the desk"})
    assert late.status_code == 422
    assert "changed elsewhere" in late.text
    assert 'value="from the desk"' in late.text
    assert stored(parts, user, name)[0][LABEL[name]] == "from the phone"
    page = type(ada.get("/"))(late.text)
    again = next(shown for shown in page.forms if shown.action == form.action)
    assert ada.client.post(again.action, data=again.values).status_code == 303
    assert stored(parts, user, name)[0][LABEL[name]] == "from the desk"


@pytest.mark.parametrize("version", ["", "x", "-1", "9" * 40, "²"])
def test_a_version_that_cannot_be_is_an_old_one(ada, parts, user, version):
    ada.send("/tasks", **ROWS["tasks"])
    [row] = stored(parts, user, "tasks")
    answer = ada.send(f"/tasks/{row['id']}", version=version, title="x")
    assert answer.status_code == 422
    assert stored(parts, user, "tasks") == [row]


@pytest.mark.parametrize("name", NAMES)
def test_another_users_row_is_not_there(ada, bob, parts, user, other, name):
    ada.send(f"/{name}", **ROWS[name])
    [row] = stored(parts, user, name)
    assert ROWS[name][LABEL[name]] not in bob.get(f"/{name}").html
    assert ROWS[name][LABEL[name]] not in bob.get("/").html
    for key in (row["id"], uuid.uuid4()):
        bob.get(f"/{name}/{key}", 404)
        assert bob.post(f"/{name}/{key}", **ROWS[name], version="1").status_code == 404
        assert bob.post(f"/{name}/{key}", **{LABEL[name]: ""}).status_code == 404
        assert bob.post(f"/{name}/{key}/delete").status_code == 404
    assert stored(parts, user, name) == [row]
    assert stored(parts, other, name) == []


def test_another_users_row_is_not_there_in_shared_mode(visit, shared_parts):
    app = web.create(shared_parts)
    ada, bob = type(visit())(app), type(visit())(app)
    for visitor, email in ((ada, "ada@example.org"), (bob, "bob@example.org")):
        assert visitor.send("/auth/register", email=email, password="correct horse battery").status_code == 303
    user = shared_parts.accounts.find("ada@example.org")
    for name in NAMES:
        assert ada.send(f"/{name}", **ROWS[name]).status_code == 303
        [row] = stored(shared_parts, user, name)
        assert ROWS[name][LABEL[name]] in ada.get(f"/{name}").html
        assert ROWS[name][LABEL[name]] not in bob.get(f"/{name}").html
        bob.get(f"/{name}/{row['id']}", 404)
        assert bob.post(f"/{name}/{row['id']}/delete").status_code == 404
        assert stored(shared_parts, user, name) == [row]


def test_another_users_category_is_refused(ada, bob, parts, user):
    ada.send("/categories", **ROWS["categories"])
    [row] = stored(parts, user, "categories")
    answer = bob.send("/tasks", title="mine", category_id=str(row["id"]))
    assert answer.status_code == 422
    assert 'id="tasks-category_id-error"' in answer.text


@pytest.mark.parametrize("name", NAMES)
def test_what_people_write_is_text_and_never_markup(ada, name):
    names = ada.form(f"/{name}").names
    fields = {field: XSS for field in ("description", "body", "location") if field in names}
    assert ada.send(f"/{name}", **ROWS[name] | fields | {LABEL[name]: XSS}).status_code == 303
    for path in (f"/{name}", "/", f"/{name}?q=%3Cscript%3E", "/tasks"):
        page = ada.get(path)
        assert page.inline == [], path
        assert "<script>alert" not in page.html
        assert "<img" not in page.html


def test_odd_texts_come_back_as_they_were(ada, parts, user):
    text = "‮right to left‬ e\u0301 👩‍👩‍👧 \u200b zero " + "w" * 150
    assert ada.send("/notes", title=text, body="\n first line is empty\n  spaces stay  ").status_code == 303
    [row] = stored(parts, user, "notes")
    assert (row["title"], row["body"]) == (text, "\n first line is empty\n  spaces stay  ")
    form = ada.form(f"/notes/{row['id']}")
    assert (form.values["title"], form.values["body"]) == (row["title"], row["body"])


def test_uncategorized_keeps_its_name_and_stays(ada, parts, user):
    with parts.manager.session(user.id) as session:
        key = RepositoryFactory.get_repository("categories", session, user.id).uncategorized()
    answer = ada.send(f"/categories/{key}", name="Something else")
    assert answer.status_code == 422
    assert 'id="categories-name-error"' in answer.text
    assert ada.post(f"/categories/{key}/delete").status_code == 303
    assert "cannot be deleted" in ada.get(f"/categories/{key}").html


def test_deleting_a_category_keeps_its_rows(ada, parts, user):
    ada.send("/categories", **ROWS["categories"])
    [row] = stored(parts, user, "categories")
    ada.send("/tasks", **ROWS["tasks"] | {"category_id": str(row["id"])})
    assert "Garden" in ada.get("/tasks").html
    ada.send(f"/categories/{row['id']}", f"/categories/{row['id']}/delete")
    page = ada.get("/tasks")
    assert "Water the plants" in page.html
    assert "Uncategorized" in page.html


def test_a_long_list_is_paged_to_its_end(ada, parts, user):
    fill(parts, user, "tasks", 120)
    seen, path = [], "/tasks?sort=oldest"
    for _ in range(3):
        page = ada.get(path)
        seen += [number for number in range(120) if f">tasks number {number}<" in page.html]
        path = next((link for link in page.links if "cursor=" in link and "next=" not in link), "")
    assert seen == list(range(120))
    assert path == ""


def test_a_cursor_of_another_user_or_filter_is_refused(ada, bob, parts, user):
    fill(parts, user, "tasks", 60)
    link = next(link for link in ada.get("/tasks").links if link.startswith("/tasks?cursor="))
    bob.get(link, 400)
    ada.get(link + "&status=todo", 400)
    ada.get(link + "x", 400)
    ada.get("/notes?" + link.partition("?")[2], 400)


@pytest.mark.parametrize(
    "query", ["q=%00", "q=" + "x" * 300, "q=%ff%fe", "cursor=", "cursor=%00", "status=%00", "q=%ED%A0%80"]
)
def test_odd_addresses_are_answered(ada, query):
    assert ada.client.get(f"/tasks?{query}").status_code in (200, 400, 422)


@pytest.mark.parametrize(
    "path", ["/tasks/1", "/tasks/x", "/tasks/%00", "/tasks/" + "9" * 400, "/tasks/../notes", "/nothing"]
)
def test_addresses_that_name_nothing_are_404(ada, path):
    page = ada.get(path, 404)
    assert "<h1>Not Found</h1>" in page.html


def test_an_event_without_a_date_from_plain_sql_is_shown(ada, parts, user):
    sql = "INSERT INTO events (id, user_id, title) VALUES (?, ?, ?)"
    parts.manager.execute_update(sql, (uuid.uuid4().hex, user.id, "Some day"), user.id)
    [row] = stored(parts, user, "events")
    assert ada.get(f"/events/{row['id']}")


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/", 5),
        ("/tasks", 3),
        ("/tasks?sort=due&due=week&q=x", 3),
        ("/notes", 2),
        ("/events", 2),
        ("/categories", 1 + len(HOLDING)),
    ],
)
def test_pages_send_as_many_statements_full_as_empty(statements, ada, parts, user, path, limit):
    ada.get(path)
    with statements() as empty:
        ada.get(path)
    for name in NAMES:
        fill(parts, user, name, 40)
    with statements() as full:
        ada.get(path)
    catalog = [sql for database, sql in full if database == "admin.db"]
    tenant = [sql for database, sql in full if database == f"user_{user.id}.db"]
    assert len(catalog) == 1, catalog
    assert len(tenant) == limit, tenant
    assert len(full) == len(empty)


def test_a_database_that_is_not_ready_is_said_and_settings_stays_open(ada, parts, user):
    parts.manager.suspend(user.id)
    for path in ("/", "/tasks", "/notes", "/events", "/categories"):
        answer = ada.client.get(path)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "An administrator has suspended your database. Nothing is lost." in answer.text
        assert 'href="/settings"' in answer.text
        assert "To use it again, ask an administrator of this site." in answer.text
        assert 'href="/admin' not in answer.text
    page = ada.get("/settings")
    assert "An administrator has suspended your database. Nothing is lost." in page.html
    parts.manager.resume(user.id)
    assert ada.get("/tasks")


def test_an_administrator_is_led_from_the_page_of_an_error_to_the_console(root, parts):
    me = parts.accounts.find("root@example.org")
    parts.manager.suspend(me.id)
    page = root.get("/tasks", 503)
    assert f"/admin/users/{me.id}" in page.links
    assert root.get(f"/admin/users/{me.id}")


def test_a_lost_file_is_said_and_no_empty_one_is_made(ada, parts, user, settings):
    parts.manager.engines.close()
    file = settings.tenant_data_dir / f"user_{user.id}.db"
    for path in settings.tenant_data_dir.glob(f"{file.name}*"):
        path.unlink()
    page = ada.get("/tasks", 503).html
    assert "503" in page
    assert "No empty one is created in its place." in page
    assert "unify" not in page.partition("<main")[2], "commands are for operators"
    assert "Try again" not in page, "it would be the same again"
    assert "No empty one is created in its place." in ada.get("/settings/database").html, (
        "and Settings does not say ready"
    )
    assert ada.get("/settings")
    assert not file.exists()


def test_saving_what_was_not_touched_moves_no_moment(ada, parts, user):
    parts.accounts.set_preferences(user.id, {"time_zone": "Europe/Berlin"})
    # Both in the hour that Berlin's clocks show twice: the second time, and to the microsecond.
    times = {
        "starts_at": datetime(2026, 10, 25, 1, 30, 7, 5, UTC),
        "ends_at": datetime(2026, 10, 25, 1, 45, tzinfo=UTC),
    }
    with parts.manager.session(user.id, write=True) as session:
        row = RepositoryFactory.get_repository("events", session, user.id).create({"title": "twice"} | times)
    form = ada.form(f"/events/{row['id']}")
    assert form.values["starts_at"] == "2026-10-25T02:30:07"
    assert ada.client.post(form.action, data=form.values | {"title": "Twice"}).status_code == 303
    [kept] = stored(parts, user, "events")
    assert (kept["title"], kept["starts_at"], kept["ends_at"]) == ("Twice", *times.values())

    form = ada.form(f"/events/{row['id']}")
    ada.client.post(form.action, data=form.values | {"starts_at": "2026-10-25T02:29", "ends_at": "2026-10-25T02:45"})
    [moved] = stored(parts, user, "events")
    assert moved["starts_at"] == datetime(2026, 10, 25, 0, 29, tzinfo=UTC), "of two such times the first is meant"
    assert moved["ends_at"] == times["ends_at"]


def test_a_time_that_no_clock_shows_is_said_beside_it(ada, parts, user):
    parts.accounts.set_preferences(user.id, {"time_zone": "Europe/Berlin"})
    answer = ada.send("/events", title="never", starts_at="2026-03-29T02:30", ends_at="")
    assert answer.status_code == 422
    where = answer.text.find('id="events-starts_at-error"')
    assert "no such time" in answer.text[where : where + 200]
    assert stored(parts, user, "events") == []


@pytest.mark.parametrize("was", ["nonsense", "2026-10-25", "2026-10-25T02:30", "9999-12-31T23:59:59Z", "\x00"])
def test_a_moment_beside_a_control_that_cannot_be_counts_for_nothing(ada, parts, user, was):
    typed = {"title": "x", "starts_at": "2026-10-25T02:30", "ends_at": "", "starts_at.was": was}
    assert ada.post("/events", **typed).status_code == 303
    assert stored(parts, user, "events")[0]["starts_at"] == datetime(2026, 10, 25, 2, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "tasks", "/auth/logout"]
)
def test_saving_leads_nowhere_but_to_a_page_of_this_site(ada, target):
    assert ada.post("/tasks", title="x", next=target).location == "/tasks"
    assert ada.post("/quick-add", text="x", next=target).location == "/"
    assert ada.post("/tasks", title="x", next="/notes?q=a").location == "/notes?q=a"
