"""How moments, days and sizes are written for people, in the viewer's zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from web.display import clock, preferences, template_filters
from web.display.preferences import Preferences

AT = datetime(2026, 3, 2, 8, 5, 9, tzinfo=UTC)


@pytest.fixture(autouse=True)
def berlin(monkeypatch):
    monkeypatch.setattr(preferences, "current", lambda: Preferences(time_zone="Europe/Berlin"))


def test_moments_are_the_viewers_for_people_and_utc_for_programs():
    assert template_filters.moment(AT) == "2 Mar 2026, 09:05"
    assert template_filters.wall(AT) == "09:05"
    assert template_filters.iso(AT) == "2026-03-02T08:05:09Z"
    assert template_filters.iso(AT.astimezone(clock.zone())) == "2026-03-02T08:05:09Z"
    assert template_filters.moment(datetime(2026, 7, 31, 22, 30, tzinfo=UTC)) == "1 Aug 2026, 00:30"


def test_a_span_names_the_day_once_where_the_viewers_clock_has_one():
    assert template_filters.span(AT, AT + timedelta(hours=2)) == "2 Mar 2026, 09:05 to 11:05"
    assert template_filters.span(AT, AT + timedelta(hours=15)) == "2 Mar 2026, 09:05 to 3 Mar 2026, 00:05"
    assert template_filters.span(AT, None) == "2 Mar 2026, 09:05"
    forward = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    assert template_filters.span(forward, forward + timedelta(hours=1)) == "29 Mar 2026, 01:30 to 03:30"


def test_a_time_that_comes_twice_says_which_it_is():
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert template_filters.span(first, first + timedelta(minutes=30)) == "25 Oct 2026, 02:30 CEST to 02:00 CET"
    assert template_filters.wall(first + timedelta(minutes=90)) == "03:00"


def test_an_event_is_named_by_its_hours_or_its_days():
    event = {"starts_at": AT, "ends_at": AT + timedelta(hours=1), "all_day": False}
    assert template_filters.when(event) == "Mon 2 Mar 2026, 09:05 to 10:05"
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    whole = {"starts_at": midnight, "ends_at": None, "all_day": True}
    assert template_filters.when(whole) == "Mon 2 Mar 2026, all day"
    assert template_filters.when(whole | {"ends_at": midnight}) == "Mon 2 Mar 2026, all day"
    longer = whole | {"ends_at": midnight + timedelta(days=2)}
    assert template_filters.when(longer) == "Mon 2 Mar 2026 to Wed 4 Mar 2026, all day"
    assert template_filters.when(whole | {"starts_at": None}) == "No date"


def test_days_have_names_that_do_not_hang_on_the_server():
    names = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    assert [template_filters.weekday(date(2026, 3, day)) for day in range(2, 9)] == list(names)
    assert template_filters.day(date(2026, 12, 31)) == "31 Dec 2026"


@pytest.mark.parametrize("edge", [clock.FIRST, clock.LAST, clock.FIRST + timedelta(minutes=1)])
def test_the_ends_of_the_calendar_are_written(edge):
    for show in (template_filters.moment, template_filters.iso, template_filters.wall, template_filters.ago):
        assert show(edge)
    assert template_filters.span(clock.FIRST, clock.LAST)


@pytest.mark.parametrize(
    ("back", "says"),
    [
        (timedelta(seconds=20), "just now"),
        (timedelta(seconds=-20), "just now"),
        (timedelta(minutes=1, seconds=10), "1 minute ago"),
        (timedelta(minutes=59), "59 minutes ago"),
        (timedelta(hours=1, minutes=1), "1 hour ago"),
        (timedelta(hours=47), "1 day ago"),
        (timedelta(days=29, hours=1), "29 days ago"),
    ],
)
def test_ages_are_rounded_down(back, says):
    assert template_filters.ago(datetime.now(UTC) - back) == says


def test_what_is_long_ago_or_to_come_is_named_by_its_day():
    long_ago, to_come = (datetime.now(UTC) + timedelta(days=days) for days in (-400, 3))
    assert template_filters.ago(long_ago) == template_filters.day(clock.local(long_ago))
    assert template_filters.ago(to_come) == template_filters.day(clock.local(to_come))


@pytest.mark.parametrize(
    ("count", "says"),
    [(None, "unknown"), (0, "0 bytes"), (118_784, "116 KiB"), (5 * 1024**2, "5.0 MiB"), (1024**5, "1024.0 TiB")],
)
def test_sizes(count, says):
    assert template_filters.size(count) == says


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("run `unify db init 7`.", "Run <code>unify db init 7</code>."),
        ("`a` or `<b>`: x", "<code>a</code> or <code>&lt;b&gt;</code>: x"),
        ("user <i> & `unify db in…", "User &lt;i&gt; &amp; <code>unify db in</code>…"),
        ("one ` alone", "One ` alone"),
        ("", ""),
    ],
)
def test_a_message_is_shown_with_its_commands_as_code_and_nothing_of_it_is_html(text, html):
    assert template_filters.prose(text) == html


def test_a_message_becomes_a_sentence_without_column_names():
    assert template_filters.sentence("db_host is not known.") == "The host is not known."
    assert template_filters.sentence("Nothing for db_user@x.org or a@db_host.org: set db_name.") == (
        "Nothing for db_user@x.org or a@db_host.org: set the database name."
    )
    assert str(template_filters.prose("run `x`: db_user < db_name")) == (
        "Run <code>x</code>: the user &lt; the database name"
    )
