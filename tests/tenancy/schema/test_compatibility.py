"""A revision that breaks the code before it has to say so, and is named with the column where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mssql, mysql

from tenancy.schema.chain import Chain
from tenancy.schema.compatibility import holds
from tenancy.types import KeyText, Line, LongText, RowId, Timestamp
from tests.support.applications import revision
from tests.support.revisions import unmarked_breaking_changes

FIRST = """
op.create_table("shelves", sa.Column("id", sa.Integer, primary_key=True))
op.create_table(
    "books",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("title", sa.String(200), nullable=False, server_default="?"),
    sa.Column("subtitle", sa.String(200)),
    sa.Column("pages", sa.Integer),
    sa.Column("shelf", sa.Integer),
    sa.Column("isbn", sa.String(13), sa.CheckConstraint("isbn <> ''", name="ck_isbn")),
    sa.UniqueConstraint("isbn", name="uq_isbn"),
)
"""
REBUILT = "with op.batch_alter_table('books') as batch:\n    "

BROKEN = {
    "drops or renames column books.pages": "op.drop_column('books', 'pages')",
    "drops or renames column books.title": REBUILT + "batch.alter_column('title', new_column_name='name')",
    "drops table shelves": "op.drop_table('shelves')",
    "adds column books.year, which may not be NULL and has no server default": "op.add_column('books', "
    "sa.Column('year', sa.Integer, nullable=False))",
    "narrows or changes the type of column books.title": REBUILT
    + "batch.alter_column('title', type_=sa.String(100), existing_type=sa.String(200))",
    "narrows or changes the type of column books.pages": REBUILT
    + "batch.alter_column('pages', type_=sa.SmallInteger(), existing_type=sa.Integer())",
    "forbids NULL in column books.subtitle": REBUILT + "batch.alter_column('subtitle', nullable=False)",
    "takes the server default from column books.title": REBUILT + "batch.alter_column('title', server_default=None)",
    "makes books.title unique": "op.create_index('uq', 'books', ['title'], unique=True)",
    "makes books.subtitle, books.title unique": REBUILT + "batch.create_unique_constraint('uq', ['title', 'subtitle'])",
    "checks column books.pages anew: pages > 0": REBUILT + "batch.create_check_constraint('ck', 'pages > 0')",
    "holds books.shelf to rows of shelves": REBUILT + "batch.create_foreign_key('fk', 'shelves', ['shelf'], ['id'])",
}
KIND = [
    "op.add_column('books', sa.Column('year', sa.Integer))",
    "op.add_column('books', sa.Column('year', sa.Integer, nullable=False, server_default='0'))",
    "op.create_table('people', sa.Column('id', sa.Integer, primary_key=True), sa.Column('n', sa.Integer, unique=True))",
    "op.create_index('ix', 'books', ['title'])",
    "op.create_index('uq', 'books', ['isbn', 'title'], unique=True)",
    REBUILT + "batch.drop_constraint('uq_isbn')",
    REBUILT + "batch.alter_column('title', type_=sa.Text(), existing_type=sa.String(200))",
    REBUILT + "batch.alter_column('pages', type_=sa.BigInteger(), existing_type=sa.Integer())",
    REBUILT + "batch.alter_column('title', nullable=True)",
    "with op.batch_alter_table('books') as batch:\n"
    "    batch.add_column(sa.Column('lent', sa.Integer))\n"
    "    batch.create_foreign_key('fk', 'books', ['shelf', 'lent'], ['isbn', 'id'])",
    "op.execute('DELETE FROM books')",
]


@pytest.fixture
def connection() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def told(connection: sa.Connection, folder: Path, body: str, *, destructive: bool = False) -> list[str]:
    revision(folder, "0001", None, FIRST)
    second = revision(folder, "0002", "0001", body)
    second.write_text(second.read_text() + f"\ndestructive = {destructive}\n")
    return unmarked_breaking_changes(Chain(folder, "version"), connection, transactional_ddl=True)


@pytest.mark.parametrize("what", BROKEN)
def test_what_the_code_before_could_not_live_with_is_named(connection, tmp_path, what):
    lines = told(connection, tmp_path, BROKEN[what])
    assert any(line.startswith(f"revision 0002 is not marked destructive = True and {what}") for line in lines), lines
    assert len(lines) == 1


@pytest.mark.parametrize("what", BROKEN)
def test_what_says_that_it_is_destructive_may_be(connection, tmp_path, what):
    assert told(connection, tmp_path, BROKEN[what], destructive=True) == []


@pytest.mark.parametrize("body", KIND)
def test_what_the_code_before_does_not_notice_is_let_be(connection, tmp_path, body):
    assert told(connection, tmp_path, body) == []


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        (sa.String(20), sa.String(19)),
        (sa.Text(), sa.String(5)),
        (mysql.LONGTEXT(), mysql.TEXT()),
        (mysql.TEXT(), mysql.VARCHAR(100)),
        (mysql.DATETIME(fsp=6), mysql.DATETIME()),
        (mssql.NVARCHAR(20), mssql.VARCHAR(20)),
        (mssql.NVARCHAR(), mssql.NVARCHAR(20)),
        (mssql.DATETIME2(6), mssql.DATETIME2(3)),
        (mssql.VARBINARY(200), mssql.VARBINARY(100)),
        (sa.BigInteger(), sa.Integer()),
        (mysql.INTEGER(unsigned=True), mysql.INTEGER()),
        (sa.Numeric(10, 2), sa.Numeric(9, 2)),
        (sa.Date(), sa.Integer()),
        (sa.DateTime(), sa.Date()),
        (sa.String(5, collation="C"), sa.String(5)),
    ],
)
def test_a_narrower_type_holds_less(wide, narrow):
    assert holds(wide, wide)
    assert not holds(narrow, wide)


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (sa.String(20), sa.String(19)),
        (sa.Text(), sa.String(19)),
        (mysql.LONGTEXT(), mysql.VARCHAR(100)),
        (sa.BigInteger(), sa.SmallInteger()),
        (sa.Numeric(12, 4), sa.Numeric(8, 2)),
        (mysql.DATETIME(fsp=6), mysql.DATETIME()),
    ],
)
def test_a_wider_type_holds_all(new, old):
    assert holds(new, old)


@pytest.mark.parametrize("kind", [RowId(), Line(20), LongText(), KeyText(20), Timestamp()], ids=repr)
def test_the_houses_types_hold_themselves(kind):
    assert holds(kind, kind)
