"""Declare the resources that are rows: their models for creating, changing and querying."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from web import schemas


@dataclass(frozen=True)
class Resource:
    """One resource; ``name`` is its path segment and its repository's name."""

    name: str
    singular: str
    create: type[BaseModel]
    change: type[BaseModel]
    query: type[schemas.RowsQuery]


TASKS = Resource("tasks", "task", schemas.TaskCreate, schemas.TaskChange, schemas.TasksQuery)
NOTES = Resource("notes", "note", schemas.NoteCreate, schemas.NoteChange, schemas.NotesQuery)
EVENTS = Resource("events", "event", schemas.EventCreate, schemas.EventChange, schemas.EventsQuery)
CATEGORIES = Resource("categories", "category", schemas.CategoryCreate, schemas.CategoryChange, schemas.CategoriesQuery)
ALL = (TASKS, NOTES, EVENTS, CATEGORIES)
