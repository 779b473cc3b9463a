"""Use a page as somebody does who has no mouse: only keys are pressed, and where one is must always be seen."""

from __future__ import annotations

from typing import Any

_FOCUSED = """() => {
  const it = document.activeElement;
  if (!it || it === document.body) return null;
  const label = it.labels && it.labels.length ? it.labels[0].innerText : "";
  const by = (it.getAttribute("aria-labelledby") || "").split(" ").filter(Boolean)
    .map((id) => document.getElementById(id)?.innerText || "").join(" ");
  const text = it.matches("input, select, textarea") ? "" : it.innerText;
  const name = (by || it.getAttribute("aria-label") || label || text || it.title || it.placeholder || "");
  const look = getComputedStyle(it);
  const box = it.getBoundingClientRect();
  return {
    name: name.replace(/\\s+/g, " ").trim(),
    tag: it.tagName.toLowerCase(),
    seen: (look.outlineStyle !== "none" && parseFloat(look.outlineWidth) > 0) || look.boxShadow !== "none",
    size: [box.width, box.height],
    html: it.outerHTML.slice(0, 200),
  };
}"""


class Keyboard:
    """Press keys on a page, and never anything else."""

    def __init__(self, page: Any) -> None:
        self._page = page
        self.pressed = 0

    def press(self, *keys: str) -> None:
        for key in keys:
            self._page.keyboard.press(key)
            self.pressed += 1

    def type(self, text: str) -> None:
        self._page.keyboard.type(text)
        self.pressed += len(text)

    def replace(self, text: str) -> None:
        """Type over what the control holds."""
        self.press("Control+a")
        self.type(text)

    def to(self, name: str, *, tag: str = "", back: bool = False, limit: int = 250) -> None:
        """Go on by Tab (or back by Shift+Tab) to the control with this name; every stop on the way must be seen."""
        self._page.wait_for_load_state("networkidle")
        passed = []
        for _ in range(limit):
            self.press("Shift+Tab" if back else "Tab")
            at = self._page.evaluate(_FOCUSED)
            if at is None:
                continue
            passed.append(at["name"])
            assert at["seen"], f"nobody sees that this has the focus: {at['html']}"
            if name.lower() in at["name"].lower() and tag in ("", at["tag"]):
                return
        raise AssertionError(f"no way to {name!r} by keyboard; passed {passed}")

    def go(self, name: str, *, tag: str = "", back: bool = False) -> None:
        """Go to a link or button and press it."""
        self.to(name, tag=tag, back=back)
        self.press("Enter")

    def fill(self, name: str, text: str) -> None:
        """Go to a control and type over what it holds."""
        self.to(name)
        self.replace(text)
