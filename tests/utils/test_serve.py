"""Start the server as `make run` does, and look at it from outside."""

from __future__ import annotations

import gc
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import requests

import compose
from utils import serve

PROJECT = Path(__file__).resolve().parents[2]
UNIFY = [sys.executable, str(PROJECT / "utils" / "setup_user_database.py")]
START_S = 30.0


class Server(subprocess.Popen[bytes]):
    """Run `unify serve`, its lines in ``log``."""

    def __init__(self, words, environ, cwd, log):
        self.log = log
        with log.open("wb") as lines:
            super().__init__([*UNIFY, "serve", *words], env=environ, cwd=cwd, stdout=lines, stderr=subprocess.STDOUT)


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@pytest.fixture
def start(environ, elsewhere, port, tmp_path, shell):
    """Start `unify serve` on a free port and wait for its first answer."""
    assert shell("db", "create-config-table").returncode == 0
    started: list[Server] = []

    def run(*words, **changes):
        changed = environ | {"PORT": str(port), "WEB_CONCURRENCY": "2", "TMPDIR": str(tmp_path)} | changes
        server = Server(words, changed, elsewhere, tmp_path / f"log{len(started)}")
        started.append(server)
        wait_for(lambda: answers(port) or server.poll() is not None, server.log)
        assert server.poll() is None, server.log.read_text()
        return server

    yield run
    for process in started:
        process.kill()
        process.wait()


def ask(port, path="/healthz", headers=None, **how):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {}, **how)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read()
    finally:
        connection.close()


def answers(port):
    try:
        return ask(port)[0] == 200
    except OSError:
        return False


def wait_for(met, log=None):
    end = time.monotonic() + START_S
    while not met():
        assert time.monotonic() < end, log.read_text() if log else "waited too long"
        time.sleep(0.02)


def test_it_serves_and_ends_on_sigterm(start, port, tmp_path):
    server = start()
    assert ask(port)[0] == 200
    wait_for(lambda: len(psutil.Process(server.pid).children()) == 2)
    workers = psutil.Process(server.pid).children()
    assert list(tmp_path.glob(f"{serve.METRICS_PREFIX}*"))
    server.send_signal(signal.SIGTERM)
    assert server.wait(START_S) == 0
    assert not any(worker.is_running() for worker in workers)
    assert not list(tmp_path.glob(f"{serve.METRICS_PREFIX}*"))
    assert "Traceback" not in server.log.read_text()


def test_a_server_that_stops_writes_who_was_seen_and_tidies_the_databases_away(start, port, tmp_path, shell):
    server = start()
    assert shell("users", "create", "--email", "a@example.org").returncode == 0
    key = shell("keys", "create", "--user", "1").stdout.strip()
    answered = ask(port, "/api/v1/tasks", {"Authorization": f"Bearer {key}"})
    assert answered[0] == 200
    server.send_signal(signal.SIGTERM)
    assert server.wait(START_S) == 0
    assert json.loads(shell("db", "info", "1", "--json").stdout)["last_used_at"] is not None
    assert not (tmp_path / "users" / "user_1.db-wal").exists()


def test_a_killed_server_leaves_no_worker_and_starts_again_at_once(start, port, tmp_path):
    server = start()
    workers = psutil.Process(server.pid).children()
    server.kill()
    server.wait()
    psutil.wait_procs(workers, timeout=5)
    assert not any(worker.is_running() for worker in workers)
    start()
    assert ask(port)[0] == 200
    # What the killed one left behind is gone.
    assert len(list(tmp_path.glob(f"{serve.METRICS_PREFIX}*"))) == 1


def test_the_app_itself_answers_what_is_too_long(start, port):
    start()
    long_url = ask(port, "/api/v1/tasks?limit=" + "1" * 5000)
    assert (long_url[0], long_url[1]) == (414, "application/problem+json")
    long_header = ask(port, "/api/v1/tasks", {"X-Long": "x" * 33_000})
    assert (long_header[0], long_header[1]) == (431, "application/problem+json")
    assert ask(port, "/" + "x" * 10_000)[0] == 414


def test_metrics_add_up_all_workers(start, port):
    start()
    for _ in range(20):
        ask(port)
    text = ask(port, "/metrics")[2].decode()
    counted = [line for line in text.splitlines() if line.startswith("unify_http_requests_total") and "healthz" in line]
    assert sum(float(line.rpartition(" ")[2]) for line in counted) >= 20


def test_it_prints_how_to_become_the_first_administrator_and_later_no_more(start, port, shell):
    server = start()
    told = server.log.read_text()
    assert f"http://127.0.0.1:{port}/auth/register" in told
    assert "bootstrap token" in told
    server.send_signal(signal.SIGTERM)
    server.wait(START_S)
    assert shell("users", "create", "--email", "a@example.org").returncode == 0
    assert "bootstrap token" not in start().log.read_text()


def test_every_worker_takes_the_token_that_was_printed(start, port):
    server = start(WEB_CONCURRENCY="3")
    token = server.log.read_text().partition("in the form: ")[2].split()[0]
    # A forwarding header of nobody we trust: the request may come from anywhere, so only the token counts.
    browser = requests.Session()
    browser.headers["X-Forwarded-For"] = "203.0.113.9"
    page = browser.get(f"http://127.0.0.1:{port}/auth/register", timeout=10).text
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert found is not None
    form = {"csrf_token": found[1], "email": "a@example.org", "password": "long enough password"}
    answer = browser.post(f"http://127.0.0.1:{port}/auth/register", form | {"bootstrap_token": token}, timeout=10)
    assert answer.status_code == 200
    assert browser.get(f"http://127.0.0.1:{port}/api/v1/me", timeout=10).json()["is_admin"] is True


def test_json_logs_are_json_from_the_first_line(start):
    server = start(BOOTSTRAP_FIRST_ADMIN="false", LOG_FORMAT="json")
    server.send_signal(signal.SIGTERM)
    server.wait(START_S)
    lines = server.log.read_text().splitlines()
    assert any("Listening at" in json.loads(line)["message"] for line in lines)


def test_workers_leave_what_was_loaded_before_them_to_the_collector_of_their_parent(make_parts, monkeypatch):
    """Else a full collection writes to all of it, and 30 MiB that workers share become each one's own (P8w)."""
    monkeypatch.delenv(serve.METRICS_VARIABLE, raising=False)  # with one process no folder for metrics is made
    ready = serve.Deployment(make_parts(web_concurrency="1").settings).options()["when_ready"]
    try:
        ready(None)
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()


def test_without_preloading_it_serves_the_same(start, port):
    start("--no-preload")
    assert ask(port, "/readyz")[0] == 200


def test_an_address_in_use_is_told_in_one_line(shell, port):
    assert shell("db", "create-config-table").returncode == 0
    with socket.create_server(("127.0.0.1", port)):
        refused = shell("serve", PORT=str(port))
    assert refused.returncode == 1
    assert f"PORT {port}" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_an_address_of_another_machine_is_told_as_that(shell):
    assert shell("db", "create-config-table").returncode == 0
    refused = shell("serve", HOST="203.0.113.9")
    assert refused.returncode == 1
    assert "HOST must be an address of this machine" in refused.stderr


def test_a_server_for_other_machines_says_that_their_names_are_missing(make_parts):
    for host, trusted, told in (
        ("0.0.0.0", "localhost,127.0.0.1,[::1]", True),
        ("0.0.0.0", "localhost,unify.example.org", False),
        ("127.0.0.1", "localhost", False),
        ("::1", "[::1]", False),
    ):
        said = compose.first_steps(make_parts(host=host, trusted_hosts=trusted))
        assert (compose.OTHERS_REFUSED in said) is told, (host, trusted)


def test_a_catalog_that_is_not_migrated_is_told_with_what_to_type(shell, port, tmp_path):
    refused = shell("serve", PORT=str(port))
    assert refused.returncode == 1
    assert "unify db create-config-table" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_an_operators_metrics_folder_keeps_its_files(start, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "counter_1.db").write_text("theirs")
    server = start(PROMETHEUS_MULTIPROC_DIR=str(theirs), WEB_CONCURRENCY="1")
    server.send_signal(signal.SIGTERM)
    server.wait(START_S)
    assert [path.name for path in theirs.iterdir()] == ["counter_1.db"]


def test_folders_of_servers_that_run_are_left_alone(tmp_path):
    running, gone = (tmp_path / f"{serve.METRICS_PREFIX}{pid}-x" for pid in (os.getpid(), ended_pid()))
    running.mkdir()
    gone.mkdir()
    serve._sweep(tmp_path)
    assert running.exists()
    assert not gone.exists()


def ended_pid():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def job_workers(server):
    """Give the processes beside the web workers that run jobs."""
    return [process for process in psutil.Process(server.pid).children() if "worker" in words_of(process)]


def words_of(process):
    """Give the words that started a process; of one that has ended, none are left."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def workers_known(shell):
    return [worker["pid"] for worker in json.loads(shell("jobs", "list", "--json").stdout)["workers"]]


@pytest.fixture
def with_jobs(start, shell):
    """Give a server that keeps a worker, once that has said that it lives."""
    server = start(JOB_WORKER="true")
    wait_for(lambda: workers_known(shell), server.log)
    return server


def test_one_worker_of_jobs_runs_beside_the_web_workers_and_ends_with_them(with_jobs, shell):
    (worker,) = job_workers(with_jobs)
    assert workers_known(shell) == [worker.pid]
    with_jobs.send_signal(signal.SIGTERM)
    assert with_jobs.wait(START_S) == 0
    assert not worker.is_running()
    assert workers_known(shell) == []
    assert "Traceback" not in with_jobs.log.read_text()


def test_without_job_worker_none_runs_and_the_command_says_so(start, shell):
    server = start(JOB_WORKER="false")
    assert job_workers(server) == []
    assert "No worker takes jobs" in shell("jobs", "list").stderr


def test_a_worker_of_jobs_that_is_killed_is_started_again(with_jobs, port):
    (worker,) = job_workers(with_jobs)
    worker.kill()
    wait_for(lambda: [each.pid for each in job_workers(with_jobs)] not in ([], [worker.pid]), with_jobs.log)
    assert len(job_workers(with_jobs)) == 1
    assert "it is started again" in with_jobs.log.read_text()
    assert ask(port)[0] == 200


def test_a_killed_server_leaves_no_worker_of_jobs(with_jobs):
    workers = job_workers(with_jobs)
    with_jobs.kill()
    with_jobs.wait()
    psutil.wait_procs(workers, timeout=START_S)
    assert not any(worker.is_running() for worker in workers)


def test_a_reloaded_server_has_one_worker_of_jobs_and_another_one(with_jobs, port):
    (before,) = job_workers(with_jobs)
    with_jobs.send_signal(signal.SIGHUP)
    wait_for(lambda: not before.is_running() and len(job_workers(with_jobs)) == 1, with_jobs.log)
    assert ask(port)[0] == 200
