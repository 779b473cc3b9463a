"""Turn Markdown into safe HTML.

There are two lines of defence. markdown-it-py drops the author's HTML and links only to web, mail and local addresses;
nh3 then removes every tag and attribute that ``TAGS`` and ``VALUES`` do not list. Images become links, because our
pages load nothing from other sites.

Time, memory and output stay proportional to the length of any text. Text beyond ``RENDERED_MAX`` is shown as plain
text, and a long unbroken run of letters is not searched for links. Everything in which a short text can cause much work
is metered (``Meter``): each attempt of the parser to match a rule, each cell of a table, and the addresses that
references expand to. A text that exceeds the limits of the meter is shown as plain text too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markupsafe import Markup

RENDERED_MAX = 50_000
"""The length up to which a note is rendered as Markdown, in characters."""

STEPS_MAX = 80_000
"""The limit of attempts to match a rule. Ordinary text takes one for every three to ten characters."""

AHEAD_STEPS = 3
"""The cost of looking ahead, which happens for each opening bracket and often finds no closing one."""

CELL_STEPS = 5
EXPANDED_MAX = 200_000
"""The limit of characters that references expand to; further references stay plain text."""

NESTING_MAX = 30
RUN_MAX = 2_000

SCHEMES = frozenset({"http", "https", "mailto"})
BLOCKS = frozenset({"p", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "table", "th", "td"})
TAGS = BLOCKS | {"a", "br", "code", "em", "hr", "s", "strong", "tbody", "thead", "tr"}
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
VALUES = {tag: {"dir": {"auto"}} for tag in BLOCKS}
VALUES["li"] |= {"class": {"task"}}
VALUES["th"] |= {"class": {"center", "right"}}
VALUES["td"] |= {"class": {"center", "right"}}
REL = "nofollow noopener noreferrer"

_SCHEME = re.compile(r"([^/?#:]*):")
_LONG_RUN = re.compile(rf"\S{{{RUN_MAX}}}")
_RULER = re.compile(r"[-:|][-:|\s]*", re.ASCII)
_CHAINS = ["paragraph", "reference", "blockquote", "list", "table"]
_TASK = re.compile(r"\[([ xX])\](?=\s)")
_REST = Markup('<p class="quiet">From here on the text is shown as it was written.</p>\n<pre dir="auto">{}</pre>\n')

_cleaner = nh3.Cleaner(
    tags=set(TAGS),
    attributes=ATTRIBUTES,
    tag_attribute_values=VALUES,
    url_schemes=set(SCHEMES),
    link_rel=REL,
)


def render(text: str) -> Markup:
    """Return the HTML of a text; its headings begin at level two, below the page's own."""
    head, rest = _parted(text)
    parser = _PLAIN if _LONG_RUN.search(head) else _LINKING
    try:
        read = parser.render(head, {"meter": Meter(), "references": References()})
    except TooDear:
        return _REST.format(text)
    html = Markup(_cleaner.clean(read))  # noqa: S704 - what the cleaner lets through is the point
    return html + _REST.format(rest) if rest else html


class TooDear(Exception):  # noqa: N818 - it says what the text is
    """Stop parsing a text that exceeds the limits of the meter."""


class Meter:
    """Count the work of the parser on one text."""

    def __init__(self) -> None:
        self.left = STEPS_MAX

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise TooDear


class References(dict[str, dict[str, Any]]):
    """The definitions ``[name]: address "title"``; they resolve until their expansions exceed ``EXPANDED_MAX``."""

    def __init__(self) -> None:
        super().__init__()
        self._left = EXPANDED_MAX

    def get(self, label: str, default: Any = None) -> Any:
        found = super().get(label)
        if found is None:
            return default
        self._left -= len(found["href"]) + len(found["title"])
        return found if self._left >= 0 else default


class _Markdown(MarkdownIt):
    """Parse CommonMark with tables and strikethrough; link only to web, mail and local addresses."""

    def __init__(self, *, linkify: bool) -> None:
        super().__init__("commonmark", {"html": False, "linkify": linkify, "maxNesting": NESTING_MAX})
        self.enable(["table", "strikethrough"] + ["linkify"] * linkify)
        self.core.ruler.push("tame", _tame)
        self.block.ruler.before("table", "meter", _meter_block, {"alt": _CHAINS})
        self.inline.ruler.before("text", "meter", _meter_inline)
        if self.linkify:
            # Only text with a scheme: "setup.py" and "README.md" end like country domains but are not addresses.
            self.linkify.set({"fuzzy_link": False})
            self.linkify.add("ftp:", None).add("//", None)

    def validateLink(self, url: str) -> bool:  # noqa: N802 - the parser calls it by this name
        """Tell whether to link to a URL; any scheme that is not in ``SCHEMES`` is refused."""
        scheme = _SCHEME.match(url)
        return scheme is None or scheme[1].lower() in SCHEMES


def _parted(text: str) -> tuple[str, str]:
    """Split a text that is too long to render, at the end of a line if there is one."""
    if len(text) <= RENDERED_MAX:
        return text, ""
    end = text.rfind("\n", 0, RENDERED_MAX) + 1 or RENDERED_MAX
    return text[:end], text[end:]


def _meter_inline(state: StateInline, silent: bool) -> bool:
    """Count one attempt to parse inline text: as the first rule, which never matches, it runs at every attempt."""
    state.env["meter"].spend(AHEAD_STEPS if silent else 1)
    return False


def _meter_block(state: StateBlock, line: int, end: int, silent: bool) -> bool:
    """Count one attempt to parse a block, and the cells of a table before it is parsed."""
    state.env["meter"].spend(1)
    if not silent and line + 2 < end and _RULER.fullmatch(_line(state, line + 1)):
        columns = _line(state, line + 1).count("|") + 1
        rows = next((at for at in range(line + 2, end) if state.isEmpty(at)), end) - line
        state.env["meter"].spend(CELL_STEPS * columns * rows)
    return False


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def _tame(state: StateCore) -> None:
    """Adapt the parsed tokens to our pages: headings, text direction, alignment, task lists and images."""
    before: list[Token] = []
    for token in state.tokens:
        _fit(token)
        if token.type == "inline" and token.children:
            if [each.type for each in before[-2:]] == ["list_item_open", "paragraph_open"]:
                _mark_task(before[-2], token.children[0])
            token.children = list(_without_images(token.children))
        before = [*before[-1:], token]


def _fit(token: Token) -> None:
    if token.type in ("heading_open", "heading_close"):
        token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
    align = token.attrs.pop("style", None)
    if align in ("text-align:center", "text-align:right"):
        token.attrs["class"] = str(align).removeprefix("text-align:")
    if token.nesting == 1 and token.tag in BLOCKS - {"li"}:  # an item is where its list is
        token.attrs["dir"] = "auto"
    token.info = ""


def _mark_task(item: Token, text: Token) -> None:
    """Show the box of ``- [ ] milk`` as a symbol."""
    found = _TASK.match(text.content) if text.type == "text" else None
    if found:
        item.attrs["class"] = "task"
        text.content = ("☐" if found[1] == " " else "☑") + text.content[found.end() :]


def _without_images(tokens: list[Token]) -> Iterator[Token]:
    """Replace each image with a link, or with its text alone if it is already inside a link."""
    linked = False
    for token in tokens:
        linked = token.type == "link_open" or (linked and token.type != "link_close")
        if token.type != "image":
            yield token
            continue
        words = "".join(each.content for each in token.children or ()).strip()
        shown = Token("text", "", 0, content=f"Image: {words}" if words else "Image")
        if linked:
            yield shown
        else:
            yield from (Token("link_open", "a", 1, attrs={"href": token.attrs["src"]}), shown)
            yield Token("link_close", "a", -1)


_LINKING = _Markdown(linkify=True)
_PLAIN = _Markdown(linkify=False)
