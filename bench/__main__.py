"""Run all benchmarks, print one table, and keep the figures in ``bench/results/latest.json``.

python -m bench [--small] [--only NAME] [--output FILE]
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.measure import Figure, machine
from bench.world import progress

MODULES = ("request", "engines", "provision", "fleet", "servers", "pages", "console")
LATEST = Path(__file__).resolve().parent / "results" / "latest.json"


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; give 0, whatever the figures are: a noisy machine is no error."""
    asked = _parser().parse_args(arguments)
    figures: list[Figure] = []
    for name in asked.only or MODULES:
        progress(f"bench.{name}")
        figures += importlib.import_module(f"bench.{name}").run(small=asked.small)
    console = Console()
    if not console.is_terminal:
        console.width = 160  # nobody's window: no reason to fold lines
    console.print(table(figures))
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(json.dumps(report(figures, small=asked.small), indent=2) + "\n")
    return 0


def report(figures: list[Figure], *, small: bool) -> dict[str, object]:
    """Give what is kept: when, on what kind of machine, and every figure with its baseline."""
    return {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "small": small,
        "machine": machine(),
        "figures": [figure.to_dict() for figure in figures],
    }


def table(figures: list[Figure]) -> Table:
    """Lay the figures out beside their baselines."""
    shown = Table(title="Unify beside its baselines (medians of runs in turns)", title_justify="left")
    for title in ("", "what", "ours", "baseline", "ratio", "goal", ""):
        shown.add_column(title, justify="right" if title in ("ours", "baseline", "ratio", "goal") else "left")
    for figure in figures:
        verdict = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[figure.met]
        what = f"{figure.what}\n[dim]beside: {figure.baseline_is}[/]" if figure.baseline_is else figure.what
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        baseline = "" if figure.baseline is None else _number(figure.baseline, figure.unit)
        shown.add_row(figure.name, what, _number(figure.ours, figure.unit), baseline, ratio, _goal(figure), verdict)
    return shown


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    sign, wanted = figure.goal
    return f"{sign} {wanted:g}" + ("" if figure.of_ratio else f" {figure.unit}")


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if abs(value) >= 100 else f"{value:.3g} {unit}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--small", action="store_true", help="few rounds, to see that everything runs")
    parser.add_argument("--only", action="append", choices=MODULES, help="one module; may be given again")
    parser.add_argument("--output", type=Path, default=LATEST, help="where the figures are kept, as JSON")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
