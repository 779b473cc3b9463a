"""Count requests, engines, provisioning and background work for Prometheus; no label ever names a person.

With PROMETHEUS_MULTIPROC_DIR set (``unify serve`` sets it) the metrics of all worker processes are summed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from flask import Flask, Response, current_app, request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

import logs
from web.ops.backup_metrics import BackupMetrics
from web.parts import current_parts

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
REFRESH_EVERY_S = 5.0


class Metrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "unify_http_requests_total", "Requests answered.", ["endpoint", "method", "status"], registry=self.registry
        )
        self.latency = Histogram(
            "unify_http_request_seconds", "Time until the answer was ready.", ["endpoint"], registry=self.registry
        )
        self.engines = Gauge(
            "unify_engines",
            "Engines and connections this application holds; evicted counts since the start.",
            ["what"],
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.provisioning = Histogram(
            "unify_provisioning_seconds", "Time to provision a database.", ["outcome"], registry=self.registry
        )
        self.restarts = Counter(
            "unify_background_restarts_total",
            "Background threads that ended by themselves and were started again.",
            ["thread"],
            registry=self.registry,
        )
        self.failures = Counter(
            "unify_housekeeping_failures_total",
            "Rounds of the housekeeping that failed; the log says why.",
            registry=self.registry,
        )
        self.refused = Counter(
            "unify_requests_refused_total",
            "Units of work refused at once, because their user's database hangs and holds its share of threads.",
            registry=self.registry,
        )
        self.jobs = Gauge(
            "unify_jobs",
            "Jobs that are due, running or failed, when the metrics were last read.",
            ["state"],
            registry=self.registry,
            multiprocess_mode="mostrecent",
        )
        self.job_workers = Gauge(
            "unify_job_workers",
            "Processes that take jobs, when the metrics were last read.",
            registry=self.registry,
            multiprocess_mode="mostrecent",
        )
        self._lock = threading.Lock()
        self._told: dict[Counter, int] = {}
        self._counted: dict[tuple[str, str, int], Counter] = {}
        self._timed: dict[str, Histogram] = {}
        self._due = 0.0

    def observe(self, endpoint: str, method: str, status: int, elapsed_s: float) -> None:
        """Count one response. The labelled counters are cached: looking them up by label costs more than counting."""
        kind = (endpoint, method, status)
        counter = self._counted.get(kind)
        if counter is None:
            # The clock first: another thread that finds the counter relies on it.
            self._timed.setdefault(endpoint, self.latency.labels(endpoint))
            counter = self._counted[kind] = self.requests.labels(endpoint, method, str(status))
        counter.inc()
        self._timed[endpoint].observe(elapsed_s)

    def refresh(self, *, now: float | None = None) -> None:
        """Copy the counts of the parts into metrics every few seconds, as another process may serve /metrics."""
        moment = time.monotonic() if now is None else now
        if moment < self._due:
            return
        self._due = moment + REFRESH_EVERY_S
        parts = current_parts()
        for what, number in parts.manager.engines.stats().items():
            self.engines.labels(what).set(number)
        with self._lock:
            for upkeep in (parts.activity.upkeep, parts.manager.pool.upkeep):
                self._catch_up(self.restarts.labels(upkeep.name), upkeep.restarts)
            self._catch_up(self.refused, parts.manager.router.bulkhead.refused)
            self._catch_up(self.failures, parts.activity.failures)

    def _ask_catalog(self) -> None:
        """Read what no process knows by itself; where the catalog cannot be read, the last figures stay."""
        found = current_parts().manager.reports.jobs()
        if found is not None:
            self.job_workers.set(len(found["workers"]))
            for state, number in found["jobs"].items():
                self.jobs.labels(state).set(number)

    def _catch_up(self, counter: Counter, total: int) -> None:
        """Increase a counter to what a part has counted since the start."""
        counter.inc(total - self._told.get(counter, 0))
        self._told[counter] = total

    def exposition(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        self._due = 0.0
        self.refresh()
        self._ask_catalog()
        whole = CollectorRegistry()
        whole.register(BackupMetrics(current_parts().manager.reports.backups))
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry) + generate_latest(whole)
        MultiProcessCollector(whole)  # type: ignore[no-untyped-call]  # the package leaves it untyped
        return generate_latest(whole)


def init_app(app: Flask) -> None:
    """Count every response of the application."""
    app.extensions["unify-metrics"] = Metrics()
    app.after_request(_observe)


def current_metrics() -> Metrics:
    """Return the metrics of the application that handles this request."""
    return cast("Metrics", current_app.extensions["unify-metrics"])


@contextmanager
def provisioning() -> Iterator[None]:
    """Time the provisioning of a database, and count whether it succeeded."""
    started, outcome = time.perf_counter(), "failed"
    try:
        yield
        outcome = "done"
    finally:
        current_metrics().provisioning.labels(outcome).observe(time.perf_counter() - started)


def _observe(response: Response) -> Response:
    metrics = current_metrics()
    method = request.method if request.method in METHODS else "OTHER"
    metrics.observe(request.endpoint or "none", method, response.status_code, logs.elapsed_s())
    metrics.refresh()
    return response
