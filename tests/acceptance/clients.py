"""Read and write over HTTP as many clients at once, and remember what was acknowledged.

Every row's text names its owner, so that a row of somebody else is recognised wherever it turns up.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
import threading
import time
import uuid
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

OWNER = re.compile(r"owner-(\d+)-")
TIMEOUT_S = 30.0


@dataclass
class Seen:
    """Gather what all clients saw; locked, because they report at once."""

    statuses: Counter[int] = field(default_factory=Counter)
    foreign: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """What the server said with each 5xx."""
    failed_at: list[float] = field(default_factory=list)
    """When each of them came, by the clients' clock."""
    broken: Counter[str] = field(default_factory=Counter)
    hangups: int = 0
    slowest_s: float = 0.0
    unannounced: int = 0
    """How many answers 503 did not say when to come again."""
    written: dict[int, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """Acknowledged rows by user id: row id -> title."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, status: int, what: str, body: bytes, *, took_s: float, retry_after: str | None) -> None:
        with self.lock:
            self.statuses[status] += 1
            self.slowest_s = max(self.slowest_s, took_s)
            self.unannounced += status == 503 and retry_after is None
            if status >= 500:
                self.failed_at.append(time.monotonic())
                self.failures.append(f"{what} was answered {status}: {body[:300]!r}")

    def acknowledged(self, user_id: int, row_id: str, title: str) -> None:
        with self.lock:
            self.written[user_id][row_id] = title

    def rows(self, user_id: int, rows: list[dict[str, Any]]) -> None:
        """Look at rows that a user was shown: whose are they, and are they whole?"""
        for row in rows:
            found = OWNER.match(row["title"])
            if found is None or int(found[1]) != user_id:
                with self.lock:
                    self.foreign.append(f"user {user_id} was shown {row['title']!r}")
            elif row["description"] != described(row["title"]):
                with self.lock:
                    self.torn.append(f"user {user_id}: {row['title']!r} has another row's description")


def described(title: str) -> str:
    """Give the long text that belongs to a title: one that does not match was torn."""
    return f"{title}: " + "all of this or none of it. " * 20


@dataclass(frozen=True)
class Person:
    """Say who a client asks for."""

    id: int
    key: str


class Client:
    """Ask one server for many people, on one kept connection."""

    def __init__(self, port: int, seen: Seen, seed: int) -> None:
        self.port = port
        self.seen = seen
        self.random = random.Random(seed)
        self._connection: http.client.HTTPConnection | None = None

    def work_until(self, people: list[Person], ends: float, *, hangups: float = 0.0, writes: float = 0.4) -> None:
        """Read and write for people at random until the clock says ``ends``."""
        while time.monotonic() < ends:
            person = self.random.choice(people)
            writing = self.random.random() < writes
            if self.random.random() < hangups:
                self.hang_up(person, writing)
            elif writing:
                self.write(person)
            else:
                self.read(person)

    def read(self, person: Person) -> None:
        status, body = self.ask(person, "GET", "/api/v1/tasks?limit=20")
        if status == 200:
            self.seen.rows(person.id, json.loads(body)["items"])

    def write(self, person: Person) -> bool:
        """Write a row; give whether the server said that it stands."""
        row = new_row(person)
        status, body = self.ask(person, "POST", "/api/v1/tasks", row)
        if status == 201:
            self.seen.acknowledged(person.id, row["id"], row["title"])
            self.seen.rows(person.id, [json.loads(body)])
        return status == 201

    def hang_up(self, person: Person, writing: bool) -> None:
        """Send a request, whole or cut short, and go away without reading the answer."""
        body = json.dumps(new_row(person)).encode() if writing else b""
        head = f"{'POST' if writing else 'GET'} /api/v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        head += f"Authorization: Bearer {person.key}\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/json\r\n\r\n" if writing else "\r\n"
        sent = head.encode() + body
        if self.random.random() < 0.5:
            sent = sent[: self.random.randrange(1, len(sent))]
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S) as connection:
            connection.sendall(sent)
        with self.seen.lock:
            self.seen.hangups += 1

    def all_rows(self, person: Person) -> dict[str, str]:
        """Read everything a person has through the API; give titles by id."""
        found: dict[str, str] = {}
        cursor = ""
        while True:
            status, body = self.ask(person, "GET", f"/api/v1/tasks?limit=200{cursor}")
            if status != 200:
                raise RuntimeError(f"reading back the rows of user {person.id} was answered {status}: {body[:300]!r}")
            page = json.loads(body)
            self.seen.rows(person.id, page["items"])
            found |= {row["id"]: row["title"] for row in page["items"]}
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    def ask(self, person: Person, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        """Send one request; give status and body. A connection that breaks is answered 0."""
        headers = {"Authorization": f"Bearer {person.key}"}
        raw = None
        if body is not None:
            raw, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        started = time.monotonic()
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
            self._connection.request(method, path, raw, headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            with self.seen.lock:
                self.seen.broken[type(error).__name__] += 1
            return 0, b""
        took_s, again = time.monotonic() - started, answer.headers.get("Retry-After")
        self.seen.answer(answer.status, f"{method} {path}", content, took_s=took_s, retry_after=again)
        return answer.status, content

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def new_row(person: Person) -> dict[str, Any]:
    """Make a row whose title says whose it is, under an id of the client's own."""
    title = f"owner-{person.id}-{uuid.uuid4().hex}"
    return {"id": str(uuid.uuid4()), "title": title, "description": described(title)}


def lost(port: int, people: list[Person], seen: Seen) -> list[str]:
    """Read everybody's rows back and name the acknowledged ones that are not there."""
    missing = []
    with closing(Client(port, seen, seed=0)) as client:
        for person in people:
            stored = client.all_rows(person)
            missing += [
                f"user {person.id}: {title}"
                for row_id, title in seen.written[person.id].items()
                if stored.get(row_id) != title
            ]
    return missing
