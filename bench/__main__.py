"""Run all benchmarks, print one table, and keep the figures in ``bench/results/latest.json``.

python -m bench [--small] [--only NAME] [--output FILE]

What ``--only`` leaves out is kept as it was, where it comes from the same machine. The small size says nothing about
speed and goes to a file of its own. ``python -m bench.charts`` draws what was kept.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measure import Figure, machine
from bench.world import progress

MODULES = ("request", "engines", "provision", "fleet", "servers", "scale", "pages", "console", "archives")
RESULTS = Path(__file__).resolve().parent / "results"
LATEST = RESULTS / "latest.json"


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; give 0, whatever the figures are: a noisy machine is no error."""
    asked = _parser().parse_args(arguments)
    output = asked.output or (RESULTS / "small.json" if asked.small else LATEST)
    figures: dict[str, list[Figure]] = {}
    for name in asked.only or MODULES:
        progress(f"bench.{name}")
        figures[name] = importlib.import_module(f"bench.{name}").run(small=asked.small)
    console = Console()
    if not console.is_terminal:
        console.width = 160  # nobody's window: no reason to fold lines
    console.print(table([figure for found in figures.values() for figure in found]))
    made = report(figures, small=asked.small)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(joined(made, output), indent=2) + "\n", encoding="utf-8")
    return 0


def report(figures: dict[str, list[Figure]], *, small: bool) -> dict[str, Any]:
    """Give what is kept: when, on what kind of machine, and every figure with its baseline and its module."""
    return {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "small": small,
        "machine": machine(),
        "figures": [{"module": name} | figure.to_dict() for name, found in figures.items() for figure in found],
    }


def joined(made: dict[str, Any], output: Path) -> dict[str, Any]:
    """Add the figures of other modules that a file holds already, from the same machine and at the same size."""
    try:
        kept = json.loads(output.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return made
    if any(kept.get(name) != made[name] for name in ("small", "machine")):
        return made
    others = set(MODULES) - {figure["module"] for figure in made["figures"]}
    figures = made["figures"] + [figure for figure in kept["figures"] if figure["module"] in others]
    return made | {"figures": sorted(figures, key=lambda figure: MODULES.index(figure["module"]))}


def table(figures: list[Figure]) -> Table:
    """Lay the figures out beside their baselines."""
    shown = Table(title="Unify beside its baselines (medians of runs in turns)", title_justify="left")
    for title in ("", "what", "ours", "baseline", "ratio", "goal", ""):
        shown.add_column(title, justify="right" if title in ("ours", "baseline", "ratio", "goal") else "left")
    for figure in figures:
        verdict = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[figure.met]
        what = f"{figure.what}\n[dim]beside: {figure.baseline_is}[/]" if figure.baseline_is else figure.what
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        baseline = "" if figure.baseline is None else number(figure.baseline, figure.unit)
        shown.add_row(figure.name, what, number(figure.ours, figure.unit), baseline, ratio, goal_of(figure), verdict)
    return shown


def goal_of(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    sign, wanted = figure.goal
    return f"{sign} {wanted:g}" + ("" if figure.of_ratio else f" {figure.unit}")


def number(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if abs(value) >= 100 else f"{value:.3g} {unit}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--small", action="store_true", help="few rounds, to see that everything runs")
    parser.add_argument("--only", action="append", choices=MODULES, help="one module; may be given again")
    parser.add_argument("--output", type=Path, help="where the figures are kept, as JSON")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
