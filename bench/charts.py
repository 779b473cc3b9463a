"""Draw the figures that a run kept as SVG, and write them into the document that explains them.

python -m bench.charts [--results FILE] [--document FILE]

Every figure has two bars, ours and the baseline's, in one scale of its own, and a tick where the goal is. The
same results always give the same bytes: a test holds results, charts and document together.
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from bench.__main__ import LATEST, goal_of, number
from bench.measure import Figure

DOCUMENT = LATEST.parents[2] / "docs" / "explanation" / "performance.md"
GROUPS = (
    ("requests", "Requests", (1, 2, 9, 10, 11)),
    ("provisioning", "Making tenants", (3, 4, 5)),
    ("fleet", "Migrating the fleet", (6, 7)),
    ("footprint", "What tenants cost a process", (8,)),
)
"""The charts, and which figures (P1, P2b, P9 start ...) each shows by their number."""

WIDTH, LEFT, RIGHT, BAR, LINE = 760, 16, 120, 11, 17
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .page { fill: #ffffff } .name { font-weight: 600 }
.small { font-size: 12px; fill: #59636e } .ours { fill: #0969da } .beside { fill: #c2c9d1 }
.goal { stroke: #1f2328; stroke-width: 2 } .missed { fill: #b3261e } .met { fill: #1a7f37 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .page { fill: #0d1117 } .small { fill: #9198a1 } .ours { fill: #4493f8 }
.beside { fill: #545d68 } .goal { stroke: #e6edf3 } .missed { fill: #ff8a80 } .met { fill: #57c76e }
}
"""


def main(arguments: list[str] | None = None) -> int:
    """Write the charts beside the document and the document's own tables; give 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.charts", description=__doc__)
    parser.add_argument("--results", type=Path, default=LATEST, help="the figures, as a run kept them")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="the document to write them into")
    asked = parser.parse_args(arguments)
    report = json.loads(asked.results.read_text(encoding="utf-8"))
    charts = drawn(report)
    folder = asked.document.with_suffix("")
    folder.mkdir(exist_ok=True)
    for left in set(folder.glob("*.svg")) - {folder / name for name in charts}:
        left.unlink()
    for name, svg in charts.items():
        (folder / name).write_text(svg, encoding="utf-8", newline="\n")
    text = asked.document.read_text(encoding="utf-8")
    asked.document.write_text(written(text, report, folder.name), encoding="utf-8", newline="\n")
    return 0


def figures(report: dict[str, Any]) -> list[Figure]:
    """Read a report's figures back, those of the list P1, P2 ... first."""
    names = Figure.__dataclass_fields__.keys()
    found = [Figure(**{name: figure[name] for name in names}) for figure in report["figures"]]
    return sorted(found, key=lambda figure: _number_of(figure) or 1_000)


# --- charts ---------------------------------------------------------------------------------------------


def drawn(report: dict[str, Any]) -> dict[str, str]:
    """Give the charts by their file names; a group of which nothing was measured has none."""
    charts = {}
    for name, title, wanted in GROUPS:
        group = [figure for figure in figures(report) if _number_of(figure) in wanted]
        if group:
            charts[f"{name}.svg"] = _chart(title, group)
    return charts


def _chart(title: str, group: list[Figure]) -> str:
    body, y = [], 58
    for figure in group:
        rows, height = _rows(figure, y)
        body += rows
        y += height
    words = " ".join(f"{figure.name}: {figure.what}: {_said(figure)}." for figure in group)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}"'
            ' role="img" aria-labelledby="title words">',
            f'<title id="title">{escape(title)}: ours beside the baseline</title>',
            f'<desc id="words">{escape(words)}</desc>',
            f"<style>{_STYLE}</style>",
            f'<rect class="page" width="{WIDTH}" height="{y}"/>',
            _text(LEFT, 24, title, "name"),
            *_legend(),
            *body,
            "</svg>\n",
        ]
    )


def _legend() -> list[str]:
    return [
        _bar(LEFT, 34, 12, "ours"),
        _text(LEFT + 18, 44, "ours", "small"),
        _bar(LEFT + 60, 34, 12, "beside"),
        _text(LEFT + 78, 44, "the baseline", "small"),
        f'<line class="goal" x1="{LEFT + 166}" y1="32" x2="{LEFT + 166}" y2="47"/>',
        _text(LEFT + 174, 44, "the goal; each figure has a scale of its own", "small"),
    ]


def _rows(figure: Figure, top: int) -> tuple[list[str], int]:
    """Draw one figure from ``top`` on; give its elements and how high they are together."""
    lines = textwrap.wrap(f"{figure.name}: {figure.what}", 100)
    made = [_text(LEFT, top + 14 + LINE * at, line, "name" if at == 0 else "small") for at, line in enumerate(lines)]
    y = top + LINE * len(lines) + 6
    goal, room = _goal_position(figure), WIDTH - LEFT - RIGHT
    full = max(figure.ours, figure.baseline or 0, goal or 0) or 1
    bars = [(figure.ours, "ours")] + ([] if figure.baseline is None else [(figure.baseline, "beside")])
    for at, (value, kind) in enumerate(bars):
        width = round(max(0, value) / full * room, 1)
        made.append(_bar(LEFT, y + at * (BAR + 3), width, kind))
        made.append(_text(LEFT + room + 10, y + at * (BAR + 3) + 10, number(value, figure.unit), "small"))
    y += len(bars) * (BAR + 3)
    if goal is not None:
        x = round(LEFT + goal / full * room, 1)
        made.append(f'<line class="goal" x1="{x}" y1="{y - len(bars) * (BAR + 3) - 3}" x2="{x}" y2="{y}"/>')
    verdict = {True: "small met", False: "small missed", None: "small"}[figure.met]
    for line in textwrap.wrap(_said(figure), 110):
        made.append(_text(LEFT, y + 12, line, verdict))
        y += LINE - 2
    return made, y + 11 - top


def _goal_position(figure: Figure) -> float | None:
    """Give the goal in the figure's own unit; one of the ratio is that many baselines from the beginning."""
    if figure.goal is None or (figure.of_ratio and figure.baseline is None):
        return None
    return figure.goal[1] * (figure.baseline or 0) if figure.of_ratio else figure.goal[1]


def _said(figure: Figure) -> str:
    """Say a figure in words: the ratio, the goal, and whether it was met."""
    parts = [] if figure.ratio is None else [f"{figure.ratio:.2f} of the baseline ({figure.baseline_is})"]
    if figure.ratio is None and figure.baseline is not None:
        parts.append(f"beside {number(figure.baseline, figure.unit)} ({figure.baseline_is})")
    if figure.goal is not None:
        verdict = {True: ", met", False: ", missed", None: ""}[figure.met]
        parts.append(f"goal {goal_of(figure).replace('<=', '≤').replace('>=', '≥')}{verdict}")
    return "; ".join(parts) or number(figure.ours, figure.unit)


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(text)}</text>'


def _bar(x: float, y: float, width: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{BAR}" rx="2"/>'


# --- the document ---------------------------------------------------------------------------------------


def written(text: str, report: dict[str, Any], folder: str) -> str:
    """Give the document with what its marked places hold made anew; all other words stay."""
    made = {
        "machine": [_machine(report)],
        "table": list(_table(figures(report))),
        "charts": [line for name, svg in drawn(report).items() for line in (f"![{_alt(svg)}]({folder}/{name})", "")],
    }
    for place, lines in made.items():
        found = re.findall(rf"<!-- {place}: [^\n]*-->\n.*?<!-- end -->", text, re.DOTALL)
        if len(found) != 1:
            raise ValueError(f"the document has no place, or several, for the {place}")
        head = found[0].partition("\n")[0]
        text = text.replace(found[0], "\n\n".join([head, "\n".join(lines).strip("\n"), "<!-- end -->"]))
    return text


def _machine(report: dict[str, Any]) -> str:
    what = report["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in what["packages"].items())
    size = "small size, which says nothing about speed" if report["small"] else "full size"
    return (
        f"Measured {report['at'][:10]} at {size} on {what['system']}, {what['processor']}, {what['cores']} cores, "
        f"{what['memory_gib']:g} GiB; Python {what['python']}, SQLite {what['sqlite']}, {packages}."
    )


def _table(found: list[Figure]) -> Iterator[str]:
    yield "| | what | ours | baseline | what the baseline is | ratio | goal | |"
    yield "|---|---|---:|---:|---|---:|---:|---|"
    for figure in found:
        baseline = "" if figure.baseline is None else number(figure.baseline, figure.unit)
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        verdict = {True: "met", False: "**missed**", None: ""}[figure.met]
        cells = (figure.name, figure.what, number(figure.ours, figure.unit), baseline, figure.baseline_is, ratio)
        yield "| " + " | ".join([*(cell.replace("|", "\\|") for cell in cells), goal_of(figure), verdict]) + " |"


def _alt(svg: str) -> str:
    found = re.search(r"<title[^>]*>(.*?)</title>", svg)
    return found[1] if found else ""


def _number_of(figure: Figure) -> int | None:
    found = re.match(r"P(\d+)", figure.name)
    return int(found[1]) if found else None


if __name__ == "__main__":
    raise SystemExit(main())
