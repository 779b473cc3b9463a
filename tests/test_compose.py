"""Hold the start to settings that this version can serve."""

from __future__ import annotations

import sys

import pytest

import compose
from tenancy.errors import UnsupportedBackendError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEFAULT_TENANT_DB_TYPE", "sqlserver"),
        ("SHARED_DATABASE_URL", "mssql+pyodbc://sa:hush-hush-hush@db/rows"),
    ],
)
def test_a_database_without_its_driver_stops_the_start_and_names_its_setting(make_settings, monkeypatch, name, value):
    monkeypatch.setitem(sys.modules, "tenancy.backends.sqlserver.backend", None)
    with pytest.raises(UnsupportedBackendError) as refused:
        compose.build(make_settings(**{name: value}))
    assert refused.value.field == name
    assert refused.value.message.startswith(f"{name}: ")
    assert "hush" not in refused.value.message
