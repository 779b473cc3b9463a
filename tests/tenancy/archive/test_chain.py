"""One table of every kind of value, carried from product to product: what arrives is what was sent."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import archives
from tests.support.engines import missing, use
from tests.support.homes import home_of

INSTALLATION = "7e570a"


@pytest.mark.parametrize("engine", ["postgresql", "mysql", "sqlserver"])
def test_rows_are_equal_there_and_back(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    carry(["sqlite", use(request, engine), "sqlite"], tmp_path)


def test_rows_are_equal_at_each_stop_of_a_journey(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    stops = [use(request, "postgresql"), use(request, "mysql")]
    if missing("sqlserver") is None:
        stops.append(use(request, "sqlserver"))
    carry(["sqlite", *stops, "sqlite"], tmp_path)


def carry(stops: list[str], folder: Path) -> None:
    schema = archives.schema_in(folder)
    sums = []
    with ExitStack() as stack:
        home = home_of(stops[0], folder / "0", INSTALLATION)
        tenant = stack.enter_context(archives.database(home, schema, rows=True))
        for number, engine in enumerate(stops[1:], 1):
            archive, contents = archives.exported(home, tenant, schema)
            sums.append(contents)
            home = home_of(engine, folder / str(number), INSTALLATION)
            tenant = stack.enter_context(archives.database(home, schema))
            assert archives.load(home, tenant, schema, archive) == contents
        sums.append(archives.held(home, tenant, schema))
    assert sums[0].rows == {"zz_parents": 3, "values": len(archives.ROWS)}
    assert {contents.checksum for contents in sums} == {sums[0].checksum}
