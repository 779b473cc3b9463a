"""Declare each resource's form and names; ``rows`` provides the views for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from repositories import schema
from web import schemas
from web.pages.common.form_times import ZONE
from web.pages.common.forms import CATEGORY, Field


@dataclass(frozen=True)
class Resource:
    """One kind of rows."""

    name: str
    singular: str
    fields: tuple[Field, ...]
    creation: type[BaseModel]
    change: type[BaseModel]

    @property
    def label(self) -> str:
        """Name the column that names a row."""
        return schema.label(schema.KINDS[self.name])

    @property
    def endpoint(self) -> str:
        return f"pages.{self.name}"

    @property
    def hidden(self) -> tuple[str, ...]:
        """Name what the form may post besides its fields: the time zone of its times."""
        return (ZONE,) if any(field.kind == "datetime-local" for field in self.fields) else ()

    @property
    def categorized(self) -> bool:
        return any(field.kind == "category" for field in self.fields)


TITLE = Field("title", "Title", required=True, max_length=schemas.TITLE_MAX, wide=True)
STATUSES = (("todo", "To do"), ("doing", "Doing"), ("done", "Done"))
PRIORITIES = (("0", "None"), ("1", "Low"), ("2", "Medium"), ("3", "High"))
SWATCHES = (
    ("#1f5fa8", "Blue"),
    ("#0e7c86", "Teal"),
    ("#2f8f4e", "Green"),
    ("#6b8e23", "Olive"),
    ("#b8860b", "Ochre"),
    ("#c2571a", "Orange"),
    ("#b3261e", "Red"),
    ("#b0307a", "Pink"),
    ("#6a3fb5", "Violet"),
    ("#5a6470", "Grey"),
)
DUE = (Field("due_date", "Due", "date"), Field("due_time", "Time", "time"))

_TASK = (
    TITLE,
    Field("description", "Description", "textarea", wide=True),
    Field("status", "Status", "select", choices=STATUSES),
    Field("priority", "Priority", "select", choices=PRIORITIES, number=True),
    *DUE,
    CATEGORY,
)
_NOTE = (
    TITLE,
    Field("body", "Text", "textarea", wide=True),
    CATEGORY,
    Field("pinned", "Pin to the start page", "checkbox"),
)
_EVENT = (
    TITLE,
    Field("starts_at", "Starts", "datetime-local", required=True),
    Field("ends_at", "Ends", "datetime-local"),
    Field("location", "Place", max_length=schemas.TITLE_MAX),
    CATEGORY,
    Field("all_day", "All day", "checkbox"),
    Field("description", "Description", "textarea", wide=True),
)
_CATEGORY = (
    Field("name", "Name", required=True, max_length=schemas.NAME_MAX),
    Field("color", "Colour", "color", initial="#1f5fa8", choices=SWATCHES),
)

TASKS = Resource("tasks", "task", _TASK, schemas.TaskPageCreate, schemas.TaskPageChange)
NOTES = Resource("notes", "note", _NOTE, schemas.NoteCreate, schemas.NoteChange)
EVENTS = Resource("events", "event", _EVENT, schemas.EventCreate, schemas.EventChange)
CATEGORIES = Resource("categories", "category", _CATEGORY, schemas.CategoryCreate, schemas.CategoryChange)

RESOURCES: Mapping[str, Resource] = {each.name: each for each in (TASKS, NOTES, EVENTS, CATEGORIES)}
