"""Send nonsense in every header and form field that is read: whatever a client sends is its own mistake, never ours."""

from __future__ import annotations

import random
import re
from itertools import cycle, product
from pathlib import Path
from typing import Any

from flask import Flask

import web
from tests.web.conftest import Browser, account, browser_of, make_admin

SOURCES = [path.read_text() for path in Path(web.__file__).parent.rglob("*") if path.suffix in (".py", ".html", ".js")]

READ_BY_LIBRARIES = re.findall(
    r"\S+",
    """
    Accept Accept-Charset Accept-Encoding Accept-Language Authorization Cache-Control Connection Content-Encoding
    Content-Length Content-MD5 Content-Type Cookie Date Expect Forwarded Host If-Match If-Modified-Since If-None-Match
    If-Range If-Unmodified-Since Max-Forwards Origin Pragma Range Referer Transfer-Encoding User-Agent
    X-Forwarded-Host X-Forwarded-Port X-Forwarded-Prefix X-Forwarded-Proto X-Real-Ip X-Request-ID
    """,
)

NONSENSE = [
    "",
    " ",
    "\xff\xfe",
    "\xc3\x28",
    "é",
    "a" * 3000,
    "http://[",
    "http://[::1",
    "http://a:b/?[",
    "//evil.example",
    "/\\",
    "%",
    "%00",
    "%ff%fe",
    "*",
    '"',
    'W/"',
    "-1",
    "9" * 30,
    "nan",
    "1e999",
    "bytes=9-1",
    "bytes=-,-",
    "Bearer",
    "Basic \xff",
    "Digest a=",
    "application/json; charset=\xff",
    "multipart/form-data",
    "multipart/form-data; boundary=\xff",
    "text/html;q=x,*/*;q=",
    "unify_session=\xff; =; a",
    'for="[::1"',
    "0000-00-00",
    "9999-12-31T23:59:60",
    "Mon, 99 Foo 0000 99:99:99 GMT",
    "{'a':",
    "null",
]
WRITTEN = [*NONSENSE, "\x00", "\ud800", "\u202e", "a\r\nb: c", "0001-01-01", "9999-12-31", "99:99", "=cmd", "🎉" * 300]
LEADS_AWAY = {"auth.logout", "settings.sessions_end"}
HASHES = {"auth.login", "auth.register", "settings.password"}


def headers_read() -> list[str]:
    """Give the names of the headers that our code asks for, and of those that the libraries below it do."""
    named = {
        name for text in SOURCES for name in re.findall(r'headers\.get\("([A-Za-z-]+)"|"([A-Za-z-]+)" in asked', text)
    }
    keyed = {name for text in SOURCES for name in re.findall(r'"HTTP_([A-Z_]+)"', text)}
    ours = {one or other for one, other in named} | {name.replace("_", "-").title() for name in keyed}
    assert {"HX-Current-URL", "Sec-Fetch-Site", "HX-Request"} <= ours
    return sorted(ours | set(READ_BY_LIBRARIES))


def fields_read() -> list[str]:
    """Give the names of the fields that forms have."""
    found = {name for text in SOURCES for name in re.findall(r'\bname="([a-z_:.-]+)"|Field\(\s*"([a-z_]+)"', text)}
    found |= {
        (name, "") for text in SOURCES for name in re.findall(r'(?:form|values|args)(?:\.get\(|\[)"([a-z_:.-]+)"', text)
    }
    names = {one or other for one, other in found} - {"csrf_token"}
    assert {"title", "due_date", "next", "version", "kept-address"} <= names
    return sorted(names)


class Sender:
    """Count what is sent, and keep what came back as a failure of ours."""

    def __init__(self) -> None:
        self.sent = 0
        self.failed: list[tuple[Any, ...]] = []

    def send(self, browser: Browser, method: str, path: str, **how: Any) -> None:
        answer = browser.client.open(path, method=method, **how)
        answer.close()
        self.sent += 1
        # 503 and 502 say that a database is not ready, which an administrator's own is not, having none.
        if answer.status_code >= 500 and answer.status_code not in (502, 503):
            self.failed.append((answer.status_code, method, path, how))


def environ(name: str, value: str) -> dict[str, str]:
    key = name.upper().replace("-", "_")
    return {key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}": value}


def test_no_header_makes_a_failure_of_ours(make_parts: Any) -> None:
    parts = make_parts(trusted_proxy_count=1)
    app = web.create(parts)
    user = account(parts, "ada@example.org")
    browser = browser_of(app, user)
    task = browser.post("/api/v1/tasks", json={"title": "One"}).json["id"]
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/tasks", {}),
        ("GET", f"/tasks/{task}/row", {}),
        ("GET", f"/api/v1/tasks/{task}", {}),
        ("POST", f"/tasks/{task}/done", {"data": {"csrf_token": browser.csrf, "done": "1"}}),
        ("GET", "/static/unify.css", {}),
        ("PATCH", f"/api/v1/tasks/{task}", {"json": {"title": "Two"}, "headers": {"X-CSRFToken": browser.csrf}}),
        ("POST", "/nothing", {"data": b"x"}),
    ]
    asked = cycle(calls)
    sender = Sender()
    for name in headers_read():
        for value in NONSENSE:
            method, path, how = next(asked)
            sender.send(browser, method, path, environ_overrides=environ(name, value), **how)
    together = [name for name in headers_read() if name.startswith(("HX-", "Sec-", "If-None", "X-Request"))]
    for (method, path, how), value in product(calls, NONSENSE):
        headers = {key: text for name in together for key, text in environ(name, value).items()}
        sender.send(browser, method, path, environ_overrides=headers, **how)
    assert sender.failed == []
    assert sender.sent > 1500


def test_no_field_makes_a_failure_of_ours(app: Flask, first: Any, parts: Any) -> None:
    chance = random.Random(20261129)
    owner, admin = browser_of(app, first), browser_of(app, make_admin(parts))
    row = owner.post("/api/v1/tasks", json={"title": "One"}).json["id"]
    fields, sender = fields_read(), Sender()
    known = {"row_id": row, "user_id": first.id, "key_id": row, "run_id": 1, "batch": row}
    for rule in sorted(app.url_map.iter_rules(), key=str):
        if (
            "POST" not in (rule.methods or ())
            or rule.endpoint.startswith("api.")
            or rule.endpoint in LEADS_AWAY | HASHES
        ):
            continue
        browser = admin if rule.rule.startswith("/admin") else owner
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(known.get(found[1], "x")), rule.rule)
        for _ in range(6):
            data = {field: chance.choice(WRITTEN).encode("utf-8", "surrogatepass") for field in fields}
            sender.send(browser, "POST", path, data=data | {"csrf_token": browser.csrf})
            sender.send(browser, "GET", path, query_string={field: chance.choice(NONSENSE) for field in fields[:40]})
    assert sender.failed == []
    assert sender.sent > 500
