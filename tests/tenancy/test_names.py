"""Names: one key for whatever people write the same, and no text that reaches a file or a statement unasked."""

from __future__ import annotations

import string
import unicodedata
import uuid
from pathlib import Path

import pytest
from hypothesis import example, given, strategies as st

from tenancy import names
from tenancy.errors import ConfigurationError

any_text = st.text(max_size=40)
stored_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)


@given(any_text)
@example("\u0345\u0391")
@example("\u1fb3\u0301")
@example("a \u0301")
@example("\u00b4 \u212a")
@example("\u03d3\u0345")
def test_folding_twice_is_folding_once(text):
    assert names.fold(names.fold(text)) == names.fold(text)


@given(any_text)
def test_case_width_and_blanks_make_no_difference(text):
    key = names.fold(text)
    assert names.fold(f"  {text}\t\n ") == key
    assert names.fold(unicodedata.normalize("NFKC", text)) == key
    assert names.fold(unicodedata.normalize("NFD", text)) == key


@given(st.text(string.printable, max_size=40))
def test_upper_and_lower_case_have_one_key(text):
    assert names.fold(text.upper()) == names.fold(text.lower()) == names.fold(text)


@given(stored_text)
def test_a_key_has_no_outer_or_repeated_blanks(text):
    key = names.fold(text)
    assert key == " ".join(key.split())


@given(any_text)
def test_an_address_is_taken_as_it_is_or_refused_by_its_field(text):
    refused = field_refused(names.email, text)
    if refused:
        assert refused == "email"
        return
    address = names.email(text)
    assert address == text.strip()
    assert address.count("@") == 1
    assert address.isprintable()
    assert len(names.fold(address)) <= names.EMAIL_KEY_MAX


def field_refused(check, value):
    """Give the field that a refusal names, or None where the value is taken."""
    try:
        check(value)
    except ConfigurationError as refused:
        return refused.field
    return None


@pytest.mark.parametrize(
    "good",
    [
        "ada@example.org",
        " ada@example.org ",
        "a@localhost",
        "o'hara+tag@sub.example.co.uk",
        "zoë@münchen.de",
        "x" * 64 + "@a.b",
    ],
)
def test_addresses_people_have_are_taken(good):
    assert names.email(good) == good.strip()


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "ada",
        "@example.org",
        "ada@",
        "ada@@example.org",
        "ada@exa mple.org",
        "ada@.org",
        "ada@example..org",
        "ada@example.org.",
        "x" * 65 + "@example.org",
        "ada@" + "x" * 260 + ".org",
        "a\x00da@example.org",
        "ada\ud800@example.org",
        "ada\u200b@example.org",
        "ada@example.org\nBcc: all@example.org",
        "ﷺ" * 20 + "@example.org",
    ],
)
def test_what_is_no_address_is_refused(bad):
    with pytest.raises(ConfigurationError) as refused:
        names.email(bad)
    assert refused.value.field == "email"


@pytest.mark.parametrize("good", [1, "1", "0042", 2**31 - 1, str(2**31 - 1)])
def test_whole_numbers_from_one_up_are_user_ids(good):
    assert names.user_id(good) == int(good)


@pytest.mark.parametrize(
    "bad",
    [
        0,
        -1,
        "0",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1;drop",
        "1.0",
        1.0,
        True,
        False,
        None,
        "",
        "٣",
        "²",
        2**31,
        2**63,
        "9" * 5000,
        b"1",
        [1],
    ],
)
def test_nothing_else_is_a_user_id(bad):
    with pytest.raises(ConfigurationError) as refused:
        names.user_id(bad)
    assert refused.value.field == "user_id"


@given(st.one_of(any_text, st.integers(), st.floats(), st.booleans(), st.none()))
def test_a_file_name_is_made_of_a_number_or_not_at_all(anything):
    try:
        name = names.sqlite_file(anything)
    except ConfigurationError:
        return
    assert name.startswith("user_")
    assert name.endswith(".db")
    assert name[5:-3].isascii()
    assert name[5:-3].isdigit()
    assert not name[5:-3].startswith("0")


@given(any_text)
@example("a\n")
@example("A")
@example("a" * 49)
@example("a-b")
@example("")
def test_an_identifier_is_plain_or_refused(text):
    plain = set(string.ascii_lowercase + string.digits + "_")
    fits = 0 < len(text) <= 48 and set(text) <= plain and text[0] in string.ascii_lowercase
    if fits:
        assert names.identifier(text) == text
        return
    with pytest.raises(ConfigurationError) as refused:
        names.identifier(text)
    assert refused.value.field == "db_name"


@given(any_text)
def test_what_some_engine_cannot_keep_is_refused_by_its_field(text):
    bad = "\x00" in text or any(unicodedata.category(character) == "Cs" for character in text)
    assert names.is_storable(text) is not bad
    if not bad:
        assert names.storable(text, "title") == text
        return
    with pytest.raises(ConfigurationError) as refused:
        names.storable(text, "title")
    assert refused.value.field == "title"


@pytest.mark.parametrize("text", ["\x00", "a\ud800b", "\udfff"])
def test_nul_and_lone_surrogates_are_not_storable(text):
    assert not names.is_storable(text)


@given(any_text)
@example("run12")
@example("Run12")
@example("a" * 11)
@example("run.new")
def test_a_restore_points_name_is_short_and_plain_or_refused(text):
    plain = set(string.ascii_lowercase + string.digits)
    if 0 < len(text) <= 10 and set(text) <= plain and text[0] in string.ascii_lowercase:
        assert len(names.point_database("d" * 48, text)) <= 59
        assert Path(names.point_file("user_7.db", uuid.UUID(int=7), text)).name.startswith("user_7.db.")
        return
    for use_it in (
        lambda: names.point_database("d", text),
        lambda: names.point_file("user_7.db", uuid.UUID(int=7), text),
    ):
        with pytest.raises(ConfigurationError) as refused:
            use_it()
        assert refused.value.field == "point"


@given(st.one_of(st.none(), st.integers(1, names.MAX_USER_ID)), st.uuids(), st.sampled_from(["", "0a1b2c", "123456"]))
@example(None, uuid.UUID(int=10**36), "123456")
@example(names.MAX_USER_ID, uuid.UUID(int=0x1234567890), "123456")
@example(123456, uuid.UUID(int=0x123456789012), "")
def test_a_planned_name_says_of_which_installation_and_whose_it_is(owner, tenant_id, installation):
    name = names.planned_database(owner, tenant_id, installation=installation)
    assert len(name) <= 32  # the longest login that MySQL takes
    for following in ("", "run12", "run12_back"):
        found = f"{name}_{following}" if following else name
        assert names.planned_in(found) == (name, owner, following)
        assert names.installation_in(found) == installation
        assert names.is_tenants_login(found) is not bool(following)


def test_what_stands_beside_databases_says_of_which_installation_it_is_too():
    for mark in ("", "0a1b2c"):
        for name in (
            names.template(mark, "f" * 64),
            names.template(mark, "plain"),
            names.partial(mark),
            names.scratch(mark),
        ):
            assert names.installation_in(name) == mark
            assert names.planned_in(name) is None
            assert not names.is_tenants_login(name)
    assert names.template("", "f" * 64) == "unify_template_ffffffffffffffff"  # as version 0.3 called it


@pytest.mark.parametrize(
    "name", ["unify_", "postgres", "unify_bench_0a1b2c3d4e5f", "unify", "unify_0a1b2c_x_0123456789ab"]
)
def test_what_is_called_otherwise_is_no_installations(name):
    assert names.installation_in(name) is None


@pytest.mark.parametrize(
    "text",
    ["", " ", "\t\n", "\u200b", "\u3164", "\u2800 \u115f", "\ufeff\u2060", "\u202e\u202c", "\ufe0f", "\U000e0020\xad"],
)
def test_what_shows_nothing_is_not_visible(text):
    assert not names.is_visible(text)


@pytest.mark.parametrize(
    "text", ["x", "\u200bx\u200b", "\U0001fae8", "\u2764\ufe0f", "-", "\u0634", "\u0301", "\ue000"]
)
def test_whatever_shows_something_is_visible(text):
    assert names.is_visible(text)
