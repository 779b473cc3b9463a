"""Hold docs/reference/library.md against the package: what it names is there, and takes what it says."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields

import pytest

from repositories.bin import BinRepository
from repositories.repository_factory import RESOURCES
from settings import PROJECT
from tenancy import TenantManager, errors
from tenancy.accounts.accounts import Accounts
from tenancy.archive import encryption
from tenancy.backends.base import DatabaseFields
from tenancy.credentials import keyring, signing
from tenancy.models import Principal, User
from tenancy.schema import new_revision
from tests.support.applications import add_users

PAGE = (PROJECT / "docs" / "reference" / "library.md").read_text()
ROWS = re.findall(r"^\| (`.+?|\w+: `.+?) \| (.+) \|$", PAGE, re.MULTILINE)
COMMANDS = r"\bunify (?:audit|credentials|db|fleet|jobs|keys|schedule|servers|users) "
CALLS = r"`((?:manager|Accounts|encryption|keyring|signing|fleet\.revisions)\.[a-z_.]+)\("


def imported() -> dict:
    names: dict = {}
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(block, names)  # the page's own lines
    return names | {"manager": TenantManager, "accounts": Accounts}


def found(path: str, names: dict, default: object = None):
    """Give what a dotted name leads to, from an import or, for a bare name, from ``default``."""
    first, *rest = path.split(".")
    value = names[first] if first in names else getattr(default, first)
    for name in rest:
        value = getattr(value, name)
    return value


def calls() -> list[tuple[str, str]]:
    """Give the calls in the tables' first column, with their arguments."""
    written = [cell for cell, _ in ROWS if re.match(r"`[A-Za-z_.]+\(", cell)]
    return [pair for cell in written for pair in re.findall(r"`([A-Za-z_.]+)\(([^`]*)\)`", cell)]


def repositories() -> dict:
    return {**RESOURCES, "bin": BinRepository}


def test_what_the_page_imports_is_there_and_reads_what_is_told():
    names = imported()
    assert names["TenantManager"] is names["MultiTenantDatabaseManager"]
    assert issubclass(names["TenancyError"], Exception)


@pytest.mark.parametrize(("path", "arguments"), calls())
def test_a_call_is_there_and_takes_what_the_page_says(path, arguments, parts):
    kinds = [TenantManager, *repositories().values()]
    call = found(
        path, imported() | {"manager": parts.manager}, next((kind for kind in kinds if hasattr(kind, path)), None)
    )
    takes = inspect.signature(call).parameters
    shown = [one.strip() for one in re.split(r",\s*(?![^(]*\))", arguments) if one.strip() not in ("", "...")]
    for name, _, default in (one.partition("=") for one in shown if not one.startswith("*")):
        assert name in takes, (path, name)
        if default not in ("", "..."):
            assert takes[name].default == ast.literal_eval(default), (path, name)


def test_the_tables_name_some_of_everything():
    assert {path.partition(".")[0] for path, _ in calls()} >= {
        "manager",
        "accounts",
        "DatabaseConnection",
        "RepositoryFactory",
        "page",
    }


def test_the_verbs_of_repositories_are_there():
    labelled = [(label, cell) for label, cell in re.findall(r"^\| (\w+): (`.+?) \| ", PAGE, re.MULTILINE)]
    assert len(labelled) == 4
    for label, cell in labelled:
        for verb in re.findall(r"`(\w+)", cell):
            assert callable(getattr(repositories()[label], verb)), (label, verb)
    usual = re.search(r"Besides (`.+?) the repositories", PAGE, re.DOTALL)
    assert usual is not None
    verbs = re.findall(r"`(\w+)`", usual[1])
    assert [verb for verb in verbs if not all(hasattr(kind, verb) for kind in RESOURCES.values())] == []


def test_errors_and_their_codes_are_there():
    named = re.findall(r"`(\w+Error)`", PAGE)
    assert [name for name in named if not hasattr(errors, name)] == []
    codes = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")}
    row = next(cell for name, cell in ROWS if name == "`code`")
    assert set(re.findall(r"`([a-z]+_[a-z_]+)`", row)) <= codes | {"initialize_user_database"}


def test_attributes_that_the_page_names_are_there():
    assert {"id"} <= {field.name for field in fields(User)}
    assert {"user", "tenant"} <= {field.name for field in fields(Principal)}


def test_what_a_probe_takes_and_gives_is_written_down(parts):
    section = PAGE.split("## Trying a configuration")[1].split("\n## ")[0]
    taken, given = (re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) for text in section.split("It gives a dict"))
    assert taken == [field.name for field in fields(DatabaseFields)]
    (user_id,) = add_users(parts, 1)
    for asked in (DatabaseFields(), DatabaseFields(db_type="oracle")):
        answer = parts.manager.probe_database(user_id, asked)
        assert list(answer) == given
        for step in answer["steps"]:
            assert list(step) == ["name", "ok", "text"]
            assert f"`{step['name']}`" in section
    with pytest.raises(errors.UserNotFoundError):
        parts.manager.probe_database(user_id + 1, DatabaseFields())


def messages() -> Iterator[tuple[str, str]]:
    """Give the texts in `tenancy` that name a command, docstrings aside."""
    for path in sorted((PROJECT / "tenancy").rglob("*.py")):
        tree = ast.parse(path.read_text())
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in inside | said:
                text = ast.unparse(node)
                if re.search(COMMANDS, text):
                    yield path.name, text


def test_what_names_a_command_names_the_call_beside_it(parts):
    there = {
        "manager": parts.manager,
        "Accounts": parts.accounts,
        "keyring": keyring,
        "signing": signing,
        "fleet.revisions": new_revision,
        "encryption": encryption,
    }
    told = list(messages())
    assert len(told) > 15
    for file, text in told:
        calls = re.findall(CALLS, text)
        assert calls, (file, text)
        for call in calls:
            first = next(name for name in there if call.startswith(f"{name}."))
            assert callable(found(call.removeprefix(f"{first}."), {}, there[first])), (file, call)
