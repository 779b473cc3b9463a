"""Type what docs/how-to/operate says, from day one to a database on a server, as its reader does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support.servers import own_server

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "operate"


def lines(page, section):
    """Give the commands in a section's first block, each with the file that it reads."""
    text = (GUIDE / page).read_text(encoding="utf-8").split(f"\n## {section}\n")[1]
    for line in text.split("```")[1].strip().splitlines():
        words = shlex.split(line, comments=True)
        file = words[words.index("<") + 1] if "<" in words else ""
        yield words[1 : words.index("<") if file else None], file


@pytest.fixture
def follow(shell):
    """Type a section's commands for a user; give what each said."""

    def run(page, section, user, files, **changes):
        said = []
        for words, file in lines(page, section):
            done = shell(*(word.replace("USER", user) for word in words), stdin=files.get(file, ""), **changes)
            said.append((" ".join(words), done))
        return said

    return run


def test_an_operator_who_follows_the_guide_gets_a_database_on_a_server(shell, follow, tmp_path):
    assert shell("db", "create-config-table").returncode == 0  # as make run does
    with own_server("postgresql") as own:
        files = {"password.txt": "a long password\n", "north.url": f"{own.url}\n"}
        for words, done in follow("day-one.md", "First day", "ada@example.org", files):
            assert done.returncode == 0, (words, done.stderr)
        *registered, (_, refused) = follow("production.md", "Database servers", "ada@example.org", files)
        assert [done.returncode for _, done in registered] == [0, 0]
        (remedy,) = re.findall(r"`unify (db delete \d+)`", refused.stderr)
        assert refused.returncode == 1
        assert shell(*remedy.split(), "--yes").returncode == 0
        placed = follow("production.md", "Database servers", "ada@example.org", files)[-1][1]
        assert (placed.returncode, "was created: postgresql database" in placed.stdout) == (0, True)
        assert shell(*remedy.split(), "--yes").returncode == 0


def test_an_operator_who_follows_the_guide_has_backups_and_restores_one(shell, follow, tmp_path):
    assert shell("db", "create-config-table").returncode == 0
    pair = shell("credentials", "generate-identity").stdout
    identity = tmp_path / "identity.txt"
    identity.write_text(pair)
    (public,) = re.findall(r"age1[0-9a-z]{58}", pair)
    keys = {"BACKUP_RECIPIENTS": public, "BACKUP_IDENTITY_FILE": str(identity)}
    keys["BACKUP_SIGNING_KEYS"] = shell("credentials", "generate-signing-key").stdout.strip()
    for page, section in (
        ("day-one.md", "First day"),
        ("backups.md", "Set up"),
        ("backups.md", "Make, check and restore"),
    ):
        files = {"password.txt": "a long password\n"}
        for words, done in follow(page, section, "ada@example.org", files, **keys):
            assert done.returncode == 0, (words, done.stderr)
    assert "tenant.undo_restore" in shell("audit", "list").stdout
