"""What is understood of a line, and above all what is not."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from tests.web.pages.tasks.quick_add_table import LINES
from web.pages.tasks.quick_add import parse

TODAY = date(2026, 3, 4)  # a Wednesday


def read(text, today=TODAY, first_weekday=0):
    """Give title, day, time, category and priority of a line."""
    found = parse(text, today, first_weekday)
    due = found.due_date.isoformat() if found.due_date else None
    return found.title, due, found.due_time, found.category, found.priority


def test_a_whole_line_is_understood():
    assert read("call mum tomorrow 5pm #home !2") == ("call mum", "2026-03-05", "17:00", "home", 2)


@pytest.mark.parametrize(
    "text",
    [
        "tomorrow 5pm call mum #home !2",
        "!2 call #home mum 5pm tomorrow",
        "call mum at 17:00 tomorrow !2 #home",
        "call tomorrow, at 5 pm mum #home, !2.",
        "#home call mum 17h !2 by Tomorrow",
        "  call   mum\ttomorrow\n17:00 #home !2 ",
    ],
)
def test_the_words_may_stand_in_any_place(text):
    assert read(text) == ("call mum", "2026-03-05", "17:00", "home", 2)


@pytest.mark.parametrize(
    ("words", "day"),
    [
        ("today", "2026-03-04"),
        ("tomorrow", "2026-03-05"),
        ("TOMORROW!", "2026-03-05"),
        ("thursday", "2026-03-05"),
        ("Tuesday", "2026-03-10"),
        ("wednesday", "2026-03-04"),
        ("sat", "2026-03-07"),
        ("sun", "2026-03-08"),
        ("next friday", "2026-03-13"),
        ("fri", "2026-03-06"),
        ("thurs", "2026-03-05"),
        ("on sunday", "2026-03-08"),
        ("on sun", "2026-03-08"),
        ("this friday", "2026-03-06"),
        ("due monday", "2026-03-09"),
        ("by Mon.", "2026-03-09"),
        ("next week", "2026-03-09"),
        ("in 3 days", "2026-03-07"),
        ("in 1 day", "2026-03-05"),
        ("in 0 days", "2026-03-04"),
        ("in 2 weeks", "2026-03-18"),
        ("5 Mar", "2026-03-05"),
        ("4 march", "2026-03-04"),
        ("2 Mar", "2027-03-02"),
        ("2nd March", "2027-03-02"),
        ("1. Jan", "2027-01-01"),
        ("3 sept", "2026-09-03"),
        ("2 Mar 2028", "2028-03-02"),
        ("on 2 March 2026", "2026-03-02"),
        ("2026-03-02", "2026-03-02"),
        ("by 2026-12-31", "2026-12-31"),
        ("3.3.", "2027-03-03"),
        ("31.12.", "2026-12-31"),
        ("3.3.2026", "2026-03-03"),
        ("29.2.2028", "2028-02-29"),
    ],
)
def test_a_day_is_understood(words, day):
    for text in (f"water {words} plants", f"{words} water plants", f"water plants {words}"):
        assert read(text) == ("water plants", day, None, None, None), text


@pytest.mark.parametrize(
    ("words", "time"),
    [
        ("5pm", "17:00"),
        ("5PM", "17:00"),
        ("5 pm", "17:00"),
        ("5:30pm", "17:30"),
        ("5.30pm", "17:30"),
        ("at 5am", "05:00"),
        ("12am", "00:00"),
        ("12pm", "12:00"),
        ("at 17:00", "17:00"),
        ("by 9:05", "09:05"),
        ("at 0:00", "00:00"),
        ("17h", "17:00"),
        ("8h30", "08:30"),
        ("noon", "12:00"),
        ("before noon", "12:00"),
        ("by 5pm", "17:00"),
    ],
)
def test_a_time_is_understood_and_means_today_without_a_day(words, time):
    assert read(f"water {words} plants") == ("water plants", "2026-03-04", time, None, None)
    assert read(f"water plants friday {words}") == ("water plants", "2026-03-06", time, None, None)


@pytest.mark.parametrize(
    "text",
    [
        "30 Feb",
        "31.4.",
        "2026-02-30",
        "2026-13-01",
        "0999-01-01",
        "32 Mar",
        "25:00",
        "12:60",
        "13pm",
        "0am",
        "24h",
        "2h",
        "12h",
        "3/4",
        "3.3",
        "at 5",
        "on 5",
        "by",
        "on",
        "due",
        "in",
        "in 3",
        "in 3 months",
        "in three days",
        "in 9999 days",
        "last monday",
        "every tuesday",
        "next",
        "the sun",
        "17:00",
        "9:05",
        "may",
        "march",
        "2",
        "week",
        "tomorrows",
        "Friday's",
        "(tomorrow)",
        "tomorrow/friday",
        "!4",
        "!",
        "!!",
        "!12",
        "2!",
        "#",
        "##",
        "#12",
        '#""',
        "a#b",
        "#" + "x" * 101,
        "#12345",
        "²:30",
        "٣.٣.",
        "!٢",
        "\\",
        "C:\\temp",
        "\\temp",
        "\\\\server",
    ],
)
def test_what_is_ambiguous_or_cannot_be_stays_text(text):
    assert read(f"buy {text} cream") == (f"buy {text} cream", None, None, None, None)
    assert read(f"buy cream {text}") == (f"buy cream {text}", None, None, None, None)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("watch \\tomorrow never dies", "watch tomorrow never dies"),
        ("fix \\#home link", "fix #home link"),
        ("say \\!2 times", "say !2 times"),
        ("\\next week is a word", "next week is a word"),
        ("play \\5pm", "play 5pm"),
        ("a \\# alone", "a # alone"),
        ('watch "Tomorrow never dies"', 'watch "Tomorrow never dies"'),
        ('read "#home" and "!2 5pm"', 'read "#home" and "!2 5pm"'),
        ("watch “today 5pm”", "watch “today 5pm”"),
        ('watch "today', 'watch "today'),
    ],
)
def test_quotes_and_a_backslash_keep_words_as_they_are(text, title):
    assert read(text) == (title, None, None, None, None)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("move friday to monday", "move friday to monday"),
        ("5pm or 6pm tea", "5pm or 6pm tea"),
        ("a #home #work", "a #home #work"),
        ("b !1 !2", "b !1 !2"),
    ],
)
def test_what_is_said_in_two_ways_stays_text(text, title):
    assert read(text)[0] == title
    assert read(text)[1:] == (None,) * 4


def test_what_is_said_twice_in_the_same_way_is_understood():
    assert read("tea #Home 5pm 17:00 #HOME !1 !1") == ("tea", "2026-03-04", "17:00", "Home", 1)


def test_a_category_of_several_words_stands_in_quotes():
    assert read('paint #"Summer   house" fence') == ("paint fence", None, None, "Summer house", None)
    assert read('#"Summer house", paint')[3] == "Summer house"


@pytest.mark.parametrize(("first", "day"), [(0, "2026-03-09"), (6, "2026-03-08"), (5, "2026-03-07")])
def test_next_week_begins_where_the_viewers_weeks_begin(first, day):
    assert read("rest next week", first_weekday=first)[1] == day


def test_on_the_first_day_of_a_week_the_next_one_is_seven_days_away():
    assert read("rest next week", today=date(2026, 3, 2))[1] == "2026-03-09"


def test_the_ends_of_the_calendar_are_no_failure():
    assert read("end tomorrow", today=date.max) == ("end tomorrow", None, None, None, None)
    assert read("end in 3 weeks", today=date.max)[1] is None
    assert read("end 30 dec", today=date.max)[1] is None


# ---------------------------------------------------------------- the table

# Before and after the clocks change in Berlin and Auckland, at the turn of the year, and on a plain Wednesday; where
# it is one day in one of these zones, it is often another in the next.
MOMENTS = ("2026-03-04T10:30", "2026-03-28T23:30", "2026-10-24T23:45", "2026-12-31T11:30")
ZONES = ("Europe/Berlin", "Pacific/Auckland", "America/Los_Angeles")
NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def lies(day, now):
    """Say which day the table means, counted here without the code that reads lines."""
    today = now.date()
    if day == "-":
        return None
    if day.endswith("h"):
        return later(day, now).date()
    if day.startswith("+"):
        return today + timedelta(days=int(day))
    if day.startswith("next "):
        monday = next(today + timedelta(days=n) for n in range(1, 8) if (today + timedelta(days=n)).weekday() == 0)
        return monday + timedelta(days=NAMES.index(day[5:]))
    if day in NAMES:
        return next(each for n in range(7) if NAMES[(each := today + timedelta(days=n)).weekday()] == day)
    if len(day) == 5:
        return next(each for y in (0, 1) if (each := date.fromisoformat(f"{today.year + y}-{day}")) >= today)
    return date.fromisoformat(day)


def later(hours, now):
    return (now.astimezone(UTC) + timedelta(hours=float(hours.strip("+h")))).astimezone(now.tzinfo)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("moment", MOMENTS)
def test_the_table_holds_at_every_moment_in_every_zone(moment, zone):
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
    wrong = []
    for text, title, day, time, category, priority in LINES:
        at = f"{later(time, now):%H:%M}" if time.endswith("h") else None if time == "-" else time
        right = (title, lies(day, now), at, None if category == "-" else category, priority)
        found = parse(text, now)
        said = (found.title, found.due_date, found.due_time, found.category, found.priority)
        if said != right:
            wrong.append((text, said, right))
    assert wrong == []


def test_the_table_is_as_long_as_was_asked_and_names_no_line_twice():
    assert len(LINES) >= 150
    assert len({text for text, *_ in LINES}) == len(LINES)


def test_the_order_of_day_and_month_is_the_viewers():
    for text, day_first, month_first in (
        ("Pay 12/05", date(2026, 5, 12), date(2026, 12, 5)),
        ("Pay 25/12", date(2026, 12, 25), None),
        ("Pay 12/25", None, date(2026, 12, 25)),
        ("Pay 3/4/2027", date(2027, 4, 3), date(2027, 3, 4)),
        ("Pay 9.12.", date(2026, 12, 9), date(2026, 12, 9)),
    ):
        assert parse(text, TODAY).due_date == day_first, text
        assert parse(text, TODAY, month_first=True).due_date == month_first, text


def test_two_hours_are_two_hours_where_the_clocks_are_changed_meanwhile():
    berlin = ZoneInfo("Europe/Berlin")
    for before, at in (("2026-03-29T00:30", "04:30"), ("2026-10-25T00:30", "03:30")):
        now = datetime.fromisoformat(before).replace(tzinfo=UTC).astimezone(berlin)
        assert parse("oven in 2h", now).due_time == at


def test_without_the_time_of_day_no_hours_can_be_counted():
    assert read("oven in 2h") == ("oven in 2h", None, None, None, None)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("Lunch Fri 9 Dec 2028", "“Fri” and “9 Dec 2028” stay in the title: 9 Dec 2028 is a Saturday."),
        ("Move friday to monday", "“friday” and “monday” stay in the title: these are different days."),
        ("Party 30 Feb", "“30 Feb” stays in the title: there is no such day."),
        (
            "Party 12/25 5pm",
            "“12/25” stays in the title: there is no such day. “5pm” stays in the title: it has no day.",
        ),
        ("Water every monday", "“every monday” stays in the title: repeating tasks are not supported yet."),
        ("Tea 5pm or 6pm", "“5pm” and “6pm” stay in the title: these are different times."),
        ("Pay !1 p1", "“!1” and “p1” stay in the title: these are different priorities."),
        ("a #home #work", "“#home” and “#work” stay in the title: these are different categories."),
        (
            "Pay friday the 13th",
            "“the 13th” stays in the title: a day needs its month. "
            "“friday” stays in the title: the words next to it are not a day.",
        ),
        (
            "Pay a week from friday",
            "“a week from friday” stays in the title: days can only be counted from today, as in “in 3 days”.",
        ),
        ("Pay Dec 2028", "“Dec 2028” stays in the title: a month is not a day."),
        ("Call mum 25:00", "“25:00” stays in the title: there is no such time."),
        ("Call mum at 12:60", "“at 12:60” stays in the title: there is no such time."),
        ("Call mum 17:00", "“17:00” stays in the title: write “at” before it to make it the time."),
        ("Call mum yesterday", "“yesterday” stays in the title: it has passed."),
        ("Ring in 99999 days", "“in 99999 days” stays in the title: 999 is the most that can be counted."),
        ("Ring in 3 months", "“in 3 months” stays in the title: months and years cannot be counted."),
        ("Ring next month", "“next month” stays in the title: it is more than one day."),
        ("Pay 1 Mar 2025", "This day has already passed."),
        ("Read Genesis 25:12", ""),
        ("Read John 3:16", ""),
        ("Read chapter 3/4", ""),
        ('Watch "every monday"', ""),
        ("Call mum tomorrow", ""),
    ],
)
def test_what_looks_like_something_and_is_not_taken_is_told(text, note):
    assert " ".join(parse(text, TODAY).notes) == note


@pytest.mark.parametrize("text", ["Call mum 5pm", "17:00 call mum", "Call mum today at 17:00"])
def test_a_time_means_today_and_is_told_where_it_has_passed(text):
    for clock, note in (("16:59", ""), ("17:00", ""), ("17:01", "17:00 has already passed today")):
        found = parse(text, datetime.fromisoformat(f"2026-03-04T{clock}+00:00"))
        assert (found.due_date, found.due_time) == (TODAY, "17:00")
        assert " ".join(found.notes).startswith(note)
        assert bool(found.notes) == bool(note)
    assert parse("Call mum tomorrow 5pm", datetime(2026, 3, 4, 18, tzinfo=UTC)).notes == ()


WORDS = st.sampled_from(
    [
        "tomorrow",
        "5pm",
        "5",
        "pm",
        "#home",
        "!2",
        "in",
        "3",
        "days",
        "next",
        "week",
        "friday",
        "on",
        "at",
        "2",
        "Mar",
        "2026",
        "\\",
        "\\#x",
        '"',
        "“",
        "”",
        '#"',
        "3.3.",
        "noon",
        "every",
        "and",
        "12/05",
        "Dec",
        "30",
        "p1",
        "2h",
        "tonight",
        "this",
        "morning",
        "call",
        "mum",
        "é",
        "مرحبا",
        "🇩🇪",
    ]
)


@given(
    st.one_of(st.text(max_size=80), st.lists(WORDS, max_size=12).map(" ".join)), st.dates(), st.sampled_from((0, 5, 6))
)
def test_nothing_fails_and_no_word_is_lost(text, today, first):
    found = parse(text, today, first)
    kept = " ".join(piece.text for piece in found.pieces).split()
    typed = text.split()
    assert len(kept) == len(typed)
    for word, was in zip(kept, typed, strict=True):
        assert was in (word, f"\\{word}")
    assert found.due_time is None or found.due_date is not None
    assert found.priority in (None, 0, 1, 2, 3)
