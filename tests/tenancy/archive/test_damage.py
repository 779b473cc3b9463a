"""Nothing of an archive is believed that was changed or cut off, and what goes wrong on either side is told."""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tenancy.archive.encryption import Identities, Recipients, decrypting, encrypt, generate_identity
from tenancy.archive.load import reading
from tenancy.errors import (
    ArchiveDamagedError,
    ArchiveError,
    ArchiveHostileError,
    ArchiveKeyError,
    ClaimLostError,
    ConfigurationError,
)
from tenancy.models import Tenant
from tenancy.schema.tables import TENANT_VERSION_TABLE, tenancy_tables
from tests.support import archives, hostile
from tests.support.homes import Home, home_of

TRIES = 40
WORDS = "a passphrase of many words"
WAYS = {
    "keys": (archives.recipients, archives.identities),
    "passphrase": (lambda: Recipients.by_passphrase(WORDS), lambda: Identities.by_passphrase(WORDS)),
}


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [each.name for each in threading.enumerate() if each.name.startswith("unify-decrypt")] == []


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Any:
    recipients, identities = WAYS[request.param]
    return recipients(), identities()


def made(recipients: Recipients) -> bytes:
    """Give an archive of several chunks of the encryption."""
    rows = [hostile.row(n, n, random.Random(n).randbytes(400).hex()) for n in range(500)]
    sink = io.BytesIO()
    encrypt([hostile.one_table(*rows)], sink, recipients)
    return sink.getvalue()


def verify(archive: bytes, identities: Identities) -> Any:
    with reading(io.BytesIO(archive), identities) as found:
        return found.verify()


def test_an_archive_that_is_whole_is_accepted(way):
    recipients, identities = way
    assert verify(made(recipients), identities).rows == {"things": 500}


@pytest.mark.parametrize("seed", range(TRIES))
def test_a_flipped_bit_is_found(seed):
    archive = bytearray(made(archives.recipients()))
    place = random.Random(seed).randrange(len(archive) * 8)
    archive[place // 8] ^= 1 << place % 8
    with pytest.raises((ArchiveDamagedError, ArchiveKeyError)):
        verify(bytes(archive), archives.identities())


@pytest.mark.parametrize("seed", range(TRIES))
def test_a_cut_tail_is_found(seed):
    archive = made(archives.recipients())
    with pytest.raises((ArchiveDamagedError, ArchiveKeyError)):
        verify(archive[: random.Random(seed).randrange(len(archive))], archives.identities())


def test_bits_tails_and_ends_are_found_under_a_passphrase():
    archive, identities = made(Recipients.by_passphrase(WORDS)), Identities.by_passphrase(WORDS)
    chunk = 64 * 1024 + 16
    changed = [archive[:-1], archive[: len(archive) - len(archive) % chunk], archive + b"x", archive[:100], b""]
    for place in (0, 30, 60, 120, 200, len(archive) // 2, len(archive) - 1):
        changed.append(archive[:place] + bytes([archive[place] ^ 4]) + archive[place + 1 :])
    for each in changed:
        with pytest.raises((ArchiveDamagedError, ArchiveKeyError)):
            verify(each, identities)


def test_chunks_that_changed_places_are_found():
    archive, identities = made(Recipients.by_passphrase(WORDS)), Identities.by_passphrase(WORDS)
    start = archive.index(b"--- ")
    start = archive.index(b"\n", start) + 1 + 16
    chunk = 64 * 1024 + 16
    swapped = archive[start + chunk : start + 2 * chunk] + archive[start : start + chunk]
    with pytest.raises(ArchiveDamagedError):
        verify(archive[:start] + swapped + archive[start + 2 * chunk :], identities)


def test_bytes_after_the_end_are_found(way):
    recipients, identities = way
    with pytest.raises(ArchiveDamagedError):
        verify(made(recipients) + b"x", identities)


def test_other_keys_open_nothing():
    archive = made(archives.recipients())
    for other in (Identities.of([generate_identity()[1]]), Identities.of([]), Identities.by_passphrase(WORDS)):
        with pytest.raises(ArchiveKeyError):
            verify(archive, other)
    by_words = made(Recipients.by_passphrase(WORDS))
    for other in (archives.identities(), Identities.by_passphrase("another one of as many words")):
        with pytest.raises(ArchiveKeyError):
            verify(by_words, other)


def test_any_of_several_keys_opens_an_archive():
    other, secret = generate_identity()
    archive = made(Recipients.of([archives.keys()[0], other]))
    assert verify(archive, Identities.of([secret])) == verify(archive, archives.identities())


@pytest.mark.parametrize("text", ["", "age1", "age1" + "q" * 58, "a secret key"])
def test_what_is_no_public_key_is_refused(text):
    text = archives.keys()[1] if text == "a secret key" else text
    with pytest.raises(ConfigurationError, match="BACKUP_RECIPIENTS") as refusal:
        Recipients.of([text])
    assert archives.keys()[1] not in str(refusal.value)


def test_what_is_no_secret_key_is_refused_without_showing_it():
    with pytest.raises(ConfigurationError) as refusal:
        Identities.of([archives.keys()[1][:-1]])
    assert archives.keys()[1][:-1] not in f"{refusal.value} {refusal.value.__cause__}"
    assert archives.keys()[1] not in repr(archives.identities())
    assert WORDS not in f"{Recipients.by_passphrase(WORDS)!r} {Identities.by_passphrase(WORDS)!r}"


def test_without_recipients_the_command_that_makes_keys_is_named():
    with pytest.raises(ArchiveKeyError, match="unify credentials generate-identity"):
        Recipients.of([])


def test_a_short_passphrase_is_refused():
    with pytest.raises(ConfigurationError, match="at least 16"):
        Recipients.by_passphrase("short")


class Failing(io.BytesIO):
    """Fail after some bytes, as a full disk or a lost connection does."""

    def write(self, data: Any) -> int:
        if self.tell() > 50_000:
            raise OSError(28, "No space left on device")
        return super().write(data)

    def read(self, most: int | None = -1) -> bytes:
        if self.tell() > 50_000:
            raise ConnectionResetError("the storage hung up")
        return super().read(most)


def test_an_error_of_the_storage_gets_out_as_it_is(way):
    recipients, identities = way
    archive = made(recipients)
    with pytest.raises(ConnectionResetError), reading(Failing(archive), identities) as found:
        found.verify()
    with pytest.raises(OSError, match="No space"):
        encrypt([archive], Failing(), recipients)


def test_whoever_stops_reading_leaves_nothing_behind(way):
    recipients, identities = way
    with reading(io.BytesIO(made(recipients)), identities) as found:
        assert found.header.user_id == 1
    with pytest.raises(KeyError), reading(io.BytesIO(made(recipients)), identities):
        raise KeyError


# --- exports ----------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_of("sqlite", tmp_path)


@pytest.fixture
def refused(home: Home, tmp_path: Path) -> Iterator[Callable[[str], ArchiveError]]:
    """Give a function that changes a database, and gives the error of its export."""
    schema = archives.schema_in(tmp_path)
    with archives.database(home, schema, rows=True) as tenant:

        def give(statement: str) -> ArchiveError:
            with closing(home.connect(tenant)) as driver:
                driver.execute("PRAGMA foreign_keys = OFF")
                driver.execute(statement)
            with pytest.raises(ArchiveError) as refusal:
                archives.exported(home, tenant, schema)
            return refusal.value

        yield give


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ("big = 'three'", "big"),
        ("big = 1.5", "big"),
        ("line = X'00'", "line"),
        ("flag = 7", "flag"),
        ("moment = 'yesterday'", "moment"),
        ("day = '2026-1-1'", "day"),
        ("amount = 'much'", "amount"),
        ("real = 9e999", "real"),
        ("real = 'x'", "real"),
        ("raw = 'text'", "raw"),
        ("parent = 'no uuid'", "parent"),
        ("words = 'a' || char(0) || 'b'", "words"),
    ],
)
def test_a_value_that_not_every_product_keeps_is_named(refused, change, column):
    error = refused(f"UPDATE \"values\" SET {change} WHERE key = 'all'")
    assert "table values" in error.message
    assert error.fields["column"] == column


def test_a_row_that_is_too_long_is_named_by_its_key(refused):
    error = refused("UPDATE \"values\" SET words = printf('%.*c', 7340032, 'x') WHERE key = 'Ä'")
    assert "table values: the row (1, Ä) is longer than 7 MiB" in error.message


def test_rows_just_below_the_limit_come_back(home, tmp_path):
    schema = archives.schema_in(tmp_path)
    with archives.database(home, schema, rows=True) as tenant:
        with closing(home.connect(tenant)) as driver:
            driver.execute("UPDATE \"values\" SET words = printf('%.*c', 7339000, 'x')")
        archive, contents = archives.exported(home, tenant, schema)
        assert verify(archive, archives.identities()) == contents


def test_moments_that_raw_sql_wrote_in_other_forms_are_carried(home, tmp_path):
    schema = archives.schema_in(tmp_path)
    with archives.database(home, schema, rows=True) as tenant:
        before = archives.held(home, tenant, schema)
        for text in ("2026-03-01T00:59:59.999999+01:00", "2026-02-28T23:59:59.999999Z", "2026-02-28 23:59:59.999999"):
            with closing(home.connect(tenant)) as driver:
                driver.execute("UPDATE \"values\" SET moment = ? WHERE key = 'all'", (text,))
            assert archives.held(home, tenant, schema) == before


def test_a_lost_claim_stops_an_export(home, tmp_path):
    schema = archives.schema_in(tmp_path)

    def lost() -> None:
        raise ClaimLostError("the claim is gone")

    with archives.database(home, schema, rows=True) as tenant, pytest.raises(ClaimLostError):
        archives.exported(home, tenant, schema, check=lost)


# --- loads ------------------------------------------------------------------------------------------------


@pytest.fixture
def load(home: Home, tmp_path: Path) -> Iterator[Callable[[bytes], Any]]:
    schema = archives.schema_in(tmp_path)
    with archives.database(home, schema) as tenant:
        yield lambda archive: archives.load(home, tenant, schema, archive)


PARENT_COLUMNS = [["user_id", "int"], ["id", "uuid"], ["above", "uuid"]]


def test_a_row_without_its_parent_is_refused(load):
    orphan = hostile.row(1, "1" * 32, "2" * 32)
    line = hostile.table("zz_parents", PARENT_COLUMNS)
    with pytest.raises(ArchiveDamagedError, match="zz_parents"):
        load(hostile.sealed(hostile.one_table(orphan, line=line)))


def test_a_table_with_other_columns_or_of_another_schema_is_refused(load):
    for line in (hostile.table("zz_parents", PARENT_COLUMNS[:2]), hostile.table("elsewhere")):
        with pytest.raises(ArchiveError, match=r"other columns|not in the schema"):
            load(hostile.sealed(hostile.one_table(line=line)))


def test_a_table_of_the_schema_is_not_made_anew(load):
    line = hostile.table("zz_parents", own=hostile.OWN)
    with pytest.raises(ArchiveHostileError):
        load(hostile.sealed(hostile.one_table(line=line)))


def test_what_was_not_believed_is_not_there(home: Home, tmp_path: Path) -> None:
    schema, other = archives.schema_in(tmp_path), home_of("sqlite", tmp_path / "other")
    with archives.database(home, schema, rows=True) as full, archives.database(other, schema) as empty:
        archive, _ = archives.exported(home, full, schema)
        with pytest.raises(ArchiveDamagedError):
            archives.load(other, empty, schema, archive[:-1])
        assert archives.held(other, empty, schema).total == 0


def test_only_some_tables_are_loaded_and_counted(home: Home, tmp_path: Path) -> None:
    schema, other = archives.schema_in(tmp_path), home_of("sqlite", tmp_path / "other")
    with archives.database(home, schema, rows=True) as full, archives.database(other, schema) as empty:
        archive, contents = archives.exported(home, full, schema)
        assert archives.load(other, empty, schema, archive, only=["zz_parents"]) == contents.only(["zz_parents"])
        assert archives.held(other, empty, schema).rows == {"zz_parents": 3, "values": 0}


def test_the_same_rows_give_the_same_bytes(home: Home, tmp_path: Path) -> None:
    schema, other = archives.schema_in(tmp_path), home_of("sqlite", tmp_path / "other")

    def plain(home: Home, tenant: Tenant) -> bytes:
        archive, _ = archives.exported(home, tenant, schema)
        with decrypting(io.BytesIO(archive), archives.identities()) as pieces:
            return b"".join(pieces)

    with archives.database(home, schema, rows=True) as one, archives.database(other, schema, rows=True) as two:
        assert plain(home, one) == plain(other, two)
        assert {TENANT_VERSION_TABLE, *tenancy_tables.tables} & archives.held(home, one, schema).rows.keys() == set()
