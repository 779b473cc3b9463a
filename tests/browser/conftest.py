"""Serve the application on a port and look at it with a real Chromium.

PICTURES=1 leaves screenshots in ``test-output``.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import make_server

OUTPUT = Path(__file__).resolve().parents[2] / "test-output" / "screenshots"
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1200, "height": 800}
HIGHEST = 8_000
PICTURES = bool(os.environ.get("PICTURES")) or os.environ.get("LOOKS") == "all"


def whole(app: Flask) -> Callable[..., list[bytes]]:
    """Read and close each answer before it is sent.

    The development server forgets to close one whose browser hangs up meanwhile, and its file is left open.
    """

    def answer(environ: Any, start_response: Any) -> list[bytes]:
        with closing(app(environ, start_response)) as body:  # type: ignore[type-var]  # it has a close, untold by WSGI
            return [b"".join(body)]

    return answer


class Watched:
    """Hold a browser page, what went wrong in it, and where its pictures go."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.address = address
        self.problems: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("requestfailed", self._failed)

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def _failed(self, request: Any) -> None:
        # Going on to the next page before this one's style has come is no failure.
        if "ERR_ABORTED" not in str(request.failure):
            self.problems.append(f"{request.url}: {request.failure}")

    def open(self, path: str) -> Any:
        """Go to a path and give the answer."""
        return self.page.goto(self.address + path)

    def fill(self, **typed: str) -> None:
        """Type into the form that holds the fields, found by their labels as a reader of the page would."""
        for label, text in typed.items():
            self.page.get_by_label(re.compile(f"^{label.replace('_', ' ')}")).first.fill(text)

    def press(self, button: str) -> None:
        self.page.get_by_role("button", name=button, exact=True).click()

    def picture(self, name: str) -> None:
        """See that nothing of the page sticks out to the side; with PICTURES=1 or LOOKS=all keep a picture of it."""
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert self.page.evaluate(wider) <= 0, f"{name} is wider than its window"
        if not PICTURES:
            return
        OUTPUT.mkdir(parents=True, exist_ok=True)
        window = self.page.viewport_size
        # In a window as high as the page, what is fixed to its lower edge stands there and not across the page.
        whole = self.page.evaluate("document.documentElement.scrollHeight")
        self.page.set_viewport_size(window | {"height": min(max(whole, window["height"]), HIGHEST)})
        self.page.screenshot(path=OUTPUT / f"{name}.png", full_page=True)
        self.page.set_viewport_size(window)


@pytest.fixture
def serve() -> Iterator[Callable[[Flask], str]]:
    """Give a function that serves an application and gives its address."""
    servers = []

    def start(app: Flask) -> str:
        server = make_server("127.0.0.1", 0, whole(app), threaded=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[[str], Any]]:
    """Give a function that starts the browser, once a module: its windows share no more than the program."""
    with ExitStack() as stack:

        @cache
        def start(path: str) -> Any:
            from playwright.sync_api import sync_playwright  # optional: whoever has no browser never comes here

            playwright = stack.enter_context(sync_playwright())
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            stack.callback(browser.close)
            return browser

        yield start


@pytest.fixture
def browse(chromium: str, launch: Callable[[str], Any]) -> Iterator[Callable[..., Watched]]:
    """Give a function that opens a browser of its own: own cookies, light or dark, any size."""
    opened = []

    def start(address: str, *, scheme: Any = "light", size: Any = None, **options: Any) -> Watched:
        context = launch(chromium).new_context(
            color_scheme=scheme, viewport=size or DESK, timezone_id=options.pop("zone", "UTC"), **options
        )
        opened.append(context)
        return Watched(context.new_page(), address)

    yield start
    for context in opened:
        context.close()
