"""Arguments are given alike by commands, forms and programs, and what cannot be is refused by name."""

from __future__ import annotations

import pytest

from tenancy.errors import ConfigurationError
from tenancy.jobs.kinds import Argument, Kind, Kinds

BACKUP = Kind(
    "backup",
    "Back up.",
    lambda run, arguments: None,
    (
        Argument("user", "Whose.", positional=True),
        Argument("all", "Everybody's.", "switch"),
        Argument("keep", "What to keep."),
        Argument("at_most", "How many.", "number"),
    ),
)
NEEDS = Kind("fleet_run", "Work.", lambda run, arguments: None, (Argument("run_id", "", "number", True, True),))


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ([], {}),
        (["--all"], {"all": True}),
        (["ada@example.org"], {"user": "ada@example.org"}),
        (["--keep", "daily=7,weekly=4"], {"keep": "daily=7,weekly=4"}),
        (["--keep=daily=7"], {"keep": "daily=7"}),
        (["--at-most", "3", "7"], {"at_most": 3, "user": "7"}),
        (["--at-most=0"], {"at_most": 0}),
    ],
)
def test_words_are_read_as_a_command_has_them(words, read):
    assert BACKUP.read(words) == read


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["--everything"], "--everything"),
        (["a", "b"], "b"),
        (["--all=yes"], "--all"),
        (["--keep"], "keep"),
        (["--keep", "a", "--keep", "b"], "--keep"),
        (["--at-most", "many"], "at_most"),
        (["--at-most", "-1"], "at_most"),
        (["--keep", ""], "keep"),
        (["--keep", "x" * 5000], "keep"),
        (["a\x00b"], "user"),
    ],
)
def test_words_that_cannot_be_are_refused(words, field):
    with pytest.raises(ConfigurationError, match=r"^backup ") as refused:
        BACKUP.read(words)
    assert refused.value.field == field


def test_a_program_gives_values_and_leaves_out_what_it_does_not_want():
    assert BACKUP.checked({"all": False, "user": None, "at_most": 5}) == {"at_most": 5}
    for wrong in ({"all": "yes"}, {"at_most": True}, {"at_most": 1.5}, {"keep": 3}, {"more": 1}):
        with pytest.raises(ConfigurationError):
            BACKUP.checked(wrong)
    with pytest.raises(ConfigurationError, match="needs RUN_ID"):
        NEEDS.checked({})


def test_a_kind_shows_how_it_is_typed():
    assert BACKUP.words == "backup [USER] [--all] [--keep KEEP] [--at-most AT_MOST]"
    assert NEEDS.words == "fleet_run RUN_ID"


def test_an_unknown_kind_is_told_with_those_that_there_are():
    kinds = Kinds([BACKUP, Kind("work", "", NEEDS.handler, schedulable=False)])
    with pytest.raises(
        ConfigurationError, match=r"there is no job 'bakup' \(is backup meant\?\). There is: backup, work"
    ):
        kinds.get("bakup")
    with pytest.raises(ConfigurationError, match="There is: backup\\."):
        kinds.to_schedule("work")
    with pytest.raises(ConfigurationError, match="none yet"):
        Kinds().get("x")
