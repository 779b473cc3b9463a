"""Run the soak for a few seconds: on the application as it is, and on a build whose guards were taken out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.acceptance.soak import Load, soak
from tests.support.engines import use

SHORT = Load(workers=2, tenants=20, clients=8, seconds=4, cache=4, hangups=5)


def test_nobody_sees_foreign_rows_and_no_acknowledged_write_is_lost():
    report = soak(SHORT)
    assert report.clean, report
    assert report.acknowledged_writes > 20
    assert report.hangups > 0


def test_users_on_several_products_at_once_see_nothing_of_each_other(request):
    types = [use(request, engine) for engine in ("sqlite", "postgresql", "mysql")]
    report = soak(replace(SHORT, tenants=12, types=",".join(types)))
    assert report.clean, report
    assert report.acknowledged_writes > 20


@pytest.mark.parametrize("build", ["no-guards", "no-guards-files"])
def test_the_same_checker_sees_foreign_rows_in_a_build_without_guards(build):
    report = soak(replace(SHORT, seconds=2, hangups=0), mutant=build)
    assert report.foreign_rows > 0


@pytest.mark.parametrize("build", ["no-owner-filter", "no-identity-check"])
def test_one_guard_alone_still_keeps_foreign_rows_away(build):
    """Engines are mixed up in these builds as well: answers may fail, and show nothing of anybody else's."""
    report = soak(replace(SHORT, seconds=2, hangups=0), mutant=build)
    assert report.foreign_rows == 0, report
