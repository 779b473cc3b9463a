"""Freeze a tenant's server at each message of one short operation: ``frozen.py`` does it to all, on any catalog."""

from __future__ import annotations

from tests.acceptance.frozen import freeze
from tests.support.engines import use


def test_people_can_sign_up_wherever_a_tenants_server_stops_answering_a_suspend(request):
    """SQLite has one lock for all that write: what waits for a server while it holds that stops everybody."""
    use(request, "postgresql")
    report = freeze("sqlite", "postgresql", "suspend", enough=1)
    assert (report.held_at, report.refused) == ([], {}), report
    assert report.messages > 5, report
