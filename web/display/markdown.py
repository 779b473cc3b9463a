"""Turn Markdown into HTML that can do no harm.

Two walls stand one behind the other. markdown-it-py passes no HTML of the author's and makes links of web, mail and
local addresses only; nh3 then takes out whatever ``TAGS`` and ``VALUES`` do not name. Images become links, because
the pages load nothing from elsewhere.

Time, memory and output stay in proportion to the text, whatever the text. What is longer than ``RENDERED_MAX`` is
shown as it was written, and an unbroken run of letters is not looked through for addresses. All that a few letters
can make much of is metered (``Meter``): each attempt of the parser to read something, each cell of a table, and the
addresses that references bring in. A text that costs more than the meter allows is shown as it was written as well.
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
"""Characters of a note that are read as Markdown."""

STEPS_MAX = 80_000
"""Attempts to read a block or a piece of a line. Ordinary text takes one for every three to ten characters."""

AHEAD_STEPS = 3
"""What looking ahead costs, as it is done for each bracket in search of its end, and often in vain."""

CELL_STEPS = 5
EXPANDED_MAX = 200_000
"""Characters of addresses and titles that references bring in; those after them stay as they were written."""

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
    """Give the HTML of a text; its headings begin at the second level, below the page's own."""
    head, rest = _parted(text)
    parser = _PLAIN if _LONG_RUN.search(head) else _LINKING
    try:
        read = parser.render(head, {"meter": Meter(), "references": References()})
    except TooDear:
        return _REST.format(text)
    html = Markup(_cleaner.clean(read))  # noqa: S704 - what the cleaner lets through is the point
    return html + _REST.format(rest) if rest else html


class TooDear(Exception):  # noqa: N818 - it says what the text is
    """Stop reading a text whose HTML would cost too much."""


class Meter:
    """Count what the parser has done for one text."""

    def __init__(self) -> None:
        self.left = STEPS_MAX

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise TooDear


class References(dict[str, dict[str, Any]]):
    """Hold what ``[name]: address "title"`` defined, and give it until all together is ``EXPANDED_MAX`` long."""

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
    """Read CommonMark with tables and strikethrough; refuse every address that is not web, mail or local."""

    def __init__(self, *, linkify: bool) -> None:
        super().__init__("commonmark", {"html": False, "linkify": linkify, "maxNesting": NESTING_MAX})
        self.enable(["table", "strikethrough"] + ["linkify"] * linkify)
        self.core.ruler.push("tame", _tame)
        self.block.ruler.before("table", "meter", _meter_block, {"alt": _CHAINS})
        self.inline.ruler.before("text", "meter", _meter_inline)
        if self.linkify:
            # Only what has a scheme: "setup.py" and "README.md" end like countries and are no addresses.
            self.linkify.set({"fuzzy_link": False})
            self.linkify.add("ftp:", None).add("//", None)

    def validateLink(self, url: str) -> bool:  # noqa: N802 - the parser asks by this name
        """Say whether a link may go there; whatever stands before a colon and is no scheme of ours is refused."""
        scheme = _SCHEME.match(url)
        return scheme is None or scheme[1].lower() in SCHEMES


def _parted(text: str) -> tuple[str, str]:
    """Part a text that is too long to be read as Markdown, at the end of a line if there is one."""
    if len(text) <= RENDERED_MAX:
        return text, ""
    end = text.rfind("\n", 0, RENDERED_MAX) + 1 or RENDERED_MAX
    return text[:end], text[end:]


def _meter_inline(state: StateInline, silent: bool) -> bool:
    """Count one attempt to read a piece of a line; being the first rule and never right, it is asked each time."""
    state.env["meter"].spend(AHEAD_STEPS if silent else 1)
    return False


def _meter_block(state: StateBlock, line: int, end: int, silent: bool) -> bool:
    """Count one attempt to read a block, and before a table begins the cells that it would have."""
    state.env["meter"].spend(1)
    if not silent and line + 2 < end and _RULER.fullmatch(_line(state, line + 1)):
        columns = _line(state, line + 1).count("|") + 1
        rows = next((at for at in range(line + 2, end) if state.isEmpty(at)), end) - line
        state.env["meter"].spend(CELL_STEPS * columns * rows)
    return False


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def _tame(state: StateCore) -> None:
    """Fit what was read to our pages: headings, directions, alignments, tasks and images."""
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
    if token.nesting == 1 and token.tag in BLOCKS - {"li"}:  # an item stands where its list stands
        token.attrs["dir"] = "auto"
    token.info = ""


def _mark_task(item: Token, text: Token) -> None:
    """Show the box of ``- [ ] milk`` as a sign."""
    found = _TASK.match(text.content) if text.type == "text" else None
    if found:
        item.attrs["class"] = "task"
        text.content = ("☐" if found[1] == " " else "☑") + text.content[found.end() :]


def _without_images(tokens: list[Token]) -> Iterator[Token]:
    """Put a link in the place of each image, or its words alone where it stands in a link already."""
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
