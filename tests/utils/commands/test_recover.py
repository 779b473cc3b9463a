"""Recover a lost installation by typing what docs/how-to/operate/recovery.md says."""

from __future__ import annotations

import json
import shutil

import pytest

import compose
from settings import Settings
from tests.support.applications import add_task, keep_server, titles
from tests.support.recovery import backup_keys
from tests.utils.test_operating_guide import lines


@pytest.fixture
def keys(elsewhere):
    """Give the settings of backups in the folder that the guide names."""
    folder = elsewhere / "data"
    folder.mkdir()
    return {name.upper(): value for name, value in backup_keys(folder).items()}


@pytest.fixture
def make(environ, keys):
    """Give a function that joins the parts of the installation on this machine."""
    made = []

    def build():
        made.append(compose.build(Settings.load(environ | keys, dotenv=None)))
        return made[-1]

    yield build
    for parts in made:
        parts.close()


@pytest.fixture
def lost(make, tmp_path):
    """Back up an installation of one user with a row and a key, and lose it; give the key."""
    parts = make()
    parts.manager.prepare_catalog()
    ada = parts.accounts.create("ada@example.org")
    parts.manager.provision(ada.id)
    add_task(parts.manager, ada.id, "kept")
    _, key = parts.accounts.issue_key(ada.id)
    parts.manager.backups.create_catalog()
    parts.manager.backups.create(ada.id)
    parts.close()
    shutil.rmtree(tmp_path / "users")
    for file in tmp_path.glob("admin.db*"):
        file.unlink()
    return key


def test_an_operator_who_follows_the_guide_has_everything_again(shell, keys, lost, make):
    said = []
    for words, _ in lines("recovery.md", "On an empty machine"):
        done = shell(*words, **keys)
        assert done.returncode == 0, (words, done.stderr)
        said.append(done.stdout)
    dry_run, recovered, _, held, confirmed = said
    assert "Databases: 1 restored." in dry_run
    assert "Databases: 1 restored." in recovered
    assert "ada@example.org" in held
    assert confirmed == "1 key confirmed.\n"
    parts = make()
    assert titles(parts.manager, 1) == ["kept"]
    assert parts.accounts.principal_by_key(lost) is not None


def test_what_was_found_can_be_had_as_json(shell, keys, lost):
    done = shell("recover", "--from", "data/backups", "--json", **keys)
    document = json.loads(done.stdout)
    assert (document["tenants"], document["ended"], document["catalog"]["keys"]) == ({"restored": 1}, True, 1)
    again = shell("recover", "--from", "data/backups", "--json", **keys)
    assert json.loads(again.stdout)["tenants"] == {"kept": 1}


def test_a_place_without_backups_is_one_line(shell, keys, lost):
    done = shell("recover", "--from", "nowhere", **keys)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the storage has no backup of a catalog")
    assert len(done.stderr.splitlines()) == 1


def test_what_could_not_be_reached_ends_with_a_failure(shell, keys, make):
    parts = make()
    parts.manager.prepare_catalog()
    keep_server(parts.manager, "north")
    parts.manager.backups.create_catalog()
    parts.close()
    place = f"sqlite:///{parts.settings.tenant_data_dir.parent / 'new.db'}"
    done = shell("recover", "--from", "data/backups", **keys | {"ADMIN_DATABASE_URL": place})
    assert done.returncode == 1
    assert "Did not answer: server north" in done.stdout
    assert "run the same command again" in done.stderr
