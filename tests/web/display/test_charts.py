"""Where the parts of a chart stand."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given, strategies as some

from web.display import charts

COUNTS = some.lists(some.tuples(some.text(max_size=3), some.integers(0, 10**9)), max_size=12)
DAY = date(2026, 3, 1)


def test_bars_stand_on_the_ground_and_the_highest_reaches_the_top():
    low, high, none = charts.bars([("a", 5), ("b", 10), ("c", 0)], width=300, height=100)
    assert (low.y, low.height) == (50, 50)
    assert (high.y, high.height) == (0, 100)
    assert (none.y, none.height) == (100, 0)
    assert [bar.width for bar in (low, high, none)] == [75, 75, 75]
    assert (low.x, high.x, none.x) == (12.5, 112.5, 212.5)


def test_bars_of_nothing_are_flat_and_no_bars_are_none():
    assert [bar.height for bar in charts.bars([("a", 0), ("b", 0)], width=10, height=10)] == [0, 0]
    assert charts.bars([], width=10, height=10) == []


@given(COUNTS)
def test_bars_stay_inside_the_drawing(values):
    for bar in charts.bars(values, width=600, height=120):
        assert 0 <= bar.x <= bar.x + bar.width <= 600.2
        assert abs(bar.y + bar.height - 120) <= 0.11


def test_shares_are_as_wide_as_what_they_stand_for_and_leave_out_what_is_not_there():
    ready, failed = charts.shares([("ready", 75), ("moving", 0), ("failed", 25)], width=600, height=18)
    assert (ready.label, ready.x, ready.width) == ("ready", 0, 450)
    assert (failed.label, failed.x, failed.width) == ("failed", 450, 150)


def test_one_in_a_hundred_thousand_is_still_seen():
    _, failed = charts.shares([("ready", 99_999), ("failed", 1)], width=600, height=18)
    assert failed.width >= 1.9


@given(COUNTS)
def test_shares_fill_the_drawing_and_do_not_overlap(values):
    boxes = charts.shares(values, width=600, height=18)
    assert len(boxes) == sum(1 for _, value in values if value)
    for left, right in pairwise(boxes):
        assert abs(left.x + left.width - right.x) <= 0.21
    if boxes:
        assert abs(boxes[-1].x + boxes[-1].width - 600) <= 0.21


def test_a_trend_stands_by_its_days_and_not_by_its_number():
    found = charts.trend([(DAY, 0), (DAY + timedelta(1), 50), (DAY + timedelta(4), 100)], width=400, height=80)
    assert found is not None
    assert found.line == "M0.0 80.0 L100.0 40.0 L400.0 0.0"
    assert found.area == "M0.0 80.0 L100.0 40.0 L400.0 0.0 L400.0 80.0 L0.0 80.0 Z"
    assert (found.top, found.last) == (100, (400, 0))


def test_a_trend_of_one_value_is_a_level_line_and_one_of_none_is_nothing():
    found = charts.trend([(DAY, 7)], width=400, height=80)
    assert found is not None
    assert found.line == "M0.0 0.0 L400.0 0.0"
    assert charts.trend([], width=400, height=80) is None


def test_weeks_are_counted_back_from_the_last_day():
    days = [(DAY + timedelta(n), 1) for n in range(16)]
    assert charts.weeks(days) == [(DAY + timedelta(2), 7), (DAY + timedelta(9), 7)]
