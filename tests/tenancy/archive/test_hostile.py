"""Archives that break a rule of the format are refused, soon and in bounded memory, whoever encrypted them."""

from __future__ import annotations

import io
import time

import pytest

from tenancy.archive.load import reading
from tenancy.errors import ArchiveDamagedError, ArchiveHostileError
from tests.support import archives, hostile
from tests.support.homes import home_of

SOON_S = 20.0
"""Four times what tests/acceptance/hostile.py allows: here other tests run beside."""


def verify(archive: bytes) -> None:
    with reading(io.BytesIO(archive), archives.identities()) as found:
        found.verify()


def test_what_is_made_here_is_accepted_unless_something_is_wrong_with_it():
    verify(hostile.sealed(hostile.one_table(hostile.GOOD)))
    verify(hostile.sealed(hostile.one_table(line=hostile.table(own=hostile.OWN))))
    verify(hostile.sealed(hostile.packed(hostile.archive([]))))


@pytest.mark.parametrize("case", hostile.CASES)
def test_a_hostile_archive_is_refused(case: str) -> None:
    archive = hostile.sealed(hostile.CASES[case]())
    begun = time.monotonic()
    with pytest.raises(ArchiveDamagedError):
        verify(archive)
    assert time.monotonic() - begun < SOON_S


@pytest.mark.parametrize(
    "name", ["tenancy_identity", "Tenancy_Ledger", "tenant_version", "TENANT_VERSION", "values", "Values"]
)
def test_a_table_of_the_house_is_not_made_as_the_tenants_own(name: str, tmp_path) -> None:
    (archive,) = hostile.smuggled(name).values()
    schema, home = archives.schema_in(tmp_path), home_of("sqlite", tmp_path)
    with archives.database(home, schema) as tenant, pytest.raises(ArchiveHostileError, match="name of a table"):
        archives.load(home, tenant, schema, archive)


def test_a_header_of_age_without_an_end_is_refused():
    endless = b"age-encryption.org/v1\n" + b"-> X25519 aaaa\nbbbb\n" * 10**6
    with pytest.raises(ArchiveDamagedError):
        verify(endless)
