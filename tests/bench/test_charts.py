"""Results, charts and the document that shows them belong to one run, and say the same."""

from __future__ import annotations

import json
import re
import xml.dom.minidom

import pytest

from bench.__main__ import LATEST, MODULES, joined, report
from bench.charts import DOCUMENT, drawn, figures, main
from bench.measure import Figure

SVG = "http://www.w3.org/2000/svg"


@pytest.fixture(scope="module")
def kept() -> dict:
    return json.loads(LATEST.read_text())


def explained(section: str) -> str:
    return DOCUMENT.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]


def made(*found: Figure) -> dict:
    return report({"engines": list(found)}, small=True)


def test_making_charts_and_document_again_changes_nothing(tmp_path):
    document = tmp_path / DOCUMENT.name
    document.write_text(DOCUMENT.read_text())
    assert main(["--document", str(document)]) == 0
    assert document.read_bytes() == DOCUMENT.read_bytes()
    again, there = (
        {path.name: path.read_bytes() for path in each.with_suffix("").iterdir()} for each in (document, DOCUMENT)
    )
    assert again == there


def test_what_is_shown_was_measured_at_full_size(kept):
    assert kept["small"] is False
    assert {figure["module"] for figure in kept["figures"]} <= set(MODULES)


def test_every_figure_is_explained(kept):
    wanted = {found[0] for figure in kept["figures"] if (found := re.match(r"P\d+", figure["name"]))}
    words = explained("What is compared with what")
    assert sorted(name for name in wanted if f"**{name}**" not in words) == []


def test_every_goal_that_was_missed_has_its_reason(kept):
    words = explained("Where a goal is missed")
    assert [f["name"] for f in kept["figures"] if f["met"] is False and f"**{f['name']}**" not in words] == []


def test_every_chart_can_be_read_in_the_dark_and_aloud(kept):
    for svg in drawn(kept).values():
        root = xml.dom.minidom.parseString(svg).documentElement
        assert root.namespaceURI == SVG
        assert root.getAttribute("role") == "img"
        labels = [root.getElementsByTagName(name)[0] for name in ("title", "desc")]
        assert root.getAttribute("aria-labelledby").split() == [label.getAttribute("id") for label in labels]
        assert all(label.firstChild.data for label in labels)
        assert "prefers-color-scheme: dark" in svg


def test_the_bars_are_in_proportion_and_the_tick_stands_at_the_goal():
    svg = drawn(made(Figure("P2", "first touch", "ms", 1.0, 4.0, "plain", ("<=", 0.5))))["requests.svg"]
    bars = [float(width) for width in re.findall(r'class="(?:ours|beside)" x="16" y="\d+" width="([\d.]+)"', svg)[1:]]
    tick = float(re.findall(r'class="goal" x1="([\d.]+)"', svg)[1]) - 16
    assert bars == [bars[1] / 4, bars[1]]
    assert tick == bars[1] / 2
    assert "0.25 of the baseline (plain); goal ≤ 0.5, met" in svg


def test_texts_of_figures_are_no_markup():
    svg = drawn(made(Figure("P8", "<b> & co", "KiB", 0, 0, "x", ("<=", 0), of_ratio=False)))["footprint.svg"]
    assert "&lt;b&gt; &amp; co" in svg


def test_figures_of_the_list_come_first_and_in_its_order():
    found = made(*(Figure(name, "", "ms", 1, None, "") for name in ("accounts", "P10", "P9 cold", "P2b", "P2")))
    assert [figure.name for figure in figures(found)] == ["P2b", "P2", "P9 cold", "P10", "accounts"]


def test_a_module_measured_again_leaves_the_others_figures(tmp_path):
    output = tmp_path / "latest.json"
    first = report({n: [Figure(n, "", "ms", 1, None, "")] for n in ("engines", "scale")}, small=False)
    output.write_text(json.dumps(first))
    again = joined(report({"scale": [Figure("scale", "", "ms", 2, None, "")]}, small=False), output)
    assert [(figure["module"], figure["ours"]) for figure in again["figures"]] == [("engines", 1), ("scale", 2)]


@pytest.mark.parametrize("changed", [{"machine": {"cores": 64}}, {"small": True}])
def test_figures_of_another_machine_or_size_are_not_kept_beside(tmp_path, changed):
    output = tmp_path / "latest.json"
    first = report({"engines": [Figure("P2", "", "ms", 1, None, "")]}, small=False)
    output.write_text(json.dumps(first | changed))
    again = joined(report({"scale": []}, small=False), output)
    assert again["figures"] == []
