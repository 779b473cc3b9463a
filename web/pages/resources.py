"""Declare what people see of each resource: its form, its filters and its words. ``workspace`` does the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from web import schemas
from web.pages.forms import Field


@dataclass(frozen=True)
class Filter:
    """Declare one choice above a list; a choice is (word in the address, label, value for the repository)."""

    name: str
    label: str
    everything: str
    choices: tuple[tuple[str, str, object], ...]

    def value(self, word: str) -> object:
        """Give what the repository is asked for, or None for a word that is not offered."""
        return next((value for key, _, value in self.choices if key == word), None)


@dataclass(frozen=True)
class Resource:
    """Describe one kind of rows; ``label`` is the column that names a row."""

    name: str
    singular: str
    article: str
    fields: tuple[Field, ...]
    creation: type[BaseModel]
    change: type[BaseModel]
    empty: str
    deletion: str
    label: str = "title"
    filters: tuple[Filter, ...] = ()

    @property
    def endpoint(self) -> str:
        return f"pages.{self.name}"

    @property
    def categorized(self) -> bool:
        return any(field.kind == "category" for field in self.fields)


TITLE = Field("title", "Title", required=True, max_length=schemas.TITLE_MAX, wide=True)
CATEGORY = Field("category_id", "Category", "category")

TASKS = Resource(
    name="tasks",
    singular="task",
    article="a",
    fields=(
        TITLE,
        Field("description", "Description", "textarea", wide=True),
        Field("status", "Status", "select", choices=(("todo", "To do"), ("doing", "Doing"), ("done", "Done"))),
        Field(
            "priority",
            "Priority",
            "select",
            choices=(("0", "None"), ("1", "Low"), ("2", "Medium"), ("3", "High")),
            number=True,
        ),
        Field("due_date", "Due", "date"),
        CATEGORY,
    ),
    creation=schemas.TaskCreate,
    change=schemas.TaskChange,
    empty="No tasks yet. Add the first one above.",
    deletion="It is gone for good.",
    filters=(
        Filter(
            "status",
            "Status",
            "Any status",
            (("todo", "To do", "todo"), ("doing", "Doing", "doing"), ("done", "Done", "done")),
        ),
    ),
)

NOTES = Resource(
    name="notes",
    singular="note",
    article="a",
    fields=(
        TITLE,
        Field("body", "Text", "textarea", wide=True),
        CATEGORY,
        Field("pinned", "Pin to the start page", "checkbox"),
    ),
    creation=schemas.NoteCreate,
    change=schemas.NoteChange,
    empty="No notes yet. Write the first one above.",
    deletion="It is gone for good.",
    filters=(Filter("pinned", "Pinned", "All notes", (("yes", "Pinned", True), ("no", "Not pinned", False))),),
)

EVENTS = Resource(
    name="events",
    singular="event",
    article="an",
    fields=(
        TITLE,
        Field("starts_at", "Starts", "datetime-local", required=True),
        Field("ends_at", "Ends", "datetime-local"),
        Field("location", "Place", max_length=schemas.TITLE_MAX),
        CATEGORY,
        Field("all_day", "All day", "checkbox"),
        Field("description", "Description", "textarea", wide=True),
    ),
    creation=schemas.EventCreate,
    change=schemas.EventChange,
    empty="No events yet. Add the first one above.",
    deletion="It is gone for good.",
)

CATEGORIES = Resource(
    name="categories",
    singular="category",
    article="a",
    fields=(
        Field("name", "Name", required=True, max_length=schemas.NAME_MAX),
        Field("color", "Colour", "color", initial="#1f5fa8"),
    ),
    creation=schemas.CategoryCreate,
    change=schemas.CategoryChange,
    empty="No categories yet. Add the first one above.",
    deletion="What is in it moves to “Uncategorized”.",
    label="name",
)

RESOURCES: Mapping[str, Resource] = {each.name: each for each in (TASKS, NOTES, EVENTS, CATEGORIES)}
