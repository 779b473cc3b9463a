"""Lay out small charts: where bars, shares and lines stand in a drawing. Templates draw them; colours are the style's.

Every place is a number of the drawing's own units, rounded to a tenth; nothing here knows of SVG or of pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

GAP = 0.25
"""Say how much of a bar's place stays free."""

THINNEST = 2.0
"""Say how wide the share of something is at least that is there at all: it shall be seen."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """Hold one rectangle and what it stands for."""

    label: str
    value: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Trend:
    """Hold a line through points in time, and the area under it; ``top`` is the value of the upper edge."""

    line: str
    area: str
    last: Point
    top: int


def bars(values: Sequence[tuple[str, int]], *, width: float, height: float) -> list[Box]:
    """Give one upright bar a value, side by side, the highest as high as the drawing."""
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
    """Give the parts of a whole as one bar from left to right; what is there is seen, what is not there has no part."""
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
    """Give the line of values over days, oldest first, across days without one; None where there is nothing."""
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
    """Add up each seven days, counted back from the last one; give the first day of each with its sum."""
    start = len(days) % 7
    return [(days[at][0], sum(value for _, value in days[at : at + 7])) for at in range(start, len(days), 7)]


def _r(number: float) -> float:
    return round(float(number), 1)
