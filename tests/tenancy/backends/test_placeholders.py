"""Placeholders: a question mark is one where the database would take it for one, and no other character changes.

A model writes statements piece by piece and knows of each piece what it is; the translation must agree.
Then statements run on the databases themselves, and every text must come back as it was written.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import assume, example, given, settings, strategies as st

from tenancy.backends.placeholders import Rules, translate
from tenancy.backends.sqlite.backend import SQLiteBackend
from tenancy.errors import ConfigurationError

SQLITE = SQLiteBackend.rules
POSTGRESQL = Rules(mark="%s", escape_strings=True, dollar_quotes=True, nested_comments=True)
MYSQL = Rules(mark="%s", backticks=True, backslash=True, hash_comments=True, spaced_dashes=True)
SQLSERVER = Rules(brackets=True, nested_comments=True)
DIALECTS = {"sqlite": SQLITE, "postgresql": POSTGRESQL, "mysql": MYSQL, "sqlserver": SQLSERVER}

every_dialect = pytest.mark.parametrize("rules", DIALECTS.values(), ids=DIALECTS)

troublesome = st.text(st.sampled_from("?%:x'\"`[]$\\-/*#{} \n\te E!é😀"), max_size=12)
plain = st.sampled_from(
    [
        "SELECT",
        "e",
        "E",
        "a.b",
        ":x",
        "::int",
        "%",
        "%s",
        "%(name)s",
        "5-3",
        "7/2",
        "(",
        ")",
        ",",
        ";",
        "=",
        "a$b$c",
        "1.5",
        "é",
        "->>",
        "*",
    ]
)


def doubled(text, quote):
    return text.replace(quote, quote * 2)


def quoted(rules):
    """Write texts as string literals and quoted names of a dialect."""
    escaped = troublesome.map(lambda text: text.replace("\\", "\\\\")) if rules.backslash else troublesome
    kinds = [
        escaped.map(lambda text: f"'{doubled(text, chr(39))}'"),
        escaped.map(lambda text: f'"{doubled(text, chr(34))}"'),
    ]
    if rules.backticks:
        kinds.append(troublesome.map(lambda text: f"`{doubled(text, '`')}`"))
    if rules.brackets:
        kinds.append(troublesome.map(lambda text: f"[{text.replace(']', '')}]"))
    if rules.backslash:
        kinds.append(st.sampled_from([r"'it\'s ?'", r'"say \"?\""', r"'\\'", r"'\\\'?'"]))
    if rules.escape_strings:
        kinds.append(troublesome.map(lambda text: "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"))
        kinds.append(st.sampled_from(["E'a\\'?'\n  'b\\'?'", "e'??'"]))
    if rules.dollar_quotes:
        kinds.append(troublesome.map(lambda text: f"$q${text.replace('$', '')}$q$"))
        kinds.append(troublesome.map(lambda text: f"$${text.replace('$', '')}$$"))
        kinds.append(st.sampled_from(["$a$ $b$ ? $b$ $a$", "$é1_$?$é1_$"]))
    return st.one_of(kinds)


def comments(rules):
    line = troublesome.map(lambda text: text.replace("\n", " "))
    closed = troublesome.map(lambda text: text.replace("*", "").replace("/", ""))
    kinds = [line.map(lambda text: f"-- {text}\n"), closed.map(lambda text: f"/* {text} */")]
    if rules.nested_comments:
        kinds.append(closed.map(lambda text: f"/* {text} /* ? */ ? */"))
    else:
        kinds.append(closed.map(lambda text: f"/* {text} /* ? */"))
    if rules.hash_comments:
        kinds.append(line.map(lambda text: f"#{text}\n"))
    if not rules.spaced_dashes:
        kinds.append(line.map(lambda text: f"--{text}\n"))
    return st.one_of(kinds)


def pieces(rules):
    """Give pairs: a piece of a statement, and whether it is a placeholder."""
    literal = st.one_of(plain, quoted(rules), comments(rules), st.just("??"))
    return st.lists(st.one_of(st.tuples(st.just("?"), st.just(True)), st.tuples(literal, st.just(False))), max_size=15)


def expected(piece, is_mark, rules):
    if is_mark:
        return rules.mark
    if piece.startswith("/*") and rules is SQLSERVER:  # its drivers count marks too, and not all know such comments
        piece = piece.replace("?", " ")
    literal = "?" if piece == "??" else piece
    return literal.replace("%", "%%") if rules.mark == "%s" else literal


def marks(sql, rules):
    """Count a statement's placeholders the one way there is: by what the translation accepts."""
    accepted = []
    for count in range(sql.count("?") + 1):
        with suppress(ConfigurationError):
            translate(sql, rules, count)
            accepted.append(count)
    assert len(accepted) == 1
    return accepted[0]


@every_dialect
def test_every_piece_of_a_statement_is_taken_for_what_it_is(rules):
    @settings(max_examples=300)
    @given(pieces(rules))
    def holds(written):
        sql = " ".join(piece for piece, _ in written)
        count = sum(is_mark for _, is_mark in written)
        assert translate(sql, rules, count) == " ".join(expected(*one, rules) for one in written)
        for wrong in (count - 1, count + 1):
            with pytest.raises(ConfigurationError):
                translate(sql, rules, wrong)

    holds()


@every_dialect
def test_nothing_but_placeholders_changes_in_any_text(rules):
    """With the placeholders put back, the statement is the one that was given, however broken it is.

    On SQL Server marks in comments are gone.
    """

    @settings(max_examples=500)
    @given(st.one_of(st.text(st.sampled_from("?%'\"`[]$\\-/*#eEa1 \n\t;:"), max_size=40), st.text(max_size=40)))
    @example("")
    @example("'")
    @example("E'")
    @example("$$")
    @example("$a")
    @example("/*")
    @example("--")
    @example("'\\")
    @example("[?")
    @example("\ud800?")
    def holds(sql):
        assume("??" not in sql)
        count = marks(sql, rules)
        translated = translate(sql, rules, count)
        put_back = translated % (("?",) * count) if rules.mark == "%s" else translated
        if rules is SQLSERVER and "/*" in sql:
            assert put_back.replace("?", " ") == sql.replace("?", " ")
        else:
            assert put_back == sql
        if rules.mark == "?":
            assert translate(translated, rules, count) == translated

    holds()


@every_dialect
def test_any_text_has_one_number_of_placeholders(rules):
    @settings(max_examples=300)
    @given(st.text(st.sampled_from("?%'\"`[]$\\-/*#eEa1 \n"), max_size=30))
    def holds(sql):
        assert marks(sql, rules) <= sql.count("?")

    holds()


@pytest.mark.parametrize(
    ("rules", "sql", "count", "translated"),
    [
        (
            SQLITE,
            "SELECT ?, 'what?', [a?b], `c?`, \"d?\" -- ?\n, ?",
            2,
            "SELECT ?, 'what?', [a?b], `c?`, \"d?\" -- ?\n, ?",
        ),
        (POSTGRESQL, "SELECT ? WHERE a ?? 'b' AND c LIKE '5%'", 1, "SELECT %s WHERE a ? 'b' AND c LIKE '5%%'"),
        (POSTGRESQL, "SELECT a ??| array[?], b % ?", 2, "SELECT a ?| array[%s], b %% %s"),
        (POSTGRESQL, "SELECT $$?$$, $tag$ ? $$ ? $tag$, ?", 1, "SELECT $$?$$, $tag$ ? $$ ? $tag$, %s"),
        (POSTGRESQL, "SELECT a$b$c, ?, d$b$", 1, "SELECT a$b$c, %s, d$b$"),
        (POSTGRESQL, r"SELECT E'it\'s ?', 'back\', ?", 1, r"SELECT E'it\'s ?', 'back\', %s"),
        (POSTGRESQL, "SELECT /* a /* ? */ ? */ ?", 1, "SELECT /* a /* ? */ ? */ %s"),
        (POSTGRESQL, "SELECT date'?', ?::int, :x", 1, "SELECT date'?', %s::int, :x"),
        (MYSQL, r"SELECT 'it\'s ?', `a?`, ? # ?", 1, r"SELECT 'it\'s ?', `a?`, %s # ?"),
        (MYSQL, "SELECT 5--?, ? -- ?\n", 2, "SELECT 5--%s, %s -- ?\n"),
        (MYSQL, "SELECT 1 --\x01 ?\n + ?", 1, "SELECT 1 --\x01 ?\n + %s"),
        (MYSQL, "SELECT 1 --\u00a0+ ?", 1, "SELECT 1 --\u00a0+ %s"),
        (MYSQL, "SELECT /* a /* ? */ ?", 1, "SELECT /* a /* ? */ %s"),
        (SQLSERVER, "SELECT [a]]?], ?, 'it''s ?' -- ?", 1, "SELECT [a]]?], ?, 'it''s ?' -- ?"),
        (SQLSERVER, "SELECT /* /* ? */ ? */ ?, a#?", 2, "SELECT /* /*   */   */ ?, a#?"),
    ],
)
def test_the_statements_people_write(rules, sql, count, translated):
    assert translate(sql, rules, count) == translated


def test_a_wrong_number_of_values_is_refused_with_both_numbers():
    with pytest.raises(ConfigurationError, match="2 placeholders and 3 values") as refused:
        translate("SELECT ?, ?", SQLITE, 3)
    assert refused.value.field == "params"


# --- run by the databases themselves ------------------------------------------------------------------------


def literals(engine_name):
    """Give pairs: a literal of the dialect, and the text that the database must take it for."""
    text = st.text(st.sampled_from("?%:xs'\"`[]$\\-/*#( \né😀"), max_size=10)

    def single(value):
        written = value.replace("\\", "\\\\") if engine_name == "mysql" else value
        prefix = "N" if engine_name == "sqlserver" else ""
        return f"{prefix}'{doubled(written, chr(39))}'", value

    kinds = [text.map(single)]
    if engine_name == "mysql":
        kinds.append(text.map(lambda value: ('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"', value)))
    if engine_name == "postgresql":
        kinds.append(text.map(lambda value: ("E'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'", value)))
        kinds.append(text.map(lambda value: (f"$q${value.replace('$', '')}$q$", value.replace("$", ""))))
        kinds.append(st.just(("E'a\\'?'\n 'b\\'?%'", "a'?b'?%")))
    return st.one_of(kinds)


@pytest.fixture
def run(engine_name, migrated):
    """Give a function that runs a statement as the manager does; the modes are the ones pinned for tenants."""
    with migrated(engine_name).connect() as connection:
        yield lambda sql, params: connection.exec_driver_sql(
            translate(sql, DIALECTS[engine_name], len(params)), tuple(params)
        ).one()


def test_texts_with_marks_percents_and_colons_come_back_from_every_database(engine_name, run):
    values = st.tuples(st.just("?"), st.text(st.sampled_from("?%:xs'\"\\$ \né😀"), max_size=10))
    between = comments(DIALECTS[engine_name])

    @settings(max_examples=100)
    @given(st.lists(st.tuples(st.one_of(literals(engine_name), values), between), min_size=1, max_size=6))
    def holds(columns):
        # Where nothing says of which type a value is, SQL Server's drivers take it for one of the code page.
        typed = {"?": "CAST(? AS NVARCHAR(40))"} if engine_name == "sqlserver" else {}
        written = [
            f"{typed.get(literal, literal)} {comment} AS c{at}" for at, ((literal, _), comment) in enumerate(columns)
        ]
        params = [value for (literal, value), _ in columns if literal == "?"]
        assert tuple(run(f"SELECT {', '.join(written)}", params)) == tuple(value for (_, value), _ in columns)

    holds()


def test_names_with_marks_are_names_on_every_database(engine_name, run):
    quotes = {"sqlite": ['"{}"', "[{}]", "`{}`"], "postgresql": ['"{}"'], "mysql": ["`{}`"]}
    quotes["sqlserver"] = ['"{}"', "[{}]"]
    for quote in quotes[engine_name]:
        for name in ("what?", "100%", ":x", "%s", "a -- b", "/* ? */"):
            row = run(f"SELECT ? AS {quote.format(name)}", ["value"])
            assert row._mapping[name] == "value"


def test_operators_with_percent_and_marks_are_operators(engine_name, run):
    assert run("SELECT 17 % 5, ?", ["%"]) == (2, "%")
    assert run("SELECT 17 % 5", []) == (2,)
    assert run("SELECT count(*) FROM users WHERE email LIKE '%?%' AND email <> ?", ["x"]) == (0,)
    if engine_name == "postgresql":
        sql = """SELECT '{"a": 1}'::jsonb ?? ?, '{"a": 1}'::jsonb ??| array[?], '[1]'::jsonb::text"""
        assert run(sql, ["a", "b"]) == (True, False, "[1]")
    if engine_name == "mysql":
        assert run("SELECT 5--?, ? -- ?\n", ["3", "x"]) == (8, "x")


def test_a_mark_inside_anything_is_no_placeholder_to_the_database_either(engine_name, run):
    """The driver and the database are the judges: a mark too many or too few is an error there."""
    tricky = {
        "sqlite": 'SELECT \'?\' /* ? /* ? */, "?" -- ?\n, `?`, [?], ? FROM (SELECT 1 AS "?")',
        "postgresql": "SELECT '?' /* ? /* ? */ ? */, $$?$$, $a$?$a$, E'\\'?' -- ?\n, ?",
        "mysql": "SELECT '?' /* ? /* ? */, \"?\", 'it\\'s ?' # ?\n, 5 -- ?\n, ?",
        "sqlserver": "SELECT '?' /* ? /* ? */ ? */ AS [a?], N'it''s ?' AS \"b?\" -- ?\n, ? AS c",
    }[engine_name]
    assert run(tricky, ["the one"])[-1] == "the one"


def test_the_manager_runs_statements_so(parts, user):
    manager = parts.manager
    manager.execute_update('CREATE TABLE [odd?] ("100%" TEXT, `:x` TEXT)', user_id=user.id)
    inserted = manager.execute_update("INSERT INTO [odd?] VALUES ('what?', ?) -- ?", ("5 % :x",), user_id=user.id)
    assert inserted == 1
    assert manager.fetch_all('SELECT "100%", `:x` FROM [odd?] WHERE "100%" = \'what?\'', user_id=user.id) == [
        ("what?", "5 % :x")
    ]
    with pytest.raises(ConfigurationError) as refused:
        manager.fetch_all("SELECT '?', ?", (1, 2), user_id=user.id)
    assert refused.value.field == "params"
