"""Lose everything a few times, and recover it."""

from __future__ import annotations

import pytest

from tests.acceptance import recovery
from tests.support.engines import use


@pytest.fixture
def products(request) -> tuple[str, ...]:
    return tuple(use(request, product) for product in recovery.PRODUCTS)


def test_everything_comes_back_from_backups_whenever_the_recovery_is_killed(products):
    report = recovery.drill(tenants=3, kills=3, products=products)
    assert report.clean, report
    assert report.kills >= 1
    assert report.outcomes["restored"] > 0


def test_an_old_catalog_harms_nothing_that_is_newer(products):
    report = recovery.older(tenants=6, products=products)
    assert report.clean, report
    assert report.outcomes["newer"] == 3
