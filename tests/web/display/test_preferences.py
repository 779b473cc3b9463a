"""Hold the wishes of viewers to their defaults where what is stored means nothing."""

from __future__ import annotations

import pytest

from web.display import preferences
from web.display.preferences import Preferences


def test_what_was_chosen_is_read():
    stored = {
        "time_zone": "Asia/Kathmandu",
        "week_start": "sunday",
        "theme": "dark",
        "shortcuts": "off",
        "day_order": "month",
    }
    chosen = Preferences("Asia/Kathmandu", "sunday", "dark", shortcuts=False, chosen_zone=True, day_order="month")
    assert Preferences.of(stored) == chosen


def test_without_choices_the_defaults_hold():
    assert Preferences.of({}) == Preferences()
    assert not Preferences().chosen_zone
    assert Preferences().shortcuts


@pytest.mark.parametrize(
    "zone",
    ["", "../../etc/passwd", "/etc/localtime", "Europe", "europe/berlin", "localtime", "Factory", "a\x00b"],
)
def test_a_zone_that_is_none_counts_as_not_chosen(zone):
    assert not preferences.is_zone(zone)
    assert Preferences.of({"time_zone": zone}) == Preferences()


def test_a_zone_of_ten_thousand_characters_is_none():
    assert not preferences.is_zone("x/" * 5_000)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Calcutta", "Etc/GMT+5", "EST5EDT"])
def test_every_name_a_browser_may_give_is_a_zone(zone):
    assert Preferences.of({"time_zone": zone}) == Preferences(zone, chosen_zone=True)


@pytest.mark.parametrize(
    "broken",
    [{"week_start": "friday"}, {"theme": "<b>"}, {"day_order": "year"}, {"shortcuts": "perhaps"}, {"other": "x"}],
)
def test_a_broken_or_unknown_choice_leaves_the_default(broken):
    assert Preferences.of(broken) == Preferences()
