"""What people do first on every visit, and how an install looks to them: light, dark, or on a phone."""

from __future__ import annotations

import os
from typing import Any

from tests.browser.conftest import DESK, PHONE, Watched

PASSWORD = "correct horse battery"
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"scheme": "light", "size": DESK},
    "dark": {"scheme": "dark", "size": DESK},
    "phone": {"scheme": "light", "size": PHONE},
}
ALL_LOOKS = os.environ.get("LOOKS") == "all"
AT_A_DESK, ON_A_PHONE = (list(LOOKS) if ALL_LOOKS else [look] for look in ("dark", "phone"))
"""Where a story is tried: operators sit at a desk, people have a phone. LOOKS=all tries each everywhere."""


def register(visitor: Watched, email: str, name: str) -> None:
    """Make an account as a stranger does: from the start page."""
    visitor.open("/")
    visitor.page.locator("main").get_by_role("link", name="Create account").click()
    visitor.page.get_by_label("E-mail").fill(email)
    visitor.fill(Name=name, Password=PASSWORD)
    visitor.press("Create account")
    says(visitor, f"Welcome, {name}.")


def sign_in(visitor: Watched, email: str) -> None:
    """Fill in the form of the login page, on which the visitor is."""
    visitor.page.get_by_label("E-mail").fill(email)
    visitor.fill(Password=PASSWORD)
    visitor.press("Sign in")


def says(visitor: Watched, text: str) -> None:
    """Wait until the message area says this."""
    visitor.page.locator("#messages").get_by_text(text).wait_for()


def shows(visitor: Watched, heading: str) -> None:
    """Wait for the page with this heading."""
    visitor.page.get_by_role("heading", level=1, name=heading, exact=True).wait_for()


def link(visitor: Watched, name: str) -> Any:
    """Give the link of the page's content that reads so."""
    return visitor.page.locator("main").get_by_role("link", name=name, exact=True)
