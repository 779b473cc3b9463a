"""Do once in a process what every test would do alike: a pytest plugin, loaded by ``tests/conftest.py``.

None of it is what a test looks at. The catalog's migrations, templates of pages and URL rules give the same for the
same input, and each has tests of its own that go the whole way.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from werkzeug.routing import Rule

from settings import Settings
from tenancy.backends.base import Blueprint
from tenancy.backends.sqlite.templates import Templates


class CompiledTemplates(BytecodeCache):
    """Keep compiled templates in memory, by the checksum of their source."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        kept = self._kept.get((bucket.key, bucket.checksum))
        if kept is not None:
            bucket.bytecode_from_string(kept)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._kept[bucket.key, bucket.checksum] = bucket.bytecode_to_string()


def _compiled_once(compile_builder: Callable[..., Any]) -> Callable[..., Any]:
    kept: dict[Any, Any] = {}

    def compiled(self: Rule, append_unknown: bool = True) -> Any:
        key = (self.rule, tuple(self._trace), repr(self.defaults), append_unknown)
        if key not in kept:
            kept[key] = compile_builder(self, append_unknown)
        return kept[key]

    return compiled


def _built_once(make: Callable[..., None]) -> Callable[..., None]:
    kept: dict[str, bytes] = {}

    def built(self: Templates, path: Path, blueprint: Blueprint) -> None:
        if blueprint.fingerprint in kept:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(kept[blueprint.fingerprint])
        else:
            make(self, path, blueprint)
            kept[blueprint.fingerprint] = path.read_bytes()

    return built


@pytest.fixture(autouse=True, scope="session")
def make_once() -> Iterator[None]:
    """Compile each page template and each URL rule once, and run each schema's revisions once for SQLite.

    Nearly every test makes an application of its own or a user's database in a folder of its own.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Templates, "_make", _built_once(Templates._make))
        patch.setattr(Flask, "jinja_options", Flask.jinja_options | {"bytecode_cache": CompiledTemplates()})
        # Werkzeug has no public way; nine tenths of making an application are spent here.
        patch.setattr(Rule, "_compile_builder", _compiled_once(Rule._compile_builder))
        yield


class Migrated:
    """Give copies of a migrated catalog on SQLite."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._catalog = folder / "admin.db"

    def copy_for(self, settings: Settings) -> None:
        """Put a copy where these settings want their catalog, unless it is on a server or there already."""
        wanted = sa.make_url(settings.admin_database_url)
        if wanted.get_backend_name() != "sqlite" or not wanted.database or Path(wanted.database).exists():
            return
        if not self._catalog.exists():
            self._make(settings)
        shutil.copyfile(self._catalog, wanted.database)

    def _make(self, settings: Settings) -> None:
        import compose

        draft = self._folder / "draft.db"
        parts = compose.build(
            replace(
                settings,
                admin_database_url=f"sqlite:///{draft}",
                default_tenant_db_type="sqlite",
                multi_tenant_mode=True,
                pending_tenants=0,
            )
        )
        parts.manager.prepare_catalog()
        parts.close()
        draft.replace(self._catalog)  # whole: nobody has it open


@pytest.fixture(scope="session")
def migrated_catalog(tmp_path_factory: pytest.TempPathFactory) -> Migrated:
    """Give what copies the migrated catalog: to migrate one takes as long as most tests."""
    return Migrated(tmp_path_factory.mktemp("migrated"))
