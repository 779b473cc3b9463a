"""Ask axe-core what is wrong with a page for people who do not see it or do not use a mouse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it brings no types

SERIOUS = ("serious", "critical")
RULES = {
    "preload": False,
    "resultTypes": ["violations"],  # of what is well one element is told, not each
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}
OUTPUT = Path(__file__).resolve().parents[2] / "test-output" / "axe"

_axe = Axe()


def findings(page: Any, *, colours_alone: bool = False) -> list[str]:
    """Give one line for each thing that axe finds on the page: how grave, which rule, where.

    ``colours_alone`` is for a page whose structure was looked at in another scheme of colours.
    """
    rules = RULES | {"runOnly": {"type": "rule", "values": ["color-contrast"]}} if colours_alone else RULES
    found = _axe.run(page, options=rules).response
    assert found["passes"], "axe-core looked at nothing"
    return [
        f"{each['impact']} {each['id']}: {node['target']} {node.get('failureSummary', '').splitlines()[-1:]}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


def serious(found: list[str]) -> list[str]:
    return [line for line in found if line.startswith(SERIOUS)]


def keep(name: str, found: dict[str, list[str]]) -> None:
    """Keep what was found on which page, for people to read afterwards."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    summary = {"pages": len(found), "serious": sum(len(serious(each)) for each in found.values()), "found": found}
    (OUTPUT / f"{name}.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
