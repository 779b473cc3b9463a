"""Habits of the house that a search can hold: what never stands in a committed file."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support import layers

PROJECT = layers.PROJECT
SKIPPED = {".git", ".venv", "data", "build", "dist", "node_modules", "results", "test-output"}
TEXTS = {
    ".py",
    ".toml",
    ".txt",
    ".md",
    ".html",
    ".css",
    ".js",
    ".mako",
    ".ini",
    ".yml",
    ".yaml",
    ".json",
    ".example",
    "",
}
THIS = Path(__file__).name


def committed(*suffixes: str) -> list[Path]:
    """Give the files that a clone has, vendored ones and this one aside."""
    found = []
    for path in sorted(PROJECT.rglob("*")):
        parts = path.relative_to(PROJECT).parts
        made = any(part in SKIPPED or part.endswith(("_cache", "__", ".egg-info", "vendor")) for part in parts)
        hidden = parts[0].startswith(".") and parts[0] not in (".ci", ".gitignore", ".env.example", ".dockerignore")
        if path.is_file() and not made and not hidden and path.name != THIS and path.suffix in (suffixes or TEXTS):
            found.append(path)
    return found


def lines_with(pattern: str, *suffixes: str, flags: int = 0) -> list[str]:
    expression = re.compile(pattern, flags)
    return [
        f"{path.relative_to(PROJECT)}:{number}: {line.strip()[:100]}"
        for path in committed(*suffixes)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if expression.search(line)
    ]


def nothing(found: list[str]) -> None:
    assert not found, "\n".join(["", *found])


def test_the_search_sees_the_project():
    names = {path.relative_to(PROJECT).as_posix() for path in committed()}
    assert {"settings.py", "tenancy/errors.py", "Makefile", ".ci/run", ".env.example", "README.md"} <= names


def test_nothing_is_left_to_do():
    nothing(lines_with(r"(#|//|<!--|\"\"\"|^\s*\*)\s*.*\b(TODO|FIXME|XXX|HACK)\b(?!\")"))


def test_every_exception_from_a_rule_says_why():
    nothing(lines_with(r"# noqa(?!: [A-Z]+[0-9]+(, [A-Z]+[0-9]+)* - \w)", ".py"))
    nothing(lines_with(r"# type: ignore(?!\[[a-z-]+(, ?[a-z-]+)*\]  # \w)", ".py"))
    nothing(lines_with(r"# pragma: no cover(?! - \w)", ".py"))


def test_no_error_is_swallowed():
    found = []
    for source in layers.sources():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ExceptHandler) and all(isinstance(line, ast.Pass) for line in node.body):
                found.append(f"{source.path}:{node.lineno}: an error is swallowed")
    nothing(found)


def test_no_database_is_mocked():
    nothing(lines_with(r"unittest\.mock|MagicMock|pytest_mock|\bmocker\b", ".py"))


def test_no_registry_and_no_path_of_a_machine_is_named():
    nothing(lines_with(r"index-url|find-links|https?://[^ ]*(pypi|simple/)|file://", ".txt", ".toml", ""))
    nothing(lines_with(r"(?<![\w.~])/(root|home|Users)/\w"))


def test_pages_load_nothing_from_elsewhere():
    nothing(lines_with(r"""(src|href|action|@import|url\()\s*=?\s*["'(]?\s*(https?:)?//\w""", ".html", ".css"))


def test_pages_hold_no_script_and_no_style_of_their_own():
    """The Content-Security-Policy has no ``unsafe-inline``: an inline one would not run."""
    nothing(lines_with(r"<style|<script(?![^>]*\bsrc=)|\son[a-z]+=\"|\sstyle=\"", ".html", flags=re.IGNORECASE))


def test_files_end_their_lines_as_unix_does():
    nothing([str(path) for path in committed() if b"\r\n" in path.read_bytes()])


def test_constraints_pin_every_dependency():
    pinned = set(re.findall(r"^([A-Za-z0-9_.-]+)==\S+$", (PROJECT / "constraints.txt").read_text(), re.MULTILINE))
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in pinned}
    wanted = re.findall(r'"([a-z0-9][a-z0-9-]*)[><=~]', (PROJECT / "pyproject.toml").read_text())
    assert set(wanted) - {"setuptools"} - pinned == set()


@pytest.mark.parametrize("name", [".env", "data/admin.db", "data/users/user_1.db", ".venv/x", "unify.egg-info/x"])
def test_secrets_data_and_what_make_makes_are_ignored_by_git(name):
    ignored = (PROJECT / ".gitignore").read_text().splitlines()
    first = name.split("/")[0]
    assert {f"/{first}", f"/{first}/", "*.egg-info/"} & set(ignored)


def test_no_test_takes_the_date_while_it_is_imported():
    """A run that begins before midnight and ends after it would compare two days."""
    clock = re.compile(r"\b(now|today|utcnow)$")
    found = []
    for path in sorted((PROJECT / "tests").rglob("*.py")):
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.Assign | ast.AnnAssign):
                found += [
                    f"{path.relative_to(PROJECT)}:{call.lineno}"
                    for call in ast.walk(statement)
                    if isinstance(call, ast.Call) and clock.search(ast.unparse(call.func))
                ]
    nothing(found)


def test_no_flag_is_compared_with_is():
    """SQL Server knows no ``IS 1``: a flag stands alone in a condition, or behind ``~``."""
    nothing(lines_with(r"\.is(_not)?_?\((sa\.)?(true|false|True|False)\b", ".py"))
