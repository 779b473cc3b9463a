"""Tell Prometheus how old backups are, read from the catalog whenever somebody asks for the metrics.

These figures are of the whole installation and not of a process, so they are not summed over the workers as others are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tenancy.errors import TenancyError
from tenancy.monitoring.backups import BackupReports

log = logging.getLogger("web")


class BackupMetrics(Collector):
    """Collect the ages of the last good backups; without a catalog there are none."""

    def __init__(self, reports: BackupReports) -> None:
        self._reports = reports

    def collect(self) -> Iterator[Metric]:
        """Yield one gauge each; what does not exist has no sample."""
        try:
            found = self._reports.standing()
        except TenancyError as error:
            log.warning("the metrics of backups are left out: %s", error.message)
            return
        yield _gauge(
            "unify_tenants_without_backup",
            f"Databases without a good backup in the last {found['warn_hours']} hours (BACKUP_WARN_HOURS).",
            [found["late"]],
        )
        yield _gauge(
            "unify_backup_last_good_age_seconds",
            "Age of the last good backup of the database whose last good backup is the oldest.",
            _age(found["oldest_at"]),
        )
        yield _gauge(
            "unify_catalog_backup_age_seconds", "Age of the last good backup of the catalog.", _age(found["catalog_at"])
        )
        yield _gauge(
            "unify_backups_failed",
            f"Backups that failed in the last {found['warn_hours']} hours.",
            [found["failed"]],
        )


def _gauge(name: str, meaning: str, values: Iterable[float]) -> Metric:
    family = GaugeMetricFamily(name, meaning)
    for value in values:
        family.add_metric([], value)
    return family


def _age(at: datetime | None) -> list[float]:
    return [] if at is None else [max(0.0, (datetime.now(UTC) - at).total_seconds())]
