"""Use known secrets everywhere they may be used, then search everything they must not be in.

    python -m tests.acceptance.sweep

Searched: every file under the data folder, the logs at LOG_LEVEL=DEBUG in both formats, the command line of every
process, the environment of every process of the server and of the commands, and all HTTP answers. What the operator
configured stands in the server's own environment and nowhere else; a new key stands in its one answer.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import secrets
import subprocess
import sys
import urllib.parse
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

from bench.served import PROJECT, Served
from tenancy.credentials.keyring import generate_key

UNIFY = (sys.executable, "-m", "utils.cli")
CONFIGURED = ("SECRET_KEY", "SECRET_KEY_FALLBACKS", "AUDIT_KEY", "TENANT_CREDENTIAL_KEYS", "METRICS_TOKEN")
TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


@dataclass
class Report:
    """Say what was searched, and where a secret was found."""

    answers: int = 0
    files: int = 0
    processes: int = 0
    bytes: int = 0
    found: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.found


@dataclass(frozen=True)
class Answer:
    """Keep one HTTP answer, whole; ``shows`` names the secret it alone may hold."""

    where: str
    content: bytes
    shows: str | None = None


class Secrets:
    """Know every secret by name, and find any of them, plain or coded, in bytes."""

    def __init__(self) -> None:
        self._forms: dict[str, frozenset[bytes]] = {}

    def add(self, name: str, value: str) -> None:
        raw = value.encode()
        forms = {
            raw,
            raw.hex().encode(),
            base64.b64encode(raw).rstrip(b"="),
            base64.urlsafe_b64encode(raw).rstrip(b"="),
            value.encode("utf-16-le"),
            urllib.parse.quote_plus(value).encode(),
            json.dumps(value)[1:-1].encode(),
        }
        if name == "TENANT_CREDENTIAL_KEYS":
            forms.add(base64.urlsafe_b64decode(raw))
        self._forms[name] = frozenset(forms)

    def within(self, content: bytes, *, but: tuple[str, ...] = ()) -> Iterator[str]:
        for name, forms in self._forms.items():
            if name not in but and any(form in content for form in forms):
                yield name


class Visitor:
    """Use the application in a browser's way and a program's way, and keep every answer."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.session = requests.Session()
        self.answers: list[Answer] = []

    def ask(
        self, method: str, path: str, *, key: str | None = None, headers: dict[str, str] | None = None, **kwargs: Any
    ) -> requests.Response:
        """Send one request; with a key, without the session's cookie."""
        send = requests.request if key else self.session.request
        headers = ({"Authorization": f"Bearer {key}"} if key else {}) | (headers or {})
        answer = send(method, self.base + path, headers=headers, timeout=30, allow_redirects=False, **kwargs)
        head = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        self.answers.append(Answer(f"{method} {path} -> {answer.status_code}", head.encode() + answer.content))
        return answer

    def shown(self, name: str) -> None:
        """Say that the latest answer is the one that shows this secret."""
        latest = self.answers[-1]
        self.answers[-1] = Answer(latest.where, latest.content, name)

    def form(self, path: str, page: str | None = None, **values: str) -> requests.Response:
        """Post a form, with the token of the page it stands on."""
        found = TOKEN.search(self.ask("GET", page or path).text)
        token = found[1] if found else ""
        return self.ask("POST", path, data=values | {"csrf_token": token})

    def follow(self, answer: requests.Response) -> requests.Response:
        return self.ask("GET", answer.headers["Location"].removeprefix(self.base))

    def csrf(self) -> dict[str, str]:
        """Give the header of a script's write."""
        found = TOKEN.search(self.ask("GET", "/settings").text)
        assert found is not None
        return {"X-CSRFToken": found[1]}


def sweep(log_format: str = "text") -> Report:
    """Use everything once with known secrets, then search everything."""
    known = Secrets()
    fallback, metrics_token = secrets.token_urlsafe(40), secrets.token_urlsafe(24)
    report = Report()
    with Served(
        workers=2,
        log_level="DEBUG",
        log_format=log_format,
        bootstrap_first_admin="true",
        secret_key_fallbacks=fallback,
        tenant_credential_keys=generate_key(),
        metrics_token=metrics_token,
    ) as server:
        for name in CONFIGURED:
            known.add(name, server.environ[name])
        visitor = Visitor(server.port)
        _use_pages(visitor, known)
        keys = _use_api(visitor, known)
        _use_admin_calls(visitor, known, keys, metrics_token)
        _use_commands(server, known, report)
        assert server.process is not None
        _search_processes(server.process.pid, known, report)
        _search_answers(visitor, known, report)
        server.stop()
        if b"DEBUG" not in server.log.read_bytes():
            raise RuntimeError("the server did not log at DEBUG, so its log proves little.")
        search_files(server.folder, known, report)
    return report


def _use_pages(visitor: Visitor, known: Secrets) -> None:
    """Register, fail to, sign in and out, fail to, change the password."""
    password, wrong, fresh = (f"{word} {secrets.token_urlsafe(18)}" for word in ("kestrel", "wrong", "fresh"))
    for name, value in {"password": password, "wrong password": wrong, "new password": fresh}.items():
        known.add(name, value)
    visitor.form("/auth/register", email="no address", password=password, display_name="Root")
    visitor.follow(_expect(visitor.form("/auth/register", email="root@example.org", password=password), 303))
    visitor.ask("GET", "/settings")
    known.add("first session", _session_token(visitor))
    visitor.form("/auth/logout", email="")
    visitor.form("/auth/register", email="root@example.org", password=password)
    visitor.form("/auth/register", email="ada@", password=password)
    visitor.form("/auth/login", email="root@example.org", password=wrong)
    visitor.form("/auth/login", email="nobody@example.org", password=password)
    visitor.follow(_expect(visitor.form("/auth/login", email="root@example.org", password=password), 303))
    visitor.form("/settings/password", "/settings", current_password=wrong, new_password=fresh)
    visitor.form("/settings/password", "/settings", current_password=password, new_password=fresh)
    known.add("session", _session_token(visitor))
    for page in ("/", "/tasks", "/notes", "/events", "/categories", "/settings", "/admin/"):
        visitor.ask("GET", page)


def _use_api(visitor: Visitor, known: Secrets) -> list[str]:
    """Create keys by page and by call, use them, misuse them; return those that work."""
    made = _expect(visitor.form("/settings/keys", "/settings", name="by page"), 201)
    by_page = max(re.findall(r"[A-Za-z0-9_.-]{30,}", made.text.partition("<main")[2]), key=len)
    known.add("key by page", by_page)
    visitor.shown("key by page")
    made = _expect(visitor.ask("POST", "/api/v1/keys", json={"name": "by call"}, headers=visitor.csrf()), 201)
    by_call = made.json()["key"]
    known.add("key by call", by_call)
    visitor.shown("key by call")
    for key in (by_page, by_call):
        _expect(visitor.ask("GET", "/api/v1/me", key=key), 200)
    _expect(visitor.ask("POST", "/api/v1/tasks", key=by_call, json={"title": "water the plants"}), 201)
    visitor.ask("GET", "/api/v1/keys", key=by_call)
    visitor.ask("GET", f"/api/v1/tasks?key={by_call}", key=by_call)
    visitor.ask("GET", "/api/v1/tasks", key=by_call + "x")
    visitor.ask("GET", "/api/v1/tasks", headers={"Authorization": f"Bearer {by_call}"})
    visitor.ask("POST", "/api/v1/tasks", key=by_call, data=f'{{"title": "{by_page}')
    gone = _expect(visitor.ask("POST", "/api/v1/keys", key=by_call, json={"name": "to revoke"}), 201).json()
    known.add("revoked key", gone["key"])
    visitor.shown("revoked key")
    _expect(visitor.ask("DELETE", f"/api/v1/keys/{gone['id']}", key=by_call), 204)
    _expect(visitor.ask("GET", "/api/v1/me", key=gone["key"]), 401)
    return [by_page, by_call]


def _use_admin_calls(visitor: Visitor, known: Secrets, keys: list[str], metrics_token: str) -> None:
    """Ask for databases, and try to configure one with a password of its own."""
    db_password = f"db-{secrets.token_urlsafe(20)}"
    known.add("database password", db_password)
    for path in ("/admin/user/1/database/info", "/admin/databases", "/admin/databases/stats"):
        _expect(visitor.ask("GET", path, key=keys[0]), 200)
    for fields in (
        {"db_password": db_password},
        {"db_type": "postgresql", "db_host": "127.0.0.1", "db_user": "u", "db_password": db_password},
        {"db_type": "sqlite", "db_path": db_password, "db_password": db_password},
        {"db_port": db_password},
        {},
    ):
        visitor.ask("POST", "/admin/user/1/database/initialize", key=keys[0], json=fields)
    for path in ("/healthz", "/readyz", "/metrics", "/api/v1/openapi.json", "/nowhere"):
        visitor.ask("GET", path)
    _expect(visitor.ask("GET", "/metrics", key=metrics_token), 200)


def _use_commands(server: Served, known: Secrets, report: Report) -> None:
    """Run the commands that touch secrets; what they say is searched like an answer."""
    password = f"typed {secrets.token_urlsafe(18)}"
    known.add("typed password", password)
    created = ("users", "create", "--email", "ada@example.org", "--password-stdin")
    output = _command(server, created, report, known, stdin=password + "\n")
    key = _command(server, ("keys", "create", "--user", "ada@example.org"), report, known)
    known.add("key by command", key.strip().splitlines()[-1])
    output += _command(server, ("keys", "create", "--user", "ada@example.org", "--expires", "0"), report, known)
    for words in (
        ("keys", "list", "--user", "ada@example.org"),
        ("users", "list"),
        ("credentials", "status"),
        ("credentials", "rotate"),
        ("db", "info", "2"),
        ("db", "test", "2"),
        ("db", "list"),
        ("db", "stats"),
        ("audit", "verify"),
        ("--help",),
    ):
        output += _command(server, words, report, known)
    _note(report, "output of the commands", output.encode(), known)


def _command(server: Served, words: tuple[str, ...], report: Report, known: Secrets, stdin: str = "") -> str:
    """Run one command, looking at its processes while it runs; give all it says."""
    process = subprocess.Popen(
        [*UNIFY, *words],
        cwd=PROJECT,
        env=dict(os.environ) | server.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    _search_processes(process.pid, known, report)
    said, _ = process.communicate(stdin, timeout=60)
    return said


def _search_processes(root: int, known: Secrets, report: Report) -> None:
    """Search every command line there is, and the environment of ``root`` and all it started.

    What was configured stands in the environments of the server's own processes: they run the same program.
    """
    for process in psutil.process_iter():
        line = _of_process(process.pid, "cmdline")
        report.processes += 1
        _note(report, f"command line of process {process.pid}", line, known)
    try:
        started = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    except psutil.NoSuchProcess:
        started = []
    program = os.path.realpath(sys.executable)
    for process in started:
        own = _executable(process.pid) == program
        _note(report, f"environment of {process.pid}", _of_process(process.pid, "environ"), known, own=own)


def _of_process(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended, or is somebody else's
        return b""


def _executable(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:  # it has ended
        return ""


def _search_answers(visitor: Visitor, known: Secrets, report: Report) -> None:
    for answer in visitor.answers:
        report.answers += 1
        report.bytes += len(answer.content)
        but = (answer.shows,) if answer.shows else ()
        # A browser's cookie holds its session, signed: that is where a session belongs.
        for name in known.within(answer.content, but=(*but, "session", "first session")):
            report.found.append(f"{name} in the answer to {answer.where}")


def search_files(folder: Path, known: Secrets, report: Report) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            report.files += 1
            _note(report, f"file {path.relative_to(folder)}", path.read_bytes(), known)


def _note(report: Report, where: str, content: bytes, known: Secrets, *, own: bool = False) -> None:
    report.bytes += len(content)
    report.found += [f"{name} in {where}" for name in known.within(content, but=CONFIGURED if own else ())]


def _expect(answer: requests.Response, status: int) -> requests.Response:
    if answer.status_code != status:
        raise RuntimeError(
            f"{answer.request.method} {answer.request.path_url} was answered {answer.status_code}, not {status}:\n"
            f"{answer.text[:500]}"
        )
    return answer


def _session_token(visitor: Visitor) -> str:
    """Read the token out of the signed cookie; Flask's cookie is readable to whoever has it."""
    held = next(each.value for each in visitor.session.cookies if each.name.startswith("unify_session_"))
    payload = (held or "").split(".")
    compressed = payload[0] == ""
    raw = payload[1] if compressed else payload[0]
    content = base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4))
    if compressed:
        content = zlib.decompress(content)
    token: str = json.loads(content)["_user_id"]
    return token


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.sweep", description=__doc__)
    parser.parse_args()
    reports = {form: sweep(form) for form in ("text", "json")}
    sys.stdout.write(json.dumps({form: asdict(report) for form, report in reports.items()}, indent=2) + "\n")
    return 0 if all(report.clean for report in reports.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
