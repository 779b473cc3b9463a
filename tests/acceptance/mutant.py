"""Take guards out of the code and see that somebody notices: the tests named beside each, or a checker from outside.

    python -m tests.acceptance.mutant all [--named] [--only NAME,...] [--tests-of REVISION]
    python -m tests.acceptance.mutant BUILD serve

The first changes one line of a copy of this project at a time (``mutations/``) and runs the tests that must fail then;
what they let through meets the whole suite, unless ``--named`` leaves it out. ``--tests-of`` takes the tests of another
revision, so that two suites can be compared by what they catch.

The second starts the application with its engines mixed up as a bug would do it. Now and then a tenant's connection
opens another tenant's file, or its lease is another tenant's engine. With owner filter and identity check both gone
foreign rows are shown: a checker that finds none finds nothing anywhere.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from repositories.base import scope
from tenancy import names
from tenancy.backends.access import Access
from tenancy.backends.sqlite.backend import SQLiteBackend
from tenancy.models import Tenant
from tenancy.routing import guards
from tenancy.routing.engines import EngineCache
from utils.cli import main

MIXED_UP = 0.2
PROJECT = Path(__file__).resolve().parents[2]
FEW = ("-p", "pytest_timeout")
"""Plugins for a few tests: to load all that are installed takes longer than most mutations."""


def take_owner_filter_out() -> None:
    """Let statements go to the database as wide as they were written."""
    scope.owned = lambda statement, owner: statement


def take_identity_check_out() -> None:
    """Believe of every connection that it leads where the catalog says."""
    guards.check_identity = lambda *_: None


def mix_files_up() -> None:
    """Open another tenant's file every few times: what the identity check is there for."""
    connect = SQLiteBackend.connect

    def connect_anywhere(self: SQLiteBackend, tenant: Tenant, access: Access) -> Any:
        if random.random() < MIXED_UP and tenant.user_id is not None:
            other = random.randint(1, 2 * tenant.user_id)
            if (self.data_dir / names.sqlite_file(other)).exists():
                tenant = replace(tenant, user_id=other, db_path=names.sqlite_file(other))
        return connect(self, tenant, access)

    SQLiteBackend.connect = connect_anywhere  # type: ignore[method-assign]  # this is the mutation


def mix_engines_up() -> None:
    """Lease another tenant's engine every few times: what the owner filter is there for."""
    current = EngineCache._current

    def current_or_any(self: EngineCache, tenant: Tenant) -> Any:
        entry, replaced = current(self, tenant)
        return random.choice([*self._entries.values()]) if random.random() < MIXED_UP else entry, replaced

    EngineCache._current = current_or_any  # type: ignore[method-assign]  # this is the mutation


BUILDS = {
    "no-guards": (take_owner_filter_out, take_identity_check_out, mix_files_up, mix_engines_up),
    "no-guards-files": (take_owner_filter_out, take_identity_check_out, mix_files_up),
    "no-owner-filter": (take_owner_filter_out, mix_files_up),
    "no-identity-check": (take_identity_check_out, mix_files_up, mix_engines_up),
}
"""The builds: each name with what is done to it."""


# --- one changed line at a time ---------------------------------------------------------------------------


class Mutation(NamedTuple):
    """Change one text of one file, which stands there once; the named tests must fail then."""

    name: str
    file: str
    text: str
    instead: str
    tests: tuple[str, ...]


def mutations() -> list[Mutation]:
    """Give all mutations there are."""
    from tests.acceptance.mutations import fences, guards, routing, seals, web

    return [each for module in (routing, guards, fences, seals, web) for each in module.MUTATIONS]


@contextmanager
def copied(tests_of: str | None = None) -> Iterator[Path]:
    """Give a copy of this project as it stands here; with ``tests_of`` its tests are those of another revision."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").decode().split("\0")
        for name in filter(None, listed):
            if (PROJECT / name).is_file() and not (tests_of and name.startswith("tests/")):
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(PROJECT / name, copy / name)
        if tests_of:
            subprocess.run(["tar", "-x", "-C", str(copy)], input=_git("archive", tests_of, "tests"), check=True)
        yield copy


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=PROJECT, stdout=subprocess.PIPE, check=True).stdout


def run(project: Path, tests: Iterable[str], *more: str) -> subprocess.CompletedProcess[str]:
    """Run tests in a project up to the first that fails; what could not be run at all is an error."""
    there = [test for test in tests if (project / test.partition("::")[0]).exists()]  # another revision may have fewer
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *(more or FEW), *there]
    env = os.environ | {"PYTHONPATH": str(project)} | ({} if more else {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    ran = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False)
    if ran.returncode not in (0, 1):
        raise RuntimeError(f"pytest ended with {ran.returncode}:\n{ran.stdout[-3000:]}{ran.stderr[-1000:]}")
    return ran


def caught(project: Path, mutation: Mutation, *, named: bool) -> bool:
    """Say whether the tests notice a mutation: those named beside it, or else the whole suite."""
    file = project / mutation.file
    before = file.read_text()
    file.write_text(mutated(before, mutation))
    try:
        noticed = run(project, mutation.tests).returncode != 0
        return noticed or (not named and run(project, ["tests"], "-n", "2").returncode != 0)
    finally:
        file.write_text(before)


def mutated(source: str, mutation: Mutation) -> str:
    if source.count(mutation.text) != 1:
        raise ValueError(f"{mutation.name}: its text is not there once in {mutation.file}")
    return source.replace(mutation.text, mutation.instead)


def run_all(argv: Sequence[str]) -> int:
    """Run the mutations that are asked for, and say which were caught; 0 where all were."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.mutant all")
    parser.add_argument("--named", action="store_true", help="leave survivors at the tests that are named beside them")
    parser.add_argument("--only", help="names of mutations, with commas between")
    parser.add_argument("--tests-of", metavar="REVISION", help="take the tests of this revision")
    asked = parser.parse_args(argv)
    names = asked.only.split(",") if asked.only else None
    chosen = [each for each in mutations() if names is None or each.name in names]
    survived = []
    with copied(asked.tests_of) as project:
        unharmed = run(project, dict.fromkeys(test for each in chosen for test in each.tests))
        if unharmed.returncode != 0:
            raise SystemExit(f"the named tests fail without any mutation:\n{unharmed.stdout[-3000:]}")
        for each in chosen:
            noticed = caught(project, each, named=asked.named)
            survived += [] if noticed else [each.name]
            print(f"{'caught' if noticed else 'SURVIVED':8} {each.name}", flush=True)  # noqa: T201 - the answer
    print(f"{len(chosen) - len(survived)} of {len(chosen)} caught")  # noqa: T201 - the answer
    return 1 if survived else 0


if __name__ == "__main__":
    word = sys.argv.pop(1)
    if word == "all":
        sys.exit(run_all(sys.argv[1:]))
    for mutate in BUILDS[word]:
        mutate()
    main()
