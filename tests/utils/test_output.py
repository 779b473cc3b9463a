from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st

from utils import output
from utils.output import Progress, counted, plain, table


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "-"),
        ("", "-"),
        (0, "0"),
        (True, "yes"),
        (False, "no"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1))), "2026-01-02 02:04:05 UTC"),
        ("two\nlines", "two lines"),
        ("\x1b[31mred", "\ufffd[31mred"),
        (
            "user 1 is behind: run `unify db init 1` or call `manager.provision(1)`.",
            "user 1 is behind: run `unify db init 1`.",
        ),
        ("`unify users list` or `Accounts.list()` lists all users.", "`unify users list` lists all users."),
        (
            "make one (`unify credentials generate-key` or `keyring.generate_key()`).",
            "make one (`unify credentials generate-key`).",
        ),
        (
            "first (`unify users promote`, or `Accounts.promote()`); --force (`force=True`) overrides this.",
            "first (`unify users promote`); --force overrides this.",
        ),
    ],
)
def test_values_are_told_in_one_line(value, told):
    assert plain(value) == told


def test_one_thing_is_counted_in_the_singular():
    assert [counted(number, "database") for number in (0, 1, 2)] == ["0 databases", "1 database", "2 databases"]


@given(st.text())
def test_no_text_reaches_the_terminal_as_a_command(text):
    assert plain(text).isprintable()


def test_a_table_folds_nothing_that_a_program_may_read(capsys):
    table(("a", "b"), [("x" * 300, datetime(2026, 1, 1, tzinfo=UTC)), ("[red]", None)])
    lines = capsys.readouterr().out.splitlines()
    assert any("x" * 300 in line for line in lines)
    assert any("[red]" in line for line in lines)


def test_a_table_is_laid_out_alike_for_a_terminal_and_a_program(capsys, monkeypatch):
    rows = [("one", "漢字", 1), ("two with [words]", "", 22)]
    table(("name", "sign", "number"), rows)
    plainly = capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    table(("name", "sign", "number"), rows)
    folded = capsys.readouterr().out
    assert [line.rstrip() for line in folded.splitlines()] == plainly.splitlines()


def test_the_lines_of_a_long_table_are_not_laid_out_one_by_one(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(output, "_folded", lambda *_: pytest.fail("a hundred thousand rows took a minute"))
    table(("a", "b"), [(number, "x" * 300) for number in range(output.FOLDED_ROWS + 1)])
    assert len(capsys.readouterr().out.splitlines()) == output.FOLDED_ROWS + 3


def test_progress_stays_off_standard_output(capsys):
    with Progress("Working", 2) as progress:
        progress.step()
        progress.complain("one failed")
        progress.step()
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == ["one failed", "Working: 2 of 2"]
