"""Files that belong to another user, folders that cannot be entered, file systems without hard links.

Root may do everything: what is refused is tried in a child process as nobody.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import compose
import web
from compose import Parts
from tenancy import TenantManager
from tenancy.backends.sqlite.files import make_empty_file, publish, write_durably
from tenancy.catalog.runs import Selection
from tenancy.errors import DatabaseExistsError, TenancyError
from tests.support.applications import NOBODY, add_task, add_tenants, titles, together, unprivileged
from tests.web.conftest import caller, users_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")


@pytest.fixture
def user_id(parts: Parts) -> int:
    (made,) = add_tenants(parts, 1)
    add_task(parts.manager, made, "before")
    assert all(not checked.found for checked in parts.manager.fleet.verify(Selection()))  # and all is imported
    return made


@pytest.fixture
def file(parts: Parts, user_id: int, tmp_path: Path) -> Path:
    """Give a database that belongs to nobody, with the files beside it that a process leaves that was killed."""
    path = parts.settings.tenant_data_dir / f"user_{user_id}.db"
    parts.manager.engines.close()
    write = f"import os, sqlite3; d = sqlite3.connect({str(path)!r}); d.execute('DELETE FROM notes'); os._exit(0)"
    for place in (tmp_path, *tmp_path.rglob("*")):
        os.chown(place, NOBODY, NOBODY)
    subprocess.run([sys.executable, "-c", write], check=True)
    for place in path.parent.glob(f"{path.name}*"):
        os.chown(place, NOBODY, NOBODY)
    assert path.with_name(path.name + "-shm").exists()
    return path


def told(work: Callable[[], Any]) -> tuple[str, str] | None:
    try:
        work()
    except TenancyError as error:
        return error.code, error.message
    return None


def fresh_manager(parts: Parts) -> TenantManager:
    """Give a manager that has opened no database, but read the revisions: nobody can, where they are in root's home."""
    manager = compose.build(parts.settings).manager
    assert manager.chain.checksums
    return manager


def give_to_root(path: Path, mode: int) -> Callable[[], None]:
    """Take a file away from those who serve; give what gives it back."""
    before = path.stat()
    os.chown(path, 0, 0)
    path.chmod(mode)

    def give_back() -> None:
        os.chown(path, before.st_uid, before.st_gid)
        path.chmod(before.st_mode)

    return give_back


@needs_root
@pytest.mark.parametrize(("which", "mode"), [("", 0o600), ("", 0o644), ("-wal", 0o600), ("-shm", 0o644)])
def test_a_file_of_another_user_is_named_with_its_owner(parts, user_id, file, tmp_path, which, mode) -> None:
    give_to_root(file.with_name(file.name + which), mode)
    mine = fresh_manager(parts)

    def work() -> dict[str, Any]:
        return {
            "write": told(lambda: add_task(mine, user_id, "after")),
            "test": mine.reports.test(user_id),
            "verify": [found.code for checked in mine.fleet.verify(Selection()) for found in checked.found],
        }

    seen = unprivileged(tmp_path, work)
    code, message = seen["write"]
    assert code == seen["test"]["code"] == "access_denied"
    assert f"{file.name}{which} cannot be written" in message
    assert "belongs to root" in message
    assert seen["verify"] == ["access_denied"]


@needs_root
def test_a_file_that_was_given_back_is_written_by_the_next_request(parts, user_id, file, tmp_path) -> None:
    """A handle that SQLite opened for reading alone stays so: it is not used again."""
    give_back = give_to_root(file, 0o644)
    to_child, from_child = os.pipe(), os.pipe()
    mine = fresh_manager(parts)

    def work() -> list[Any]:
        seen = [titles(mine, user_id), told(lambda: add_task(mine, user_id, "refused"))]
        os.write(from_child[1], b".")
        os.read(to_child[0], 1)
        add_task(mine, user_id, "mended")
        return [*seen, titles(mine, user_id)]

    def mend() -> None:
        os.read(from_child[0], 1)
        give_back()
        os.write(to_child[1], b".")

    answers: list[Any] = []
    together([lambda: answers.append(unprivileged(tmp_path, work)), mend])
    first, refused, last = answers[0]
    assert (first, refused[0], last) == (["before"], "access_denied", ["before", "mended"])


@needs_root
def test_a_folder_that_cannot_be_entered_is_said_with_its_code_everywhere(parts, file, tmp_path) -> None:
    user, _ = users_of(parts)
    app = web.create(parts)
    asker = caller(app, user)
    assert asker.get("/api/v1/tasks").status_code == 200
    parts.manager.close()
    for place in tmp_path.rglob("*"):
        os.chown(place, NOBODY, NOBODY)
    give_to_root(file.parent, 0o700)
    mine = fresh_manager(parts)

    def work() -> dict[str, Any]:
        asked = asker.get("/api/v1/tasks")
        return {
            "api": (asked.status_code, asked.json["code"]),
            "read": told(lambda: titles(mine, user.id)),
            "provision": told(lambda: mine.provision(user.id)),
            "delete": told(lambda: mine.delete_user_database(user.id)),
            "test": mine.reports.test(user.id)["code"],
            "size": mine.reports.info(user.id)["size_bytes"],
            "stats": mine.get_user_database_stats()["total_databases"],
            "verify": {found.code for each in mine.fleet.verify(Selection(), orphans=False) for found in each.found},
            "strays": told(lambda: list(mine.fleet.verify(Selection()))),
        }

    seen = unprivileged(tmp_path, work)
    assert seen.pop("api") == (503, "access_denied")
    denied = {name: seen[name][0] for name in ("read", "provision", "delete", "strays")}
    assert set(denied.values()) == {"access_denied"}
    assert (seen["test"], seen["verify"]) == ("access_denied", {"access_denied"})
    assert seen["size"] is None


@needs_root
def test_a_catalog_that_cannot_be_written_is_named_with_its_owner(parts, user_id, tmp_path, make_settings) -> None:
    new = tmp_path / "new.db"
    make_empty_file(new)
    mine = compose.build(make_settings(admin_database_url=f"sqlite:///{new}"))
    assert mine.manager.chain.checksums  # and all that a migration imports was imported for the other catalog
    for place in (tmp_path, *tmp_path.rglob("*")):
        os.chown(place, NOBODY, NOBODY)
    give_to_root(new, 0o444)
    code, message = unprivileged(tmp_path, lambda: told(mine.manager.prepare_catalog)) or ("", "")
    assert code == "catalog_not_ready"
    assert "new.db cannot be written" in message
    assert "belongs to root" in message


# --- no hard links --------------------------------------------------------------------------------------


@pytest.fixture
def no_links(monkeypatch) -> None:
    """Refuse hard links as exFAT, SMB and shared folders of virtual machines do."""

    def refused(source: Any, target: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", source)

    monkeypatch.setattr(os, "link", refused)


def test_unify_starts_and_serves_where_there_are_no_hard_links(no_links, parts: Parts) -> None:
    (user_id,) = add_tenants(parts, 1)
    add_task(parts.manager, user_id, "here")
    assert titles(parts.manager, user_id) == ["here"]


def test_without_links_a_taken_name_is_not_renamed_over(no_links, tmp_path: Path) -> None:
    """Of many that publish at once one gets the name, and its file stays."""
    path = tmp_path / "user_1.db"
    drafts = [tmp_path / f"{number}.new" for number in range(8)]
    for draft in drafts:
        write_durably(draft, draft.name.encode())
    won: list[Path] = []
    lost: list[Path] = []

    def show(draft: Path) -> None:
        try:
            publish(draft, path)
            won.append(draft)
        except DatabaseExistsError:
            lost.append(draft)

    together([partial(show, draft) for draft in drafts])
    assert (len(won), len(lost)) == (1, 7)
    assert path.read_text() == won[0].name


def test_a_name_that_a_killed_process_took_is_free_again_after_a_while(no_links, tmp_path: Path) -> None:
    path, draft = tmp_path / "user_1.db", tmp_path / "draft.new"
    write_durably(draft, b"whole")
    path.touch()
    with pytest.raises(DatabaseExistsError):
        publish(draft, path)
    long_ago = path.stat().st_mtime - 3600
    os.utime(path, (long_ago, long_ago))
    publish(draft, path)
    assert path.read_bytes() == b"whole"


def test_of_processes_that_make_a_catalog_at_once_without_links_all_find_it_whole(no_links, tmp_path: Path) -> None:
    path = tmp_path / "admin.db"
    together([lambda: make_empty_file(path)] * 8)
    assert path.stat().st_size > 0
    assert [place.name for place in tmp_path.iterdir()] == ["admin.db"]


def test_a_folder_that_cannot_be_written_is_not_taken_for_one_without_links(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    draft = tmp_path / "draft.new"
    write_durably(draft, b"whole")
    draft.chmod(0o644)
    folder.chmod(0o555)

    def work() -> str:
        try:
            publish(draft, folder / "user_1.db")
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "published"

    assert unprivileged(folder, work) == "EACCES"
    assert list(folder.iterdir()) == []
