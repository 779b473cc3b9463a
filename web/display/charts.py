"""Compute the layout of small charts: the positions of bars, shares and lines. Templates draw them; CSS colours them.

Positions are in the drawing's own units, rounded to a tenth. Nothing here knows about SVG or pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

GAP = 0.25
"""The part of a bar's width that stays empty as a gap."""

THINNEST = 2.0
"""The least width of a share above zero, so that it can be seen."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """One rectangle and what it represents."""

    label: str
    value: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Trend:
    """A line through points in time and the area under it; ``top`` is the value of the upper edge."""

    line: str
    area: str
    last: Point
    top: int


def bars(values: Sequence[tuple[str, int]], *, width: float, height: float) -> list[Box]:
    """Return one vertical bar per value, side by side; the highest fills the drawing."""
    if not values:
        return []
    highest = max(value for _, value in values) or 1
    place = width / len(values)
    found = []
    for number, (label, value) in enumerate(values):
        tall = height * value / highest
        left = place * (number + GAP / 2)
        found.append(Box(label, value, _r(left), _r(height - tall), _r(place * (1 - GAP)), _r(tall)))
    return found


def shares(values: Sequence[tuple[str, int]], *, width: float, height: float) -> list[Box]:
    """Return the parts of a whole as one bar from left to right; small parts stay visible, zeros are left out."""
    there = [(label, value) for label, value in values if value > 0]
    total = sum(value for _, value in there)
    wide = [max(THINNEST, width * value / total) for _, value in there]
    over = sum(wide) / width if there else 1
    found, left = [], 0.0
    for (label, value), part in zip(there, wide, strict=True):
        found.append(Box(label, value, _r(left), 0, _r(part / over), _r(height)))
        left += part / over
    return found


def trend(values: Sequence[tuple[date, int]], *, width: float, height: float) -> Trend | None:
    """Return the line of values over days, oldest first, bridging days without a value; None without any values."""
    if not values:
        return None
    top = max(value for _, value in values) or 1
    first, days = values[0][0], (values[-1][0] - values[0][0]).days or 1
    points = [(_r(width * (day - first).days / days), _r(height - height * value / top)) for day, value in values]
    if len(points) == 1:
        points.append((_r(width), points[0][1]))  # one value is a level line
    line = "M" + " L".join(f"{x} {y}" for x, y in points)
    area = f"{line} L{points[-1][0]} {_r(height)} L{points[0][0]} {_r(height)} Z"
    return Trend(line, area, points[-1], top)


def weeks(days: Sequence[tuple[date, int]]) -> list[tuple[date, int]]:
    """Sum each seven days, counted back from the last day; return the first day of each with its sum."""
    start = len(days) % 7
    return [(days[at][0], sum(value for _, value in days[at : at + 7])) for at in range(start, len(days), 7)]


def _r(number: float) -> float:
    return round(float(number), 1)
