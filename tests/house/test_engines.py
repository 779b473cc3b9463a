"""The servers that the rest of the suite uses: they answer, each test has a database of its own, modes are pinned."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tenancy.errors import CatalogNotReadyError
from tests.support import engines

PROBE = sa.Table("probe", sa.MetaData(), sa.Column("name", sa.String(5), primary_key=True))


@pytest.mark.parametrize("engine", [*engines.ENGINES, *engines.TOOLS])
def test_an_engine_answers_or_is_named_in_the_closing_lines(request, engine):
    engines.use(request, engine)


@pytest.mark.parametrize("round_", [1, 2])
def test_every_test_begins_with_an_empty_database(catalog_engine, round_):
    assert sa.inspect(catalog_engine).get_table_names() == []
    PROBE.metadata.create_all(catalog_engine)


def test_what_is_committed_is_seen_by_the_next_transaction(catalog_engine):
    PROBE.metadata.create_all(catalog_engine)
    with catalog_engine.begin() as connection:
        connection.execute(PROBE.insert(), [{"name": "kept"}])
    with pytest.raises(ZeroDivisionError), catalog_engine.begin() as connection:
        connection.execute(PROBE.insert(), [{"name": "lost"}])
        raise ZeroDivisionError
    with catalog_engine.begin() as connection:
        assert connection.scalars(sa.select(PROBE.c.name)).all() == ["kept"]


def test_a_value_that_is_too_long_is_refused_rather_than_cut(catalog_engine):
    if catalog_engine.dialect.name == "sqlite":
        pytest.skip("SQLite knows no lengths: the application checks them")
    PROBE.metadata.create_all(catalog_engine)
    with pytest.raises(sa.exc.DataError), catalog_engine.begin() as connection:
        connection.execute(PROBE.insert(), [{"name": "too long"}])


def test_the_databases_of_tests_are_dropped(request, tmp_path):
    engine = engines.use(request, "postgresql")
    with engines.fresh_database(engine, tmp_path) as url:
        held_open = engines.open_engine(url)
        held_open.connect().close()
    held_open.dispose()
    with pytest.raises(CatalogNotReadyError, match="is not there"):
        held_open.connect()
