"""Start the app as developers do: ``python app.py`` and ``flask run``, each in a process of its own."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from contextlib import closing

import pytest

from settings import PROJECT

WAYS = {
    "python app.py": ["app.py"],
    "flask run": ["-m", "flask", "--app", "app", "run", "--port", "{port}"],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_wrong_setting_is_one_line(process_environ, way):
    words = [word.format(port=1) for word in WAYS[way]]
    environ = process_environ(multi_tenant_mode="maybe")
    ended = subprocess.run([sys.executable, *words], env=environ, cwd=PROJECT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr == "Error: MULTI_TENANT_MODE must be true or false, not 'maybe'.\n"


@pytest.mark.parametrize("way", WAYS)
def test_it_says_what_it_lacks_who_administers_and_what_was_misspelt(process_environ, tmp_path, way):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    environ = process_environ(bootstrap_first_admin="true", port=port) | {"FLASK_DEBUG": "1", "TRUSTED_HOST": "x"}
    environ |= {"WERKZEUG_DEBUG_PIN": "off"}
    subprocess.run(
        [sys.executable, "-m", "utils.cli", "db", "create-config-table"], env=environ, cwd=PROJECT, check=True
    )
    log = tmp_path / "log"
    words = [word.format(port=port) for word in WAYS[way]] + (["--no-debug"] if way == "flask run" else [])
    with log.open("wb") as lines:
        server = subprocess.Popen([sys.executable, *words], env=environ, cwd=PROJECT, stdout=lines, stderr=lines)
    try:
        console = ask(port, "/?__debugger__=yes&cmd=resource&f=debugger.js", server)
        told = log.read_text()
    finally:
        server.kill()
        server.wait()
    assert "unify serve" in told.splitlines()[1]
    assert "bootstrap token" in told
    assert "(is TRUSTED_HOSTS meant?)" in told
    assert not [character for character in told if not character.isprintable() and character != "\n"]
    assert b"console" not in console.lower()


@pytest.mark.parametrize("configured", [True, False], ids=["with the configuration", "without"])
def test_gunicorn_without_the_configuration_is_warned_of_in_one_line(process_environ, tmp_path, configured):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    environ = process_environ(port=port, web_concurrency=1) | {"PYTHONPATH": str(PROJECT)}
    words = ["-m", "gunicorn", "-b", f"127.0.0.1:{port}", "app:create_app()"]
    if configured:
        words += ["-c", str(PROJECT / "gunicorn.conf.py")]
    log = tmp_path / "log"
    with log.open("wb") as lines:
        server = subprocess.Popen([sys.executable, *words], env=environ, cwd=tmp_path, stdout=lines, stderr=lines)
    try:
        ask(port, "/healthz", server)
    finally:
        server.terminate()
        server.wait()
    warned = [line for line in log.read_text().splitlines() if "unify serve" in line]
    assert len(warned) == (0 if configured else 1)
    assert configured or f"-c {PROJECT / 'gunicorn.conf.py'}" in warned[0]


def ask(port: int, path: str, server: subprocess.Popen[bytes]) -> bytes:
    end = time.monotonic() + 60
    while True:
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
                connection.request("GET", path)
                return connection.getresponse().read()
        except OSError:
            assert server.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
