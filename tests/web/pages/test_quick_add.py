"""What is understood of a line, and above all what is not."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.pages.quick_add import parse

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
        ("wednesday", "2026-03-11"),
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
        ("17:00", "17:00"),
        ("9:05", "09:05"),
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
        "29 Feb",
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
        "next friday",
        "last monday",
        "every tuesday",
        "next",
        "sun",
        "sat",
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
