"""Events as a month, a week and a list, by the viewer's clock, and the form that reads it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

import pytest

from repositories.repository_factory import RepositoryFactory
from tests.support.moments import now


@pytest.fixture
def prefer(parts, user):
    """Give a function that sets what Ada prefers."""
    return lambda **wishes: parts.accounts.set_preferences(user.id, wishes)


@pytest.fixture
def add(parts, user):
    """Give a function that writes events of Ada's: title, start, end (UTC), and what else is said."""

    def write(title, starts_at, ends_at=None, **values):
        start, end = (each and datetime.fromisoformat(each).replace(tzinfo=UTC) for each in (starts_at, ends_at))
        with parts.manager.session(user.id, write=True) as session:
            events = RepositoryFactory.get_repository("events", session, user.id)
            return events.create({"title": title, "starts_at": start, "ends_at": end} | values)

    return write


@pytest.fixture
def stored(parts, user):
    def read():
        with parts.manager.session(user.id) as session:
            return RepositoryFactory.get_repository("events", session, user.id).list()

    return read


def cells(page):
    """Give what each day of a month or week shows, by the day that its link opens a new event on."""
    found = {}
    for cell in re.split(r"<td class=|<li class=\"(?:busy|free)", page.html)[1:]:
        day = re.search(r"day=(\d{4}-\d{2}-\d{2})", cell)
        if day:
            found[day[1]] = re.sub(r"<[^>]+>", " ", cell)
    return found


# ---------------------------------------------------------------- month


def test_a_month_shows_its_events_on_their_days(ada, add):
    add("Concert", "2026-03-01T19:30", "2026-03-01T22:00")
    add("Trip", "2026-03-10", "2026-03-12", all_day=True)
    page = ada.get("/events?on=2026-03-15")
    assert "<h1>March 2026</h1>" in page.html
    days = cells(page)
    assert "19:30" in days["2026-03-01"]
    assert "Concert" in days["2026-03-01"]
    assert [day for day in days if "Trip" in days[day]] == ["2026-03-10", "2026-03-11", "2026-03-12"]
    assert {"/events?view=month&amp;on=2026-02-01", "/events?view=month&amp;on=2026-04-01"} <= {
        link.replace("&", "&amp;") for link in page.links
    }


def test_days_and_times_are_the_viewers_and_the_page_names_the_zone(ada, add, prefer):
    add("Late", "2026-03-01T23:30")
    assert "23:30" in cells(ada.get("/events?on=2026-03-01"))["2026-03-01"]
    prefer(time_zone="Asia/Kathmandu")
    page = ada.get("/events?on=2026-03-01")
    assert "05:15" in cells(page)["2026-03-02"]
    assert "Late" not in cells(page)["2026-03-01"]
    assert "Times are shown in Asia/Kathmandu" in page.html


def test_a_whole_day_is_the_same_day_in_every_zone(ada, add, prefer):
    add("Holiday", "2026-03-02", all_day=True)
    add("Odd hour", "2026-03-02T18:00", all_day=True)
    for zone in ("UTC", "America/New_York", "Pacific/Apia", "Asia/Kathmandu"):
        prefer(time_zone=zone)
        for view in ("month", "week"):
            days = cells(ada.get(f"/events?view={view}&on=2026-03-02"))
            for title in ("Holiday", "Odd hour"):
                assert [day for day in days if title in days[day]] == ["2026-03-02"], (zone, view, title)


@pytest.mark.parametrize(
    ("start", "first"), [("monday", "2026-02-23"), ("sunday", "2026-03-01"), ("saturday", "2026-02-28")]
)
def test_weeks_begin_where_the_viewer_wants(ada, prefer, start, first):
    prefer(week_start=start)
    page = ada.get("/events?on=2026-03-15")
    assert min(cells(page)) == first
    assert page.html.index(f'title="{start.title()}"') == page.html.index('<abbr title="') + len("<abbr ")


def test_today_is_marked_and_the_month_begins_with_it(ada, prefer):
    prefer(time_zone="Pacific/Apia")
    today = (now() + timedelta(hours=13)).date()
    page = ada.get("/events")
    assert page.html.count('aria-current="date"') == 1
    assert f"{today.year}</h1>" in page.html


def test_what_does_not_fit_is_counted_and_leads_to_the_week(ada, add):
    for number in range(30):
        add(f"Talk {number}", f"2026-03-02T{number % 24:02}:00")
    page = ada.get("/events?on=2026-03-02")
    assert "+27 more" in cells(page)["2026-03-02"]
    more = next(link for link in page.links if "view=week" in link and link.endswith("#day-2026-03-02"))
    week = ada.get(more.partition("#")[0])
    assert all(f"Talk {number}<" in week.html for number in range(30))
    assert 'id="day-2026-03-02"' in week.html


def test_odd_addresses_and_the_ends_of_the_calendar_are_answered(ada, add, prefer):
    add("At the end", "9999-12-31", "9999-12-31T23:59:59", all_day=True)
    odd = ("0001-01-01", "9999-12-31", "2026-02-30", "x", "", "2026-3-1", "20260301", "\u0662026-01-01")
    for zone in ("Pacific/Apia", "America/New_York"):
        prefer(time_zone=zone, week_start="sunday")
        for query in (
            f"view={view}&{name}={day}"
            for view in ("month", "week", "list", "none")
            for day in odd
            for name in ("on", "day")
        ):
            for link in ada.get(f"/events?{query}").links:
                if found := re.search(r"[?&]on=([^&#]+)", link):
                    assert date.fromisoformat(found[1])


def test_a_month_without_events_says_so(ada):
    assert "No events in March 2026" in ada.get("/events?on=2026-03-01").html


def test_only_ones_own_events_are_shown(ada, bob, add):
    add("Secret", "2026-03-02T10:00")
    for view in ("month", "week", "list"):
        assert "Secret" in ada.get(f"/events?view={view}&on=2026-03-02{'&past=1' if view == 'list' else ''}").html
        assert "Secret" not in bob.get(f"/events?view={view}&on=2026-03-02").html


@pytest.mark.parametrize("view", ["month", "week", "list"])
def test_a_view_is_one_catalog_statement_one_of_events_and_one_of_categories(statements, ada, add, view):
    path = f"/events?view={view}&on=2026-03-02"
    ada.get(path)
    with statements() as empty:
        ada.get(path)
    for number in range(60):
        add(f"Talk {number}", f"2026-03-{number % 28 + 1:02}T10:00", f"2026-04-{number % 28 + 1:02}T10:00")
    with statements() as full:
        ada.get(path)
    assert len(empty) == len(full) == 3, full
    assert sum("FROM events" in sent.replace("\n", " ") for _, sent in full) == 1


# ---------------------------------------------------------------- week


def test_a_week_shows_whole_days_and_hours_of_seven_days(ada, add):
    add("Concert", "2026-03-04T19:30", "2026-03-04T22:00", location="Town hall")
    add("Trip", "2026-03-03", "2026-03-05", all_day=True)
    page = ada.get("/events?view=week&on=2026-03-04")
    days = cells(page)
    assert list(days) == [f"2026-03-{day:02}" for day in range(2, 9)]
    for text in ("19:30", "22:00", "Concert", "Town hall"):
        assert text in days["2026-03-04"]
    assert [day for day in days if "Trip" in days[day]] == ["2026-03-03", "2026-03-04", "2026-03-05"]
    assert any(link.endswith("view=week&on=2026-02-25") for link in page.links)


def test_an_hour_that_comes_twice_shows_both_events_in_their_order(ada, add, prefer):
    prefer(time_zone="Europe/Berlin")
    add("Second", "2026-10-25T01:15")
    add("First", "2026-10-25T00:30")
    day = cells(ada.get("/events?view=week&on=2026-10-25"))["2026-10-25"]
    assert day.index("02:30") < day.index("02:15")


# ---------------------------------------------------------------- list


def ahead(days):
    return (now() + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M")


def test_the_list_has_what_is_to_come_and_what_is_past(ada, add):
    add("Old", "2026-01-02T10:00")
    add("Soon", ahead(2))
    add("Later", ahead(40))
    add("Goes on", "2026-01-02T10:00", ahead(3))
    upcoming = ada.get("/events?view=list").html
    assert upcoming.index("Goes on") < upcoming.index("Soon") < upcoming.index("Later")
    assert ">Old<" not in upcoming
    past = ada.get("/events?view=list&past=1").html
    assert ">Old<" in past
    assert "Soon" not in past


def test_the_latest_of_what_is_past_comes_first(ada, add):
    add("Second", "2026-01-03T10:00")
    add("First", "2026-01-02T10:00")
    past = ada.get("/events?view=list&past=1").html
    assert past.index("Second") < past.index("First")


def test_the_list_is_narrowed_by_words_and_category(ada, add):
    add("Jazz concert", ahead(2))
    add("Dentist", ahead(3))
    found = ada.get("/events?view=list&q=CONCERT").html
    assert "Jazz concert" in found
    assert "Dentist" not in found
    assert "Nothing matches" in ada.get("/events?view=list&q=xyzzy").html
    assert "Nothing matches" in ada.get("/events?view=list&category=00000000-0000-7000-8000-000000000000").html
    assert "Dentist" in ada.get("/events?view=list&category=nonsense").html


def test_a_long_list_is_paged_to_its_end(ada, add):
    for number in range(120):
        add(f"Talk {number:03}.", ahead(number + 1))
    seen, path = [], "/events?view=list"
    while path:
        page = ada.get(path)
        seen += re.findall(r">(Talk \d{3})\.<", page.html)
        path = next((link for link in page.links if "cursor=" in link), None)
    assert seen == [f"Talk {number:03}" for number in range(120)]


def test_a_cursor_belongs_to_its_list(ada, bob, add):
    for number in range(60):
        add(f"Talk {number}", ahead(number + 1))
    cursor = next(link for link in ada.get("/events?view=list").links if "cursor=" in link)
    assert ada.client.get(cursor + "&q=Talk").status_code == 400
    assert bob.client.get(cursor).status_code == 400


# ---------------------------------------------------------------- the form


def test_a_day_opens_the_form_on_it(ada, prefer):
    prefer(time_zone="Europe/Berlin")
    page = ada.get("/events?on=2026-03-02&day=2026-03-02")
    form = next(form for form in page.forms if form.action == "/events" and form.method == "POST")
    assert (form.values["starts_at"], form.values["ends_at"]) == ("2026-03-02T09:00", "2026-03-02T10:00")
    assert re.search(r'<details [^>]*id="new"[^>]* open', page.html)
    assert not re.search(r'<details [^>]*id="new"[^>]* open', ada.get("/events").html)


def test_a_new_event_has_no_category_until_one_is_chosen(ada, stored):
    ada.send("/categories", name="A first one")
    ada.send("/events", title="x", starts_at="2026-03-02T09:00", ends_at="")
    page = ada.get("/events?view=list&past=1")
    assert "Uncategorized" in page.html[page.html.index('class="rows"') :]


def test_typed_times_are_the_viewers_and_saving_leads_to_the_month_of_the_event(ada, prefer, stored):
    prefer(time_zone="Europe/Berlin")
    answer = ada.send("/events", title="Concert", starts_at="2026-07-04T19:30", ends_at="2026-07-04T22:00")
    assert answer.status_code == 303
    assert ada.client.get(answer.location).location == "/events?on=2026-07-04"
    [row] = stored()
    assert row["starts_at"] == datetime(2026, 7, 4, 17, 30, tzinfo=UTC)
    form = ada.form(f"/events/{row['id']}")
    assert form.values["starts_at"] == "2026-07-04T19:30"


def test_a_time_that_no_clock_shows_is_an_error_beside_it_and_the_text_stays(ada, prefer, stored):
    prefer(time_zone="Europe/Berlin")
    answer = ada.send("/events", title="Night train", starts_at="2026-03-29T02:30", ends_at="2026-03-29T04:00")
    assert answer.status_code == 422
    assert "There is no such time in Europe/Berlin" in answer.text
    assert 'value="2026-03-29T02:30"' in answer.text
    assert 'value="Night train"' in answer.text
    assert "<h1>March 2026</h1>" in answer.text, "the month that was meant"
    assert stored() == []


def test_of_a_time_that_comes_twice_the_first_is_meant_and_saving_again_moves_nothing(ada, prefer, add, stored):
    prefer(time_zone="Europe/Berlin")
    ada.send("/events", title="First", starts_at="2026-10-25T02:00", ends_at="")
    second = add("Second", "2026-10-25T01:00", "2026-10-25T01:30:15.123456")
    path = f"/events/{second['id']}"
    form = ada.form(path)
    assert (form.values["starts_at"], form.values["ends_at"]) == ("2026-10-25T02:00", "2026-10-25T02:30:15")
    assert ada.send(path, title="Second, renamed").status_code == 303
    first, renamed = stored()
    assert first["starts_at"] == datetime(2026, 10, 25, 0, tzinfo=UTC)
    assert renamed["title"] == "Second, renamed"
    assert (renamed["starts_at"], renamed["ends_at"]) == (second["starts_at"], second["ends_at"])


def test_times_of_another_zone_are_turned_into_the_viewers(ada, prefer, stored):
    prefer(time_zone="Europe/Berlin")
    typed = {"title": "Call", "starts_at": "2026-03-02T09:00", "ends_at": "2026-03-02T10:00"}
    assert ada.send("/events", **typed, zone="Asia/Kathmandu").status_code == 303
    [row] = stored()
    assert row["starts_at"] == datetime(2026, 3, 2, 3, 15, tzinfo=UTC)
    path = f"/events/{row['id']}"
    assert ada.form(path).values["starts_at"] == "2026-03-02T04:15"
    assert ada.send(path, zone="America/New_York", starts_at="2026-10-24T20:15", ends_at="").status_code == 303
    [moved] = stored()
    assert moved["starts_at"] == datetime(2026, 10, 25, 0, 15, tzinfo=UTC)


def test_a_moment_of_another_zone_is_exact_where_the_viewers_clock_shows_it_twice(ada, prefer, stored):
    prefer(time_zone="Europe/Berlin")
    assert ada.send("/events", title="x", starts_at="2026-10-25T01:00", ends_at="", zone="UTC").status_code == 303
    assert [row["starts_at"] for row in stored()] == [datetime(2026, 10, 25, 1, tzinfo=UTC)]


@pytest.mark.parametrize("path", ["new", "edit"])
def test_a_time_that_is_none_in_the_other_zone_is_refused_there(ada, add, stored, path):
    made = add("Old", "2026-03-02T10:00")
    address = "/events" if path == "new" else f"/events/{made['id']}"
    answer = ada.send(address, title="x", starts_at="2026-03-29T02:30", ends_at="", zone="Europe/Berlin")
    assert answer.status_code == 422
    assert "There is no such time in Europe/Berlin" in answer.text
    assert 'value="2026-03-29T02:30"' in answer.text
    assert '<option value="Europe/Berlin" selected>' in answer.text
    assert [row["title"] for row in stored()] == ["Old"]


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "x" * 5000])
def test_an_unknown_zone_is_named(ada, zone, stored):
    answer = ada.send("/events", title="x", starts_at="2026-03-29T02:30", ends_at="", zone=zone)
    assert answer.status_code == 422
    assert "Choose one from the list." in answer.text
    assert stored() == []


@pytest.mark.parametrize(("start", "end"), [("2026-03-02T09:15", "2026-03-04T08:00"), ("2026-03-02", "2026-03-04")])
def test_whole_days_are_dates_whatever_their_times_and_zone(ada, prefer, stored, start, end):
    prefer(time_zone="America/New_York")
    typed = {"title": "Trip", "starts_at": start, "ends_at": end, "all_day": "1"}
    assert ada.send("/events", **typed, zone="Asia/Kathmandu").status_code == 303
    [row] = stored()
    assert (row["starts_at"], row["ends_at"]) == (datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 4, tzinfo=UTC))
    assert ada.form(f"/events/{row['id']}").values["starts_at"] == "2026-03-02T00:00"


def test_an_event_is_saved_without_an_end(ada, stored):
    assert ada.send("/events", title="x", starts_at="2026-03-02T09:00", ends_at="").status_code == 303
    assert stored()[0]["ends_at"] is None


def test_a_form_of_somebody_who_is_signed_out_is_not_touched(visit, add):
    made = add("Old", "2026-03-02T10:00")
    visitor = visit()
    token = visitor.form("/auth/login").values["csrf_token"]
    for path in ("/events", f"/events/{made['id']}"):
        typed = {"csrf_token": token, "title": "x", "starts_at": "2026-03-29T02:30", "zone": "Europe/Berlin"}
        assert visitor.client.post(path, data=typed).status_code in (302, 303)


def test_where_an_event_is_found_is_its_month_by_the_viewers_clock(ada, bob, add, prefer):
    prefer(time_zone="Asia/Kathmandu")
    made = add("Late", "2026-03-31T23:30")
    assert ada.client.get(f"/events/{made['id']}/where").location == "/events?on=2026-04-01"
    assert bob.client.get(f"/events/{made['id']}/where").status_code == 404


def test_odd_titles_are_text(ada, add):
    for title in ("<svg onload=alert(1)>", "w" * 200, "\u0634\u0643\u0631\u0627 \u202eabc", "e\u0301" * 50):
        add(title, "2026-03-02T10:00")
    for view in ("month", "week"):
        html = ada.get(f"/events?view={view}&on=2026-03-02").html
        assert "<svg onload" not in html
        assert "&lt;svg onload" in html


@pytest.mark.parametrize(
    ("zone", "moment", "day_is_over"),
    [
        ("Pacific/Kiritimati", "2026-03-03T09:59", False),
        ("Pacific/Kiritimati", "2026-03-03T10:01", True),
        ("Pacific/Honolulu", "2026-03-04T09:59", False),
        ("Pacific/Honolulu", "2026-03-04T10:01", True),
    ],
)
def test_the_lists_go_by_the_owners_clock(ada, add, prefer, monkeypatch, zone, moment, day_is_over):
    from web.display import clock

    now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: now.astimezone(clock.zone()))
    prefer(time_zone=zone)
    add("Fair", "2026-03-03", all_day=True)
    add("Under way", "2026-02-20T10:00", "2026-03-20T10:00")
    add("Just ended", "2026-03-03T08:00", moment)
    past, ahead = (ada.get(f"/events?view=list{more}").html for more in ("&past=1", ""))
    for title, over in (("Fair", day_is_over), ("Under way", False), ("Just ended", True)):
        assert (f">{title}<" in past, f">{title}<" in ahead) == (over, not over), title
    today = ada.get("/").html
    assert (">Fair<" not in today) == day_is_over
    assert ">Just ended<" not in today
