"""Shares of the fleet as people type them."""

from __future__ import annotations

import pytest

from tenancy.errors import ConfigurationError
from tenancy.fleet import rollout_rules


@pytest.mark.parametrize(
    ("text", "meant"), [("5", (5.0, False)), (" 2% ", (2.0, True)), ("0.5%", (0.5, True)), ("100%", (100.0, True))]
)
def test_a_share_is_a_number_or_a_percentage(text, meant):
    assert rollout_rules.share(text) == meant


@pytest.mark.parametrize("text", ["", "0", "0%", "120%", "1.5", "-1", "x", "1%%", "٣", "9" * 300])
def test_what_is_no_share_is_refused_by_name(text):
    with pytest.raises(ConfigurationError, match="neither a number of tenants, such as 5") as caught:
        rollout_rules.share(text)
    assert caught.value.field == "halt_after"
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("text", "meant"), [("1%,10%,100%", (1, 10, 100)), ("1% , 10.5%", (1, 10.5, 100)), ("100%", (100,))]
)
def test_waves_grow_to_everybody(text, meant):
    assert rollout_rules.waves(text) == meant


@pytest.mark.parametrize("text", ["", ",", "10,100", "50%,10%", "10%,10%", "200%", "0%", "1%,,2%", "٣%", "9%" * 300])
def test_what_are_no_waves_is_refused_by_name(text):
    with pytest.raises(ConfigurationError, match="not a list of increasing percentages") as caught:
        rollout_rules.waves(text)
    assert caught.value.field == "waves"
    assert len(caught.value.message) < 200
