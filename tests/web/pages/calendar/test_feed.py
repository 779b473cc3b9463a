"""The calendar link: what it gives, to whom, and that nobody learns it from us."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

import pytest
from icalendar import Calendar

from repositories.repository_factory import RepositoryFactory
from web.pages.calendar import feed


def today() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def add(parts, user, **values):
    """Write an event, and give its row."""
    with parts.manager.session(user.id, write=True) as session:
        events = RepositoryFactory.get_repository("events", session, user.id)
        return events.create({"title": "Concert", "starts_at": today() + timedelta(days=1, hours=9)} | values)


def link(visitor):
    """Create a link as a reader does, and give its path."""
    answer = visitor.send("/events/feed")
    assert answer.status_code == 201
    [found] = re.findall(r"http://localhost(/calendar/unifycal_[\w-]{43}\.ics)", answer.text)
    return found


def read(visit, path):
    """Read a feed as a calendar program does, without a session."""
    answer = visit().client.get(path)
    assert answer.status_code == 200
    return Calendar.from_ical(answer.data)


def parsed(rows, name="Unify: Ada"):
    return list(Calendar.from_ical(feed.written(name, rows)).walk("VEVENT"))


def row(**values):
    """Give a row as the repository does."""
    at = datetime(2026, 3, 2, 9, 30, 15, 123456, tzinfo=UTC)
    plain = {"id": "x", "title": "t", "description": None, "location": None, "starts_at": at, "ends_at": None}
    return plain | {"all_day": False, "version": 3, "created_at": at, "updated_at": at, "category_name": None} | values


def test_the_link_gives_the_events_to_a_program_without_a_session(visit, ada, parts, user):
    made = add(parts, user, location="Town hall", ends_at=today() + timedelta(days=1, hours=11))
    document = read(visit, link(ada))
    [event] = document.walk("VEVENT")
    assert document["X-WR-CALNAME"] == "Unify: Ada"
    assert event["UID"] == f"{made['id']}@unify"
    assert (str(event["SUMMARY"]), str(event["LOCATION"])) == ("Concert", "Town hall")
    assert event["DTSTART"].dt == today() + timedelta(days=1, hours=9)
    assert event["DTEND"].dt == today() + timedelta(days=1, hours=11)
    assert event["DTSTAMP"].dt == made["updated_at"].replace(microsecond=0)
    assert event.categories == ["Uncategorized"]


def test_it_is_a_private_calendar_file_and_leaves_no_cookie(visit, ada):
    answer = visit().client.get(link(ada))
    assert answer.content_type == "text/calendar; charset=utf-8"
    assert "private" in answer.headers["Cache-Control"]
    assert "no-store" not in answer.headers["Cache-Control"], "a program may keep what its ETag is about"
    assert "Set-Cookie" not in answer.headers


def test_head_says_the_same_without_the_events(visit, ada, parts, user):
    add(parts, user)
    path, program = link(ada), visit().client
    answer, head = program.get(path), program.head(path)
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["ETag"] == answer.headers["ETag"]
    assert head.headers["Content-Length"] == str(len(answer.data))


def test_who_has_read_it_is_told_that_nothing_changed(visit, ada, parts, user):
    made = add(parts, user)
    path, program = link(ada), visit().client
    seen = program.get(path).headers["ETag"]
    again = program.get(path, headers={"If-None-Match": seen})
    assert (again.status_code, again.data) == (304, b"")
    assert program.get(path).headers["ETag"] == seen, "nothing in it depends on when it is asked for"
    with parts.manager.session(user.id, write=True) as session:
        RepositoryFactory.get_repository("events", session, user.id).update(made["id"], {"title": "Opera"})
    changed = program.get(path, headers={"If-None-Match": seen})
    assert changed.status_code == 200
    assert "Opera" in changed.text


def test_events_of_the_last_90_days_and_all_ahead_are_in_it(visit, ada, parts, user):
    for title, days in (("long ago", -100), ("of late", -80), ("far ahead", 4000)):
        add(parts, user, title=title, starts_at=today() + timedelta(days=days))
    add(parts, user, title="goes on", starts_at=today() - timedelta(days=200), ends_at=today() + timedelta(days=2))
    titles = {str(event["SUMMARY"]) for event in read(visit, link(ada)).walk("VEVENT")}
    assert titles == {"of late", "far ahead", "goes on"}
    assert "90 days" in ada.get("/events/feed").html


def test_a_feed_is_one_catalog_and_one_tenant_statement(statements, ada, visit, parts, user):
    path = link(ada)
    for _ in range(3):
        add(parts, user)
    program = visit().client
    program.get(path)
    with statements() as sent:
        assert program.get(path).status_code == 200
    assert len(sent) == 2, sent
    with statements() as sent:
        assert program.get("/calendar/unknown.ics").status_code == 404
    assert sent == [], "what can be no link costs nothing"


def test_a_replaced_and_a_revoked_link_open_nothing(visit, ada, parts, user):
    old = link(ada)
    new = link(ada)
    assert old != new
    assert visit().client.get(old).status_code == 404
    assert visit().client.get(new).status_code == 200
    page = ada.get("/events/feed")
    assert new.removesuffix(".ics") not in page.html, "it is shown once"
    assert ada.send("/events/feed", "/events/feed/revoke").status_code == 303
    assert visit().client.get(new).status_code == 404
    assert "No link yet" in ada.get("/events/feed").html
    assert ada.post("/events/feed/revoke").status_code == 303, "twice is once"


def test_unknown_revoked_and_deactivated_links_look_alike(visit, ada, parts, user):
    path = link(ada)
    parts.accounts.deactivate(user.id)
    unknown = "/calendar/unifycal_" + "x" * 43 + ".ics"
    answers = [visit().client.get(each) for each in (path, unknown, "/calendar/x.ics")]
    assert {answer.status_code for answer in answers} == {404}
    assert {answer.text for answer in answers} == {"404 NOT FOUND\n"}
    told = [{name: value for name, value in answer.headers if name != "X-Request-ID"} for answer in answers]
    assert told[0] == told[1] == told[2]


def test_a_calendar_key_opens_nothing_else_and_an_api_key_no_calendar(visit, ada, parts, user):
    secret = link(ada).removeprefix("/calendar/").removesuffix(".ics")
    for path in ("/api/v1/events", "/api/v1/me", "/admin/databases"):
        assert visit().client.get(path, headers={"Authorization": f"Bearer {secret}"}).status_code == 401, path
    page = visit().client.get("/events", headers={"Authorization": f"Bearer {secret}"})
    assert (page.status_code, page.location) == (302, "/auth/login?next=/events")
    _, key = parts.accounts.issue_key(user.id, "api")
    for each in (key, key.replace("unify_", "unifycal_")):
        assert visit().client.get(f"/calendar/{each}.ics").status_code == 404


def test_a_session_opens_no_calendar_and_does_not_choose_whose_it_is(ada, bob, parts, user, other):
    add(parts, user, title="of Ada")
    add(parts, other, title="of Bob")
    answer = bob.client.get(link(ada))
    assert "of Ada" in answer.text
    assert "of Bob" not in answer.text
    assert bob.client.get("/calendar/.ics").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_feed_is_only_read(visit, ada, method):
    assert visit().client.open(link(ada), method=method).status_code in (400, 405)


def test_a_database_that_is_not_ready_is_said_with_when_to_ask_again(visit, ada, parts, user):
    path = link(ada)
    parts.manager.delete_user_database(user.id)
    answer = visit().client.get(path)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert path not in answer.text, "not even to who knows it"


def test_a_failure_nobody_foresaw_does_not_repeat_the_address(visit, ada, parts, monkeypatch):
    path = link(ada)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(path)

    monkeypatch.setattr(parts.accounts, "principal_by_key", fail)
    answer = visit().client.get(path)
    assert (answer.status_code, answer.text) == (500, "500 INTERNAL SERVER ERROR\n")


def test_each_person_has_their_own_link(visit, ada, bob, parts, user, other):
    add(parts, user, title="of Ada")
    mine, theirs = link(ada), link(bob)
    assert bob.send("/events/feed", "/events/feed/revoke").status_code == 303
    assert visit().client.get(theirs).status_code == 404
    assert "of Ada" in visit().client.get(mine).text


def test_a_link_works_in_shared_mode_and_shows_its_owners_rows_alone(shared_parts):
    import web
    from tests.conftest import make_user
    from tests.support.browsing import Visitor

    app = web.create(shared_parts)
    ada, bob = (make_user(shared_parts, f"{name}@example.org") for name in ("ada", "bob"))
    add(shared_parts, ada, title="of Ada")
    add(shared_parts, bob, title="of Bob")
    visitor = Visitor(app)
    visitor.sign_in(ada.email)
    text = app.test_client().get(link(visitor)).text
    assert "of Ada" in text
    assert "of Bob" not in text


# ---------------------------------------------------------------- what is written


def test_whole_days_are_dates_and_end_on_the_day_after_the_last():
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    [one] = parsed([row(starts_at=midnight, all_day=True)])
    assert (one["DTSTART"].dt, one["DTEND"].dt) == (date(2026, 3, 2), date(2026, 3, 3))
    [three] = parsed([row(starts_at=midnight, ends_at=midnight + timedelta(days=2, hours=5), all_day=True)])
    assert (three["DTSTART"].dt, three["DTEND"].dt) == (date(2026, 3, 2), date(2026, 3, 5))
    assert b"DTSTART;VALUE=DATE:20260302" in feed.written("x", [row(starts_at=midnight, all_day=True)])


def test_the_calendars_last_day_is_written():
    last = datetime(9999, 12, 31, tzinfo=UTC)
    [event] = parsed([row(starts_at=last, all_day=True)])
    assert event["DTSTART"].dt == date(9999, 12, 31)


def test_an_event_without_a_length_has_no_end():
    at = datetime(2026, 3, 2, 9, tzinfo=UTC)
    for end in (None, at, at + timedelta(milliseconds=5)):
        [event] = parsed([row(starts_at=at, ends_at=end)])
        assert "DTEND" not in event


@pytest.mark.parametrize(
    "text",
    [
        "w" * 10_000,
        "ä" * 10_000,
        "😀" * 5_000,
        'one, two; three\\four: "five"',
        "first\nsecond\n\nfourth",
        "\u0634\u0643\u0631\u0627 \u05e9\u05dc\u05d5\u05dd \u202eabc\u202c",
        "e\u0301" * 3_000,
        " leading and trailing ",
        "BEGIN:VEVENT\nEND:VCALENDAR",
        "<svg onload=alert(1)>",
    ],
    ids=["word", "umlauts", "emoji", "marks", "lines", "right-to-left", "combining", "blanks", "markup", "svg"],
)
def test_odd_texts_come_back_as_they_were(text):
    written = feed.written("x", [row(title=text, description=text, location=text, category_name=text)])
    assert all(len(line) <= 75 for line in written.split(b"\r\n")), "lines are folded by bytes"
    written.decode()
    [event] = Calendar.from_ical(written).walk("VEVENT")
    assert [str(event[name]) for name in ("SUMMARY", "DESCRIPTION", "LOCATION")] == [text] * 3
    assert event.categories == [text]


def test_what_no_content_line_can_hold_is_left_out_or_a_line_end():
    [event] = parsed([row(title="a\x01b\x7fc\td", description="one\r\ntwo\rthree\u2028four\x85five\x0bsix")])
    assert str(event["SUMMARY"]) == "abc\td"
    assert str(event["DESCRIPTION"]) == "one\ntwo\nthree\nfour\nfive\nsix"


def test_an_endless_text_is_cut():
    [event] = parsed([row(description="x" * 200_000)])
    assert len(str(event["DESCRIPTION"])) == feed.TEXT_MOST
    assert str(event["DESCRIPTION"]).endswith("…")


def test_one_event_is_given_as_a_file_to_its_owner_alone(ada, bob, visit, parts, user):
    made = add(parts, user)
    path = f"/events/{made['id']}.ics"
    answer = ada.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"] == "attachment; filename=event.ics"
    [event] = Calendar.from_ical(answer.data).walk("VEVENT")
    assert str(event["SUMMARY"]) == "Concert"
    assert bob.client.get(path).status_code == 404
    assert visit().client.get(path).status_code == 302


@pytest.mark.parametrize(("days", "lasts"), [(0, None), (2, timedelta(days=3))])
def test_whole_days_at_the_calendars_end_last_as_long_as_they_do(days, lasts):
    last = datetime(9999, 12, 31, tzinfo=UTC)
    [event] = parsed([row(starts_at=last - timedelta(days=days), ends_at=last, all_day=True)])
    assert "DTEND" not in event, "there is no day after the last one, and an end must be later than the start"
    assert event["DTSTART"].dt == date(9999, 12, 31 - days)
    assert (event["DURATION"].dt if "DURATION" in event else None) == lasts
