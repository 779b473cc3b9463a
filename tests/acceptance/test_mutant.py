"""The mutations still meet the code and name tests that are there; two of them are run, so that running them is tested.

All of them are run by hand: ``python -m tests.acceptance.mutant all``.
"""

from __future__ import annotations

import re

import pytest

from tests.acceptance.mutant import PROJECT, Mutation, copied, mutated, mutations, run_all

ALL = {each.name: each for each in mutations()}


def test_there_are_enough_and_each_has_a_name_of_its_own():
    assert len(ALL) == len(mutations()) >= 40


@pytest.mark.parametrize("name", ALL)
def test_a_mutation_changes_one_place_and_names_tests_that_are_there(name):
    mutation = ALL[name]
    compile(mutated((PROJECT / mutation.file).read_text(), mutation), mutation.file, "exec")
    for test in mutation.tests:
        file, *inside = test.split("::")
        text = (PROJECT / file).read_text()
        assert all(re.search(rf"^ *(def|class) {part}\b", text, re.MULTILINE) for part in inside), test


@pytest.mark.timeout(300)  # seconds: three runs of pytest
def test_a_removed_guard_is_caught_and_a_change_of_nothing_is_not(monkeypatch, capsys):
    guard = ALL["mark-over-a-later-claim"]
    guard = guard._replace(tests=("tests/tenancy/schema/test_identity.py",))
    nothing = Mutation(
        "nothing",
        guard.file,
        "changed.rowcount != 1:\n        _refuse",
        "changed.rowcount < 1:\n        _refuse",
        guard.tests,
    )
    monkeypatch.setattr("tests.acceptance.mutant.mutations", lambda: [guard, nothing])
    assert run_all(["--named"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "caught   mark-over-a-later-claim",
        "SURVIVED nothing",
        "1 of 2 caught",
    ]


def test_the_copy_is_of_what_stands_here():
    with copied() as project:
        assert (project / "tests/acceptance/test_mutant.py").read_text() == (
            PROJECT / "tests/acceptance/test_mutant.py"
        ).read_text()
        assert not (project / ".venv").exists()
