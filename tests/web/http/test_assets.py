"""Static files are kept by browsers for as long as they stay the same, and what others made is as they made it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

STATIC = Path(__file__).resolve().parents[3] / "web" / "static"
VENDOR = STATIC / "vendor"
TEMPLATES = STATIC.parent / "templates"
RECORD = re.compile(r"^\| `([^`]+)` \| `([0-9a-f]{64})` \|$", re.MULTILINE)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def address(app):
    """Give a function that gives the address of a static file."""

    def of(name):
        with app.test_request_context():
            return app.jinja_env.globals["asset"](name)

    return of


@pytest.fixture
def ask(anonymous):
    """Give a function that asks for a file and puts it down again."""

    def get(path):
        with anonymous.get(path) as answer:
            return answer

    return get


def test_a_file_asked_for_by_its_content_may_be_kept_for_good(ask, address):
    answer = ask(address("unify.css"))
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert "Cookie" not in answer.headers.get("Vary", "")
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("query", ["", "?v=", "?v=000000000000", "?v=../x"])
def test_a_file_asked_for_otherwise_is_asked_for_again(ask, query):
    answer = ask("/static/unify.css" + query)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-cache"


def test_the_picture_of_the_site_is_where_browsers_look_for_it_by_themselves(ask):
    answer = ask("/favicon.ico")
    assert answer.status_code == 200
    assert answer.content_type.startswith("image/svg+xml")
    assert answer.content_length == (STATIC / "favicon.svg").stat().st_size
    assert "Set-Cookie" not in answer.headers


def test_a_file_that_is_not_there_is_not_kept(ask):
    for path in ("/static/nothing.css?v=1", "/static/../assets.py", "/static/"):
        answer = ask(path)
        assert answer.status_code == 404
        assert "immutable" not in answer.headers.get("Cache-Control", "")


def test_a_changed_file_gets_another_address_without_a_restart(app, address, tmp_path, monkeypatch):
    monkeypatch.setattr(app, "_static_folder", str(tmp_path))
    (tmp_path / "x.css").write_text("a { color: red }")
    before = address("x.css")
    (tmp_path / "x.css").write_text("a { color: green }")
    after = address("x.css")
    assert before != after
    assert parse_qs(urlsplit(after).query)["v"] == [digest(tmp_path / "x.css")[:12]]


def test_the_style_names_pico_by_its_content(address):
    """So that the browser finds it where the page told it to begin loading it."""
    [named] = re.findall(r'@import url\("([^"]+)"\)', (STATIC / "unify.css").read_text())
    assert address("vendor/pico/pico.min.css") == "/static/" + named


def test_vendored_files_are_recorded_and_unchanged():
    recorded = dict(RECORD.findall((VENDOR / "README.md").read_text()))
    there = {str(path.relative_to(VENDOR)): digest(path) for path in VENDOR.rglob("*") if path.is_file()}
    assert there.pop("README.md")
    assert recorded == there


def test_each_vendored_package_has_its_licence_beside_it():
    packages = [path for path in VENDOR.iterdir() if path.is_dir()]
    assert packages
    for package in packages:
        assert list(package.glob("LICENSE*")), package.name


def test_every_icon_that_a_page_shows_is_in_the_sprite():
    drawn = set(re.findall(r'<symbol id="([^"]+)"', (STATIC / "icons.svg").read_text()))
    used = {
        name
        for template in TEMPLATES.rglob("*.html")
        for name in re.findall(r"""\bicon\(["']([^"']+)["']""", template.read_text())
    }
    assert used
    assert used <= drawn


def test_no_style_or_script_of_ours_asks_another_site_for_anything():
    for path in STATIC.iterdir():
        if path.suffix in (".css", ".js"):
            assert not re.findall(r"""(?:url\(|import |fetch\()\s*["']?(?:https?:)?//""", path.read_text()), path.name
