"""Every connection field, on every product, by every way in: refused by its name, or taken literally.

``right`` is where the configuration says that a database is; ``wrong`` is where a payload would send a careless
driver. A listener that counts connections stands at each: at ``wrong`` there are never any.
"""

from __future__ import annotations

import html
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import web
from tenancy.backends.base import DatabaseFields
from tenancy.errors import ConfigurationError, TenancyError
from tests.support.applications import change_config, tenant_of
from tests.support.engines import use
from tests.support.servers import listener
from tests.web.conftest import browser_of, caller, make_admin
from utils.cli import unify
from utils.toolbox import Toolbox
from web.display.template_filters import FIELD_WORDS

if TYPE_CHECKING:
    from compose import Parts

ON_SERVERS = ("postgresql", "mysql", "sqlserver")
WRONG = "<wrong>"
"""Stands in a payload for the port of the listener that nobody may reach."""

REFUSED: dict[str, list[Any]] = {
    "db_host": [
        *("", " ", "127.0.0.1\n", "127.0.0.1 ", f"127.0.0.1:{WRONG}", f"127.0.0.1,{WRONG}", "127.0.0.1/", "/tmp"),
        *(f"a@127.0.0.1:{WRONG}", f"127.0.0.1?port={WRONG}", f"127.0.0.1;Server=127.0.0.1,{WRONG}", "[127.0.0.1]"),
        *("0x7f000001", "2130706433", "127.1", "0177.0.0.1", "1.2.3.4.5", "::1%lo", "[::1]", "tcp:127.0.0.1"),
        *(f"host=127.0.0.1 port={WRONG}", "(local)", "np:\\\\127.0.0.1\\pipe", "a..b", "-a", "é.example", "a b"),
        *("a" * 254, "127.0.0.1}", "127.0.0.1'", "http://127.0.0.1", "$(id)", "127.0.0.1#", "local host", "\t"),
    ],
    "db_port": [0, -1, 65536, 10**6, "22", True, 1.5, f"{WRONG};"],
    "db_name": [
        *("", " ", "a b", f"x?host=127.0.0.1&port={WRONG}", f"host=127.0.0.1 port={WRONG}", "x;y", "x}y", "x'y"),
        *(f"postgresql://127.0.0.1:{WRONG}/x", f"x;Server=127.0.0.1,{WRONG}", 'x"y', "x`y", "x]y", "../x", "x/y"),
        *("x" * 49, "sélect", "%40", "x\n", "x\\y", "1x", "x=y", "☃", "x--y;", "/*", "file:x"),
    ],
    "db_user": ["", "a\nb", "a\tb", "u" * 129, "\u202e\u0000x"],
    "db_password": ["a\nb", "a\x1bb", "p" * 1025],
    "db_type": [
        *("sqlite+pysqlite", "postgres", "postgresql+psycopg2", "mysql+pymysql", "mssql", "mssql+pyodbc", "oracle", ""),
        *("SQLITE", "postgresql?plugin=x", "sqlite:///x", "mariadb"),
    ],
    "db_path": ["/etc/passwd", "x.db", "file:x"],
    "db_options": [
        *({"plugin": "x"}, {"odbc_connect": "Server=x"}, {"driver": "x"}, {"hostaddr": "127.0.0.1"}, {"service": "x"}),
        *({"options": "-c x=y"}, {"local_infile": 1}, {"init_command": "x"}, {"unix_socket": "/x"}, {"sslcert": "/x"}),
        *({"tls": "maybe"}, {"tls_ca": "/etc/passwd"}, {"connect_timeout_s": 0}, {"answer_timeout_s": 9999}),
        *({"read_default_file": "/x"}, {"host": "x"}, {"passfile": "/x"}, {"connect_timeout_s": "1;x"}),
    ],
}

LITERAL: dict[str, list[str]] = {
    "db_name": ["select", "user", "order", "master", "x-y", "_x"],
    "db_user": [
        *(f"a@127.0.0.1:{WRONG}/", f"a;Server=127.0.0.1,{WRONG}", "a}b", "a{b", "a'b", 'a"b', "a b", "%40", "a\\b"),
        *(f"a?host=127.0.0.1&port={WRONG}", f"a host=127.0.0.1 port={WRONG}", "select", "😀", "a=b", "a`b", "root"),
    ],
    "db_password": [
        *(
            "",
            f";Server=127.0.0.1,{WRONG};",
            "}",
            "{",
            "}}",
            "};Server=x",
            f"@127.0.0.1:{WRONG}/",
            "%40",
            "'",
            '"',
            "\\",
        ),
        *(f"?host=127.0.0.1&port={WRONG}", f"' host=127.0.0.1 port={WRONG}", "😀é", " ", "a b", "a=b;c=d", "p" * 1024),
    ],
}

EXTRA = (
    *("plugin", "odbc_connect", "driver", "hostaddr", "service", "options", "local_infile", "init_command"),
    *("unix_socket", "url", "db_url", "sslcert", "query", "dsn", "origin", "server_id", "owned"),
)


@dataclass
class Listeners:
    """Hold the ports of both listeners and who came."""

    right: int
    wrong: int
    met_right: list[socket.socket]
    met_wrong: list[socket.socket]

    def aimed(self, payload: Any) -> Any:
        if isinstance(payload, dict):
            return {name: self.aimed(value) for name, value in payload.items()}
        return payload.replace(WRONG, str(self.wrong)) if isinstance(payload, str) else payload


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    with listener(hangs_up=True) as (right, met_right), listener(hangs_up=True) as (wrong, met_wrong):
        yield Listeners(right, wrong, met_right, met_wrong)


@pytest.fixture(params=ON_SERVERS)
def product(request: pytest.FixtureRequest) -> str:
    return use(request, request.param)


Answer = tuple[str, str]
"""What came back: the outcome (``refused``, ``tried``) and the text that a person would read."""


class Office:
    """Be where fields come in: each way takes them, and says what a person would read."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    @cached_property
    def admin(self) -> Any:
        return make_admin(self.parts)

    @cached_property
    def app(self) -> Any:
        return web.create(self.parts)

    @cached_property
    def program(self) -> Any:
        return caller(self.app, self.admin)

    @cached_property
    def browser(self) -> Any:
        return browser_of(self.app, self.admin)

    def library(self, user_id: int, fields: dict[str, Any]) -> Answer:
        try:
            self.parts.manager.provision(user_id, DatabaseFields(**fields))
        except ConfigurationError as error:
            return "refused", f"{error.field}: {error.message}"
        except TenancyError as error:
            return "tried", error.code
        raise AssertionError("a listener that hangs up is no database")

    def call(self, user_id: int, fields: dict[str, Any]) -> Answer:
        answer = self.program.post(f"/admin/user/{user_id}/database/initialize", json=fields)
        assert answer.status_code < 500 or answer.status_code in (502, 503), answer.json
        if answer.status_code in (400, 422):
            named = [each["field"] for each in answer.json.get("errors", [])]
            return "refused", f"{named} {answer.json['detail']}"
        return "tried", answer.json["code"]

    def page(self, user_id: int, fields: dict[str, Any]) -> Answer:
        form = {"csrf_token": self.browser.csrf} | {name: str(value) for name, value in fields.items()}
        answer = self.browser.post(f"/admin/users/{user_id}/initialize", data=form, follow_redirects=True)
        text = html.unescape(re.sub(r"<[^>]+>", " ", answer.text))
        assert answer.status_code in (200, 422), answer.status_code
        if answer.status_code == 422:
            named = re.findall(r'name="(db_\w+)"[^>]*aria-invalid="true"', answer.text)
            return "refused", f"{named} {text}"
        said = re.search(r"could not be created: ([^\n]*)", text)
        assert said, text[:2000]
        named = [name for name, words in FIELD_WORDS.items() if words in said[1]]
        return ("tried" if tenant_of(self.parts.manager, user_id) else "refused"), f"{named} {said[1]}"

    def command(self, user_id: int, fields: dict[str, Any]) -> Answer:
        words = ["db", "init", str(user_id)]
        secret = fields.get("db_password")
        words += [f"--{name.replace('_', '-')}={value}" for name, value in fields.items() if name != "db_password"]
        words += ["--db-password-stdin"] if secret else []
        typed = f"{secret}\n" if secret else None
        done = CliRunner().invoke(unify, words, input=typed, obj=Toolbox(self.parts.settings))
        assert done.exit_code in (1, 2), done.output
        assert "Traceback" not in done.output
        known = tenant_of(self.parts.manager, user_id)
        return ("tried" if known else "refused"), done.output.replace("--db-", "db_")


WAYS = ("library", "call", "page", "command")
EACH_WAY = [("library", product) for product in ON_SERVERS] + [(way, "postgresql") for way in WAYS[1:]]
"""What a product makes of a value is the library's to say; the other ways only have to bring it there."""

each_way = pytest.mark.parametrize(("way", "product"), EACH_WAY, indirect=["product"])
CANNOT_SAY = {
    "page": {"db_path", "db_options", "db_type"},  # it has no such fields, and types are links
    "command": {"db_path", "db_options"},
}


@pytest.fixture
def office(parts) -> Office:
    return Office(parts)


def _fields(product: str, listeners: Listeners, **changes: Any) -> dict[str, Any]:
    plain = {
        "db_type": product,
        "db_host": "127.0.0.1",
        "db_port": listeners.right,
        "db_name": "some",
        "db_user": "somebody",
        "db_password": "secret",
    }
    return plain | {name: listeners.aimed(value) for name, value in changes.items()}


@each_way
@pytest.mark.parametrize("field", REFUSED)
def test_what_is_no_value_of_a_field_is_refused_by_its_name_and_nothing_is_connected_to(
    office, product, listeners, field, way
):
    if field in CANNOT_SAY.get(way, ()):
        pytest.skip(f"the {way} has no {field}")
    parts = office.parts
    user = parts.accounts.create("new@example.org")
    for payload in REFUSED[field]:
        fields = _fields(product, listeners, **{field: payload})
        if way in ("page", "command") and not isinstance(payload, str):
            fields[field] = str(payload)
        if way in ("page", "command") and payload in ("", " ", "22"):
            continue  # an empty control says nothing, and a number is typed as text
        if way == "command" and (str(payload).startswith("-") or "\n" in str(payload) or "\x00" in str(payload)):
            continue  # cannot be typed, or ends the line of a password
        outcome, said = getattr(office, way)(user.id, fields)
        assert outcome == "refused", (field, payload, said)
        assert field in said or (way == "page" and field == "db_port"), (field, payload, said)
        assert tenant_of(parts.manager, user.id) is None
    assert listeners.met_right == []
    assert listeners.met_wrong == []


@each_way
@pytest.mark.parametrize("field", LITERAL)
def test_what_is_odd_is_taken_literally_and_leads_nowhere_else(office, product, listeners, field, way):
    parts = office.parts
    user = parts.accounts.create("new@example.org")
    for payload in LITERAL[field]:
        if way == "command" and (payload.startswith("-") or (field == "db_password" and not payload)):
            continue
        fields = _fields(product, listeners, **{field: payload})
        before = len(listeners.met_right)
        outcome, said = getattr(office, way)(user.id, fields)
        if product == "sqlserver" and "};" in fields[field] and outcome == "refused":
            assert field in said  # FreeTDS has no way to say it; Microsoft's driver has
            continue
        assert outcome == "tried", (field, payload, said)
        assert len(listeners.met_right) > before, (field, payload, said)
        stored = tenant_of(parts.manager, user.id)
        if field != "db_password":
            assert getattr(stored, field) == fields[field]
        assert len(fields["db_password"]) < 5 or fields["db_password"] not in str(stored.last_error)
        parts.manager.delete_user_database(user.id)
    assert listeners.met_wrong == []


def test_only_the_known_fields_exist(office, listeners):
    admin, parts = office.program, office.parts
    user = parts.accounts.create("new@example.org")
    for name in EXTRA:
        body = _fields("postgresql", listeners) | {name: f"127.0.0.1:{listeners.wrong}"}
        answer = admin.post(f"/admin/user/{user.id}/database/initialize", json=body)
        assert answer.status_code == 422
        assert name in json.dumps(answer.json["errors"])
    assert listeners.met_right == listeners.met_wrong == []


@pytest.mark.parametrize("field", ["db_host", "db_port", "db_name", "db_user", "db_options", "db_type"])
def test_a_stored_row_that_somebody_edited_is_not_connected_to(office, product, listeners, field):
    """Whoever can write the catalog cannot send a stored password anywhere: it is bound to where it belongs."""
    parts = office.parts
    user = parts.accounts.create("new@example.org")
    assert office.library(user.id, _fields(product, listeners))[0] == "tried"
    come = len(listeners.met_right)
    edited = {
        "db_host": "localhost",
        "db_port": listeners.wrong,
        "db_name": "other",
        "db_user": "root",
        "db_options": json.dumps({"tls": "off"}),
        "db_type": next(name for name in ON_SERVERS if name != product),
    }
    known = tenant_of(parts.manager, user.id)
    changed = {"state": "ready", "revision": parts.manager.head, "version": known.version + 1, field: edited[field]}
    change_config(parts.manager, user.id, **changed)
    with pytest.raises(TenancyError) as refused:
        parts.manager.fetch_all("SELECT 1", user_id=user.id)
    assert refused.value.code == "credential_tampered"
    assert len(listeners.met_right) == come
    assert listeners.met_wrong == []
