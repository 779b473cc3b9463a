"""Let one user's database hang for a moment under a served application."""

from __future__ import annotations

from tests.acceptance.hung import Load, hung
from tests.support.engines import use


def test_others_are_served_beside_a_user_whose_database_hangs(request):
    use(request, "postgresql")
    report = hung(Load(workers=1, tenants=4, clients=4, own=16, slow=50, seconds=1.5))
    assert report.without.errors == report.beside.errors == 0, report
    assert report.beside.requests > 0, report
    assert "tenant_crowded" in report.own, report
    assert "answered" not in report.own, report
    assert (report.unannounced, report.after) == (0, 200), report
