"""Hold the operators' calls: up, ready, counted, and for the right eyes."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

import compose
import web
from tenancy.errors import CatalogNotReadyError
from tests.support.backups import keep_backup
from tests.support.layers import PROJECT
from tests.web.conftest import Caller, account


def test_a_process_that_answers_is_up_whatever_its_databases(make_settings: Any, tmp_path: Path) -> None:
    parts = compose.build(make_settings())
    client = web.create(parts).test_client()
    assert client.get("/healthz").json == {"status": "up"}
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json["status"] == "not_ready"
    parts.manager.prepare_catalog()
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json["status"]) == (200, "ready")
    parts.manager.close()


def test_a_catalog_that_is_not_ready_is_503_to_everybody(make_settings: Any) -> None:
    parts = compose.build(make_settings())
    client = web.create(parts).test_client()
    answer = client.get("/api/v1/tasks", headers={"Authorization": "Bearer unify_x"})
    assert (answer.status_code, answer.json["code"]) == (503, "catalog_not_ready")
    assert "Retry-After" in answer.headers
    with client.session_transaction() as session:
        session["_user_id"] = "x"
    page = client.get("/tasks")
    assert page.status_code == 503
    assert page.headers["X-Request-ID"] in page.text
    parts.manager.close()


def test_metrics_count_requests_engines_and_provisioning(app: Flask, ada: Caller, admin: Caller) -> None:
    ada.get("/api/v1/tasks")
    ada.get("/api/v1/tasks/x")
    ada.get("/api/v1/" + ada.user.email)
    admin.post(f"/admin/user/{ada.user.id}/database/initialize")
    answer = app.test_client().get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    shown = answer.text
    assert 'unify_http_requests_total{endpoint="api.tasks_list",method="GET",status="200"} 1.0' in shown
    assert 'endpoint="none",method="GET",status="404"' in shown
    assert 'unify_engines{what="open"} 1.0' in shown
    assert 'unify_engines{what="evicted"}' in shown
    assert 'unify_provisioning_seconds_count{outcome="done"} 1.0' in shown
    assert 'unify_background_restarts_total{thread="unify-housekeeping"} 0.0' in shown
    assert "@" not in shown
    assert "ada" not in shown


def test_metrics_count_what_befell_the_housekeeping_once_however_often_they_are_read(app: Flask) -> None:
    activity = app.extensions["unify"].activity
    for failures, restarts in ((2, 1), (2, 1), (5, 1)):
        activity.failures, activity.upkeep.restarts = failures, restarts
        shown = app.test_client().get("/metrics").text
        assert f"unify_housekeeping_failures_total {failures}.0" in shown
        assert f'unify_background_restarts_total{{thread="unify-housekeeping"}} {restarts}.0' in shown


def test_whoever_holds_their_share_of_threads_is_told_when_to_come_again_and_counted(
    app: Flask, ada: Caller, bob: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenancy.routing.bulkhead.PATIENCE_S", 0.0)
    manager = app.extensions["unify"].manager
    manager.share_threads(2)
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with manager.session(ada.user.id):
            holding.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(30)
    refused, page, other = ada.get("/api/v1/tasks"), ada.get("/healthz"), bob.get("/api/v1/tasks")
    done.set()
    holder.join()
    assert (refused.status_code, refused.json["code"], refused.headers["Retry-After"]) == (503, "tenant_crowded", "5")
    assert (page.status_code, other.status_code, ada.get("/api/v1/tasks").status_code) == (200, 200, 200)
    assert "unify_requests_refused_total 1.0" in app.test_client().get("/metrics").text


def test_without_a_token_only_this_machine_reads_the_metrics(anonymous: FlaskClient) -> None:
    for address, status in (("127.0.0.1", 200), ("::1", 200), ("10.0.0.7", 403), ("", 403)):
        assert anonymous.get("/metrics", environ_overrides={"REMOTE_ADDR": address}).status_code == status
    assert anonymous.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 403


def test_with_a_token_its_holder_reads_them_from_anywhere(make_parts: Any) -> None:
    client = web.create(make_parts(metrics_token="scrape-me-please")).test_client()
    far = {"REMOTE_ADDR": "10.0.0.7"}
    for header, status in (
        ("Bearer scrape-me-please", 200),
        ("Bearer scrape-me", 401),
        ("Basic scrape-me-please", 401),
        ("Bearer \xe9", 401),
    ):
        answer = client.get("/metrics", headers={"Authorization": header}, environ_overrides=far)
        assert answer.status_code == status
    assert client.get("/metrics").status_code == 401


def test_several_processes_are_added_up(make_parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a child: the package decides when it is first imported."""
    import subprocess
    import sys

    script = (
        "from prometheus_client import CollectorRegistry\n"
        "from web.ops.metrics import Metrics\n"
        "m = Metrics(); m.observe('x', 'GET', 200, 0.1); m.engines.labels('open').set(2)\n"
    )
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PATH": os.environ.get("PATH", ""), "PYTHONPATH": "."}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script], check=True, env=environ, cwd=PROJECT, timeout=60)
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    everywhere = CollectorRegistry()
    MultiProcessCollector(everywhere, path=str(tmp_path))
    assert b'unify_http_requests_total{endpoint="x",method="GET",status="200"} 2.0' in generate_latest(everywhere)


def test_metrics_tell_how_old_backups_are_and_leave_out_what_cannot_be_read(
    app: Flask, parts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = app.test_client()
    ada, bob = account(parts, "ada@example.org"), account(parts, "bob@example.org")
    shown = client.get("/metrics").text
    assert "unify_tenants_without_backup 2.0" in shown
    assert "unify_backup_last_good_age_seconds " not in re.sub("# .*", "", shown), "there is none yet"
    keep_backup(parts.manager, ada.id, hours=1)
    keep_backup(parts.manager, bob.id, hours=50)
    keep_backup(parts.manager, bob.id, state="failed")
    keep_backup(parts.manager, None, hours=2)
    shown = client.get("/metrics").text
    assert "unify_tenants_without_backup 1.0" in shown
    assert "unify_backups_failed 1.0" in shown
    for name, hours in (("unify_backup_last_good_age_seconds", 50), ("unify_catalog_backup_age_seconds", 2)):
        (age,) = re.findall(rf"^{name} (\S+)$", shown, re.MULTILINE)
        assert hours * 3600 <= float(age) < hours * 3600 + 600
    monkeypatch.setattr(parts.manager.reports.backups, "standing", _unready)
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert "unify_engines" in answer.text
    assert "unify_tenants_without_backup" not in answer.text


def _unready() -> None:
    raise CatalogNotReadyError("the catalog cannot be reached: try again.")
