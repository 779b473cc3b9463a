"""An archive is read without this application, as docs/reference/archives.md says: by the programs age and zstd."""

from __future__ import annotations

import hashlib
import io
import re
import shlex
import subprocess
from pathlib import Path

import orjson
import pyrage
import pytest

from tenancy.archive.encryption import Recipients, encrypt
from tenancy.archive.format import Header
from tests.support import archives, hostile
from tests.support.engines import use
from tests.support.homes import home_of

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "archives.md").read_text()


@pytest.fixture
def exported(tmp_path: Path) -> tuple[bytes, object]:
    schema, home = archives.schema_in(tmp_path), home_of("sqlite", tmp_path)
    with archives.database(home, schema, rows=True) as tenant:
        return archives.exported(home, tenant, schema)


def test_the_command_of_the_page_gives_the_lines(request, tmp_path, exported):
    use(request, "age")
    archive, contents = exported
    (tmp_path / "backup.age").write_bytes(archive)
    (tmp_path / "identity.txt").write_text(archives.keys()[1] + "\n")
    (command,) = re.findall(r"^(age -d .*\| zstd -dc) > rows\.jsonl$", PAGE, re.MULTILINE)
    age, zstd = (shlex.split(part) for part in command.split("|"))
    with subprocess.Popen(age, cwd=tmp_path, stdout=subprocess.PIPE) as opened:
        lines = subprocess.run(zstd, stdin=opened.stdout, capture_output=True, check=True).stdout.splitlines(True)
    assert opened.returncode == 0
    assert Header.read(lines[0].strip()).key_ids == archives.recipients().key_ids
    last = orjson.loads(lines[-1])
    assert last["checksum"] == contents.checksum
    assert last["sha256"] == hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    assert last["tables"] == {name: [contents.rows[name], contents.checksums[name]] for name in contents.rows}


def test_a_tables_checksum_is_made_as_the_page_says(exported):
    archive, contents = exported
    plain = hostile.opened(archive).splitlines(True)
    begins = next(place for place, line in enumerate(plain) if line.startswith(b'{"table":"values"'))
    ends = next(place for place, line in enumerate(plain) if line.startswith(b'{"end":"values"'))
    names = [name for name, _ in orjson.loads(plain[begins])["columns"]]
    said = hashlib.sha256(orjson.dumps(names) + b"\n" + b"".join(plain[begins + 1 : ends]))
    assert contents.checksums["values"] == said.hexdigest()


@pytest.mark.parametrize("size", [0, 1, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 300_000])
def test_what_a_passphrase_protects_is_read_by_others(size):
    words, text, sink = "a passphrase of many words", bytes(size), io.BytesIO()
    encrypt([text[at : at + 1000] for at in range(0, size, 1000)], sink, Recipients.by_passphrase(words))
    assert pyrage.passphrase.decrypt(sink.getvalue(), words) == text
