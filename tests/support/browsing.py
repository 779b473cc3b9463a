"""Browse as a person does: read a page's forms, fill them in, and send them with the cookies of one browser."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

from flask import Flask
from werkzeug.test import TestResponse

PASSWORD = "correct horse battery"


@dataclass
class HtmlForm:
    """Hold one form of a page as a browser reads it."""

    method: str
    action: str
    name: str = ""
    values: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)


class Page(HTMLParser):
    """Read a page: its forms, links, labels and what a strict policy would refuse."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.forms: list[HtmlForm] = []
        self.links: list[str] = []
        self.labelled: set[str] = set()
        self.controls: list[str] = []
        self.inline: list[str] = []
        self._elsewhere: dict[str, HtmlForm] = {}
        self._open = self._owner = HtmlForm("", "")
        self._select = self._area = ""
        self._in_label = False
        self.feed(html)

    @property
    def unlabelled(self) -> list[str]:
        """Give the controls that nothing names to a reader of the screen."""
        return [control for control in self.controls if control not in self.labelled]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.inline += [name for name in given if name == "style" or name.startswith(("on", "hx-on"))]
        self.inline += [tag] if tag in ("style", "iframe", "base") or (tag == "script" and not given.get("src")) else []
        if tag == "form":
            self._open = self._form(given)
        elif tag == "a":
            self.links.append(given.get("href", ""))
        elif tag == "label":
            self._in_label = True
            self.labelled.add(given.get("for", ""))
        elif tag == "option":
            if self._select and ("selected" in given or self._select not in self._owner.values):
                self._owner.values[self._select] = given.get("value", "")
        elif tag in ("input", "select", "textarea"):
            self._control(tag, given)

    def handle_data(self, data: str) -> None:
        if self._area:
            self._owner.values[self._area] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self._area:
            values = self._owner.values
            values[self._area] = values[self._area].removeprefix("\n")
            self._area = ""
        elif tag == "form":
            self._open = HtmlForm("", "")
        elif tag == "label":
            self._in_label = False
        elif tag == "select":
            self._select = ""

    def _form(self, given: dict[str, str]) -> HtmlForm:
        known = self._elsewhere.get(given.get("id", "")) or HtmlForm("", "")
        known.method, known.action = given.get("method", "get").upper(), given.get("action", "")
        self.forms.append(known)
        if "id" in given:
            self._elsewhere[given["id"]] = known
        return known

    def _control(self, tag: str, given: dict[str, str]) -> None:
        """Note a control with its form: the one around it, or the one that it names."""
        form = self._elsewhere.setdefault(given["form"], HtmlForm("", "")) if "form" in given else self._open
        kind = given.get("type", "text") if tag == "input" else tag
        if kind != "hidden" and not (self._in_label or "aria-label" in given or "aria-labelledby" in given):
            self.controls.append(given.get("id", ""))
        name = given.get("name", "")
        if not name:
            return
        form.names.append(name)
        form.kinds[name] = kind
        self._owner = form
        if tag == "select":
            self._select = name
        elif tag == "textarea":
            self._area = name
            form.values[name] = ""
        elif kind not in ("checkbox", "radio") or "checked" in given:
            form.values[name] = given.get("value", "")


class Visitor:
    """Browse with a cookie jar of one's own."""

    def __init__(self, app: Flask) -> None:
        self.client = app.test_client()

    def get(self, path: str, status: int = 200) -> Page:
        answer = self.client.get(path)
        assert answer.status_code == status, f"GET {path}: {answer.status_code}"
        return Page(answer.text)

    def form(self, path: str, action: str | None = None) -> HtmlForm:
        """Find the form of a page that posts to ``action`` (to the page itself where none is given)."""
        wanted = action or path.partition("?")[0]
        return next(form for form in self.get(path).forms if form.method == "POST" and form.action == wanted)

    def send(self, path: str, action: str | None = None, /, **typed: str) -> TestResponse:
        """Fill in the form of a page and send it."""
        form = self.form(path, action)
        return self.client.post(form.action, data=form.values | typed)

    def post(self, path: str, **typed: str) -> TestResponse:
        """Post with a good token and no form before it, as somebody does who tries addresses."""
        return self.client.post(path, data={"csrf_token": self.token} | typed)

    @property
    def token(self) -> str:
        return next(form for form in self.get("/settings").forms if form.method == "POST").values["csrf_token"]

    def sign_in(self, email: str, password: str = PASSWORD, **typed: str) -> TestResponse:
        return self.send("/auth/login", email=email, password=password, **typed)
