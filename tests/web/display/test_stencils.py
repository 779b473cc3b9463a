"""Fill what rows have alike: the HTML is the macro's, whatever the values are."""

from __future__ import annotations

import pytest
from jinja2 import Environment

from web.display.stencils import once, stencil

ROW = """{% macro row(id, title, tone) -%}
<li id="{{ id }}" class="{{ tone }}"><b>{{ title }}</b> {{ title }}</li>
{%- endmacro %}
{% macro fixed(tone) %}<hr class="{{ tone }}">{% endmacro %}"""


@pytest.fixture
def macros():
    return Environment(autoescape=True).from_string(ROW).module


@pytest.mark.parametrize(
    "title",
    ["plain", "<script>alert(1)</script>", "\"quotes\" & 'more'", "\x000\x00 \x001\x00", r"\1 \g<0> {0} %s", "", 7],
)
def test_a_stencil_gives_what_its_macro_gives(macros, title):
    assert stencil(macros.row, tone="bad")("a-1", title) == macros.row("a-1", title, "bad")


def test_html_that_was_escaped_before_stays_as_it_is(macros):
    shown = macros.row("x", "y", "z")
    assert f"<b>{shown}</b>" in stencil(macros.row, tone="")("a", shown)


def test_a_macro_whose_arguments_are_all_shared_takes_no_values(macros):
    assert stencil(macros.fixed, tone="x")() == '<hr class="x">'


def test_too_few_values_are_an_error(macros):
    with pytest.raises(IndexError):
        stencil(macros.row, tone="x")("only an id")


def test_a_macro_that_renders_once_gives_what_it_gives_for_each_set_of_values(macros):
    row = once(macros.row)
    for title in ("a", "<b>", "a"):
        assert row("1", title, "") == macros.row("1", title, "")
    assert row("1", "a", "") is row("1", "a", "")
