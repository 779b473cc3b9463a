"""Documents are checked: settings against their table, links against the files they name."""

from __future__ import annotations

import re
import subprocess
import tokenize
from collections import Counter
from datetime import date
from functools import cache
from pathlib import Path

import pytest

from compose import app_version
from settings import COMPOSE_SETTINGS, PROJECT, SETTINGS, TEST_SETTINGS
from tests.house.test_house import committed
from web.pages.tasks import quick_add

ACTIVE = {"MULTI_TENANT_MODE": "true", "BOOTSTRAP_FIRST_ADMIN": "true", "BACKUP_SIGNING_KEYS": ""}
"""What ``.env.example`` sets otherwise than by default, for the newcomer who types ``make run``."""

DOCUMENTS = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def example_lines() -> list[str]:
    return re.findall(r"^#?[A-Z_]+=.*$", (PROJECT / ".env.example").read_text(), re.MULTILINE)


def test_the_example_names_every_setting_once_with_its_default():
    expected = [
        f"{s.name}="
        if s.default is None
        else f"{s.name}={ACTIVE[s.name]}"
        if s.name in ACTIVE
        else f"#{s.name}={s.default}"
        for s in SETTINGS
    ]
    expected += [f"#{name}={value}" for name, value in TEST_SETTINGS.items()]
    expected += [f"{name}=" if value is None else f"#{name}={value}" for name, value in COMPOSE_SETTINGS.items()]
    assert example_lines() == expected


def test_the_example_explains_every_setting_as_the_table_does():
    text = " ".join(line.removeprefix("#").strip() for line in (PROJECT / ".env.example").read_text().splitlines())
    assert [setting.name for setting in SETTINGS if setting.meaning.replace("`", "") not in text] == []


def test_the_settings_reference_is_the_table():
    reference = (PROJECT / "docs" / "reference" / "settings.md").read_text()
    expected = []
    for setting in SETTINGS:
        default = "none, must be given" if setting.default is None else f"`{setting.default}`"
        expected.append(f"| `{setting.name}` | {default if default != '``' else 'empty'} | {setting.meaning} |")
    expected += [f"| `{name}` | {f'`{value}`' if value else 'nothing'} |" for name, value in TEST_SETTINGS.items()]
    random, commented = "made at random", "where you take the `#` away"
    expected += [f"| `{name}` | {f'`{v}` {commented}' if v else random} |" for name, v in COMPOSE_SETTINGS.items()]
    assert [line for line in reference.splitlines() if re.match(r"\| `[A-Z_]+`", line)] == expected


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_links_lead_to_files_that_are_there(document):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_links_lead_to_headings_that_are_there(document):
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", document.read_text())
    assert [link for link in links if link[1] not in anchors(document.parent / link[0] if link[0] else document)] == []


def anchors(document: Path) -> set[str]:
    """Give what a link may name of a document: its headings, spelled as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_one_screen():
    assert len((PROJECT / "README.md").read_text().splitlines()) <= 70


def test_there_is_one_version_number():
    version = re.search(r'^version = "(.+)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    last, *before = re.findall(r"^## (.*)$", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    named = [last]
    if last == "Unreleased":  # the code is a development version of what comes, so no released number names it
        named = [f"{numbers(version[1])}.dev0"]
        assert [int(n) for n in numbers(version[1]).split(".")] > [int(n) for n in before[0].split(".")]
    for file in [PROJECT / "docker-compose.yml", *DOCUMENTS]:
        named += re.findall(r"\bunify:(\d[\w.]*)", file.read_text())
    assert set(named) == {version[1]}
    assert app_version() == version[1], "installed anew since the number changed? make setup-dev"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_no_table_is_split_by_a_bar_inside_a_cell(document):
    tables = re.findall(r"(?:^\|.*\n)+", document.read_text(), re.MULTILINE)
    for lines in map(str.splitlines, tables):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(widths) == 1, lines[0]


@pytest.mark.parametrize("room", ["tenancy", "web"])
@pytest.mark.parametrize("document", ["README.md", "docs/explanation/architecture.md"])
def test_the_layout_names_every_folder(document, room):
    text = (PROJECT / document).read_text()
    folders = [path.name for path in (PROJECT / room).iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert [name for name in folders if f"`{name}/`" not in text] == []


def test_every_page_is_found_from_the_list_of_pages():
    index = PROJECT / "docs" / "README.md"
    linked = {(index.parent / link).resolve() for link in re.findall(r"\]\(([^)#]+\.md)", index.read_text())}
    assert {path for path in DOCUMENTS if path.is_relative_to(index.parent)} - linked == {index}
    assert "](docs/README.md)" in (PROJECT / "README.md").read_text()


def test_the_readme_names_every_make_command():
    commands = re.findall(r"^([a-z]+):.*##", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    text = (PROJECT / "README.md").read_text()
    assert [command for command in commands if f"make {command}" not in text] == []


def test_the_list_of_addresses_is_the_url_map(parts):
    import web

    there = set()
    for rule in web.create(parts).url_map.iter_rules():
        if rule.endpoint != "static":
            path = re.sub(r"<[a-z]+:", "<", rule.rule)
            there |= {f"{method} {path}" for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    text = (PROJECT / "docs" / "reference" / "http.md").read_text()
    written = {f"{m} {path}" for m, path in addresses(re.findall(r"^\| `([A-Z ]+) (/\S*)` \|", text, re.MULTILINE))}
    assert written == there


def table(document, section):
    """Give the cells of a section's table, without its head."""
    text = (PROJECT / "docs" / "how-to" / document).read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_quick_add_understands_the_examples_as_the_guide_says():
    examples = table("workspace.md", "Quick add")
    found = []
    for line, *_ in examples:
        said = quick_add.parse(line.strip("`"), date(2026, 3, 4))
        values = (said.title, said.due_date, said.due_time, said.category, said.priority)
        found.append([line, *("" if value is None else str(value) for value in values)])
    assert len(examples) > 5
    assert found == examples


def test_the_guide_lists_the_shortcuts_that_the_pages_show():
    script = (PROJECT / "web" / "static" / "unify.js").read_text()
    shown = re.search(r"const HELP = \[(.+?)\n  \];", script, re.DOTALL)
    assert shown is not None
    written = [(keys.replace("`", ""), meaning) for keys, meaning in table("workspace.md", "Keys")]
    assert written == re.findall(r'\["([^"]+)", "([^"]+)"\]', shown[1])


def test_commands_that_documents_name_are_there():
    known = set(re.findall(r"^### `unify ([a-z]+(?: [a-z-]+)?)", reference("commands.md"), re.MULTILINE))
    groups = {name.split()[0] for name in known}
    named = {
        found for document in DOCUMENTS for found in re.findall(r"`unify ([a-z]+(?: [a-z-]+)?)", document.read_text())
    }
    assert named - known - groups == set()


def numbers(version):
    return version.removesuffix(".dev0")


def reference(name):
    return (PROJECT / "docs" / "reference" / name).read_text()


def addresses(rows):
    """Expand ``{a,b}`` and several methods to one pair each."""
    for methods, path in rows:
        braces = re.search(r"\{([a-z,]+)\}", path)
        for word in braces[1].split(",") if braces else [""]:
            for method in methods.split():
                yield method, path.replace(braces[0], word) if braces else path


MENTION = re.compile(r"`+((?:[\w.-]+/)*[\w-]+\.(?:py|html|js|css|toml|ini|mako|yml))`+")
"""A file's name in backticks, with or without its folder."""


def lost_mentions(path: str, text: str) -> list[str]:
    """Name the files in backticks that are not there: from a folder around the text that names them.

    A name without its folder is also understood where one file of the project alone has it.
    """
    return [f"{path}: {found}" for found in MENTION.findall(text) if not _is_there(PROJECT / path, found)]


def _is_there(text: Path, found: str) -> bool:
    folders = [folder for folder in text.parents if folder.is_relative_to(PROJECT)]
    if any((folder / found).exists() for folder in folders):
        return True
    return "/" not in found and names_of_files()[found] == 1


@cache
def names_of_files() -> Counter[str]:
    return Counter(path.name for path in committed(*SUFFIXES))


SUFFIXES = (".py", ".html", ".js", ".css", ".toml", ".ini", ".mako", ".yml")
CONTACTS = ("repositories/contacts.py", "tests/repositories/test_contacts.py")
CONTACTS_PAGE = ("web/pages/contacts.py", "tests/web/pages/test_contacts.py")
EXAMPLES = {"shop.py", "0001_orders.py", "env.py", "alembic.ini", *CONTACTS, *CONTACTS_PAGE}
"""Files that documents speak of and that a reader makes."""


def prose_of(path: Path) -> str:
    """Give what a file says to people: all of a document, and of code its docstrings and comments."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    with tokenize.open(path) as file:
        return "\n".join(token.string for token in tokenize.generate_tokens(file.readline) if _is_prose(token))


def _is_prose(token: tokenize.TokenInfo) -> bool:
    return token.type == tokenize.COMMENT or (
        token.type == tokenize.STRING and token.string.startswith(('"""', 'r"""'))
    )


SECRET_FILES = re.compile(r"[<>] *([\w-]+\.(?:key|url|txt))\b")
"""The files with secrets that documents have their readers write into the folder: standard input and output."""


def test_git_passes_over_the_files_with_secrets_that_documents_have_written():
    named = {name for document in DOCUMENTS for name in SECRET_FILES.findall(document.read_text())}
    assert {"ada.key", "north.url", "password.txt"} <= named
    if not (PROJECT / ".git").exists():
        pytest.skip("this is no clone")
    words = ["git", "check-ignore", *sorted(named)]
    ignored = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False).stdout.split()
    assert named - set(ignored) == set(), "name them in .gitignore"


def test_files_that_prose_names_are_there():
    texts = [*committed(".py", ".html", ".toml", ".md", ".ini", ".mako", ""), PROJECT / "Makefile"]
    lost = [
        line
        for path in texts
        if path.name != "CHANGELOG.md"  # it tells of what was
        for line in lost_mentions(path.relative_to(PROJECT).as_posix(), prose_of(path))
        if line.rpartition(" ")[2] not in EXAMPLES
    ]
    assert not lost, "\n".join(["", *lost])


@pytest.mark.parametrize(
    "text", ["see `tenancy/engines.py`", "``nowhere.py`` does it", "`backend.py` (there are several)"]
)
def test_a_file_that_is_not_there_is_found(text):
    assert lost_mentions("docs/how-to/operate.md", text)


@pytest.mark.parametrize("text", ["`tenancy/manager.py`", "``router.py``", "`settings.py`", "`a/b` and `x.y`"])
def test_a_file_that_is_there_is_left_alone(text):
    assert lost_mentions("tenancy/routing/engines.py", text) == []
