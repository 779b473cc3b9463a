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


@pytest.fixture(autouse=True, scope="session")
def compile_once() -> Iterator[None]:
    """Compile each page template and each URL rule once: an application of its own for each test needs all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Flask, "jinja_options", Flask.jinja_options | {"bytecode_cache": CompiledTemplates()})
        # Werkzeug has no public way; nine tenths of making an application are spent here.
        patch.setattr(Rule, "_compile_builder", _compiled_once(Rule._compile_builder))
        yield


class Migrated:
    """Give copies of a migrated catalog on SQLite, and of the template for users' databases beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._catalog = folder / "admin.db"
        self._templates = folder / "users" / ".templates"

    def copy_for(self, settings: Settings) -> None:
        """Put copies where these settings want them, unless the catalog is on a server or there already."""
        wanted = sa.make_url(settings.admin_database_url)
        if wanted.get_backend_name() != "sqlite" or not wanted.database or Path(wanted.database).exists():
            return
        if not self._catalog.exists():
            self._make(settings)
        shutil.copyfile(self._catalog, wanted.database)
        users = settings.tenant_data_dir
        users.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copytree(self._templates, users / ".templates", dirs_exist_ok=True)

    def _make(self, settings: Settings) -> None:
        import compose

        draft = self._folder / "draft.db"
        parts = compose.build(
            replace(
                settings,
                admin_database_url=f"sqlite:///{draft}",
                tenant_data_dir=self._folder / "users",
                default_tenant_db_type="sqlite",
                multi_tenant_mode=True,
                pending_tenants=0,
            )
        )
        parts.manager.prepare_catalog()
        parts.close()
        shutil.copyfile(draft, self._catalog)  # whole: nobody has it open
        parts.manager.provision(parts.accounts.create("nobody@example.org").id)
        parts.close()


@pytest.fixture(scope="session")
def migrated_catalog(tmp_path_factory: pytest.TempPathFactory) -> Migrated:
    """Give what copies the migrated catalog: to migrate one takes as long as most tests."""
    return Migrated(tmp_path_factory.mktemp("migrated"))
