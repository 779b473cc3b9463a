"""Link a page of a list to the next page, and to the first one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def links(address: Callable[..., str], began_at: object, **place: Any) -> dict[str, str | None]:
    """Return ``next_url`` and ``first_url``, None where there is no such page.

    ``address`` makes the list's URL. ``began_at`` is where the shown page began, false for the first one; ``place`` is
    the parameter by which the next page begins, None at the end of the list.
    """
    (following,) = place.values()
    return {
        "next_url": None if following is None else address(**place),
        "first_url": address() if began_at else None,
    }
