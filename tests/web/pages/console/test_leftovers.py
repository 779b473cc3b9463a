"""The console's list of databases that were left behind."""

from __future__ import annotations

import pytest

from tenancy import names
from tenancy.catalog import leftovers
from tenancy.catalog.leftovers import Reason
from tenancy.catalog.tables import leftover_databases

PATH = "/admin/leftovers"


@pytest.fixture
def leave(parts, user):
    """Give a function that leaves a copy of a user's database behind."""

    def leave(epoch=98, **changes):
        place = parts.manager.tenant_of(user.id)
        file = parts.settings.tenant_data_dir / names.sqlite_file(user.id, epoch)
        if not changes:
            file.write_bytes((parts.settings.tenant_data_dir / place.db_path).read_bytes())
        place = place.with_(**{"db_path": file.name, "epoch": epoch} | changes)
        if changes:
            place = place.with_(sealed_password=parts.manager.services.keyring.seal("hunter2", place.binding))
        with parts.catalog.writing() as connection:
            left = leftovers.add(connection, place, Reason.REPLACED)
        return left, file

    return leave


@pytest.fixture
def unreached(leave):
    """Leave one behind whose server does not answer."""
    server = {"db_type": "postgresql", "db_path": None, "db_host": "127.0.0.1", "db_port": 1, "db_name": "unify_x"}
    return leave(**server, db_user="u", origin="admin")[0]


def actions(parts):
    return [(row["action"], row["detail"].get("how")) for row in parts.manager.audit.page(action="leftover.remove")]


def test_one_is_listed_removed_and_in_the_audit_log(root, parts, leave, user):
    assert "Nothing was left behind" in root.get(PATH).html
    left, file = leave()
    assert PATH in root.get("/admin/health").links
    page = root.get(PATH)
    for shown in (file.name, f"user {user.id}", "Its user has another database now.", "unify db leftovers --remove"):
        assert shown in page.html
    asked = root.get(f"{PATH}/{left.id}/remove")
    assert file.exists(), "to ask changes nothing"
    assert "unify db leftovers --remove" in asked.html
    done = root.send(f"{PATH}/{left.id}/remove")
    assert (done.status_code, done.location) == (303, PATH)
    assert f"{file.name} has been removed." in root.get(PATH).html
    assert not file.exists()
    assert parts.manager.leftovers.listed() == []
    assert actions(parts) == [("leftover.remove", "removed")]
    (row,) = parts.manager.audit.page(action="leftover.remove")
    assert row["actor_email"] == "root@example.org"
    root.post(f"{PATH}/{left.id}/remove")
    assert "no longer on the list" in root.get(PATH).html


def test_what_cannot_be_removed_stays_with_what_is_in_the_way_until_it_is_confirmed(root, parts, unreached):
    root.send(f"{PATH}/{unreached.id}/remove")
    page = root.get(PATH).html
    assert "could not be removed" in page
    assert "connection_refused" in page
    assert "last tried" in page
    assert f"unify db leftovers --confirm {unreached.id}" in root.get(f"{PATH}/{unreached.id}/confirm").html
    assert root.send(f"{PATH}/{unreached.id}/confirm").location == PATH
    assert "PostgreSQL database unify_x on 127.0.0.1:1 has been taken off the list." in root.get(PATH).html
    assert parts.manager.leftovers.listed() == []
    assert "hunter2" not in page
    assert actions(parts) == [("leftover.remove", "confirmed")]


def test_the_list_is_paged(root, parts, leave):
    place, _ = leave()
    with parts.catalog.writing() as connection:
        for number in range(50):
            leftovers.add(connection, place.with_(db_path=f"more{number}.db"), Reason.HALF_MADE)
    first = root.get(PATH)
    assert "more48.db" in first.html
    assert "more49.db" not in first.html
    following = next(link for link in first.links if "after=" in link)
    second = root.get(following)
    assert "more49.db" in second.html
    assert PATH in second.links
    root.get(f"{PATH}?after=x", 400)
    assert "Nothing further" in root.get(f"{PATH}?after={'9' * 18}").html


def test_a_damaged_row_hides_no_other(root, parts, leave):
    leave()
    with parts.catalog.writing() as connection:
        connection.execute(leftover_databases.update(), {"db_port": 5432})
        connection.exec_driver_sql("UPDATE leftover_databases SET db_password = CAST(x'ff' AS TEXT)")
    _, second = leave(99)
    page = root.get(PATH).html
    assert "damaged row" in page
    assert second.name in page


@pytest.mark.parametrize("key", ["0", "99", str(2**31), "9" * 60, "-1", "x"])
def test_one_that_is_not_there_is_404_to_ask_for(root, key):
    for action in ("remove", "confirm"):
        root.get(f"{PATH}/{key}/{action}", 404)


def test_everybody_else_is_refused(ada, visit, parts, leave):
    left, file = leave()
    for path in (PATH, f"{PATH}/{left.id}/remove", f"{PATH}/{left.id}/confirm"):
        ada.get(path, 403)
        assert visit().client.get(path).status_code == 302
        if path != PATH:
            assert ada.post(path).status_code == 403
    assert file.exists()
    assert len(parts.manager.leftovers.listed()) == 1
