"""Turn Markdown into HTML that can do no harm.

Two walls stand one behind the other. markdown-it-py passes no HTML of the author's and makes links of web, mail and
local addresses only; nh3 then takes out whatever ``TAGS`` and ``VALUES`` do not name. Images become links, because
the pages load nothing from elsewhere. The time stays in proportion to the text: what is longer than ``RENDERED_MAX``
is shown as it was written, and an unbroken run of letters is not looked through for addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markupsafe import Markup

RENDERED_MAX = 50_000
"""Characters of a note that are read as Markdown: a hostile text of this size takes about a second."""

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
    html = Markup(_cleaner.clean(parser.render(head)))  # noqa: S704 - what the cleaner lets through is the point
    return html + _REST.format(rest) if rest else html


class _Markdown(MarkdownIt):
    """Read CommonMark with tables and strikethrough; refuse every address that is not web, mail or local."""

    def __init__(self, *, linkify: bool) -> None:
        super().__init__("commonmark", {"html": False, "linkify": linkify, "maxNesting": NESTING_MAX})
        self.enable(["table", "strikethrough"] + ["linkify"] * linkify)
        self.core.ruler.push("tame", _tame)
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
