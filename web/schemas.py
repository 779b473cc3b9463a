"""Define what a client may send: strict models without extra fields, one pair (create, change) per resource.

JSON goes through ``read_json`` (the raw bytes, so that dates and UUIDs may be text); forms go through
``read_form``, which takes text for every type. Both raise ``FieldErrors`` that names each field. Lengths and
bounds are those every database keeps: what is taken comes back equal wherever the tenant lives.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tenancy.catalog.backups import BackupState
from tenancy.catalog.jobs import JobState
from tenancy.models import State
from tenancy.names import MAX_USER_ID, is_visible

TITLE_MAX = 200
TEXT_MAX = 200_000
NAME_MAX = 100
KEY_NAME_MAX = 100
SETTING_KEY_MAX = 64
MIN_YEAR = 1000  # MySQL's DATE and DATETIME begin there
LIMIT_DEFAULT = 50
LIMIT_MAX = 200
CURSOR_MAX = 512
UNSTORABLE = r"^[^\x00]*$"
_TIME = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d", re.ASCII)
_SECOND_OF_TWO = ("ends_at", "due_time")

Model = TypeVar("Model", bound=BaseModel)


class FieldErrors(Exception):  # noqa: N818 - it holds several
    """Report invalid fields: ``errors`` is a list of ``{"field", "code", "message"}``."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__("; ".join(f"{error['field']}: {error['message']}" for error in errors))
        self.errors = errors

    @classmethod
    def one(cls, field: str, code: str, message: str) -> FieldErrors:
        return cls([{"field": field, "code": code, "message": message}])


def _visible(text: str) -> str:
    if not is_visible(text):
        raise ValueError("must hold something that can be seen")
    return text


def _written(kind: Literal["date", "datetime"], shape: str) -> Callable[[Any], Any]:
    """Accept only text of this shape: pydantic would read "0" and "1700000000" as seconds since 1970."""
    pattern = re.compile(shape, re.ASCII)

    def check(value: Any) -> Any:
        if not isinstance(value, str):
            raise PydanticCustomError(f"{kind}_type", f"Input should be a valid {kind}")
        if not pattern.match(value):
            raise PydanticCustomError(f"{kind}_parsing", f"Input should be a valid {kind} in ISO 8601")
        return value

    return check


def _time_of_day(text: str) -> str:
    if not _TIME.fullmatch(text):
        raise PydanticCustomError("time_format", "Input should be a time like 17:30")
    return text


def _year(value: Any) -> Any:
    if value.year < MIN_YEAR:
        raise ValueError(f"must be in the year {MIN_YEAR} or later")
    return value


def _utc(value: dt.datetime) -> dt.datetime:
    try:
        return _year(value.astimezone(dt.UTC))  # type: ignore[no-any-return]  # gives back what it was given
    except OverflowError:
        raise ValueError("lies outside the calendar once it is in UTC") from None


Line = StringConstraints(min_length=1, max_length=TITLE_MAX, pattern=UNSTORABLE)
Title = Annotated[str, Line, AfterValidator(_visible)]
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=NAME_MAX, pattern=UNSTORABLE), AfterValidator(_visible)
]
Text = Annotated[str, StringConstraints(max_length=TEXT_MAX, pattern=UNSTORABLE)]
Place = Annotated[str, StringConstraints(max_length=TITLE_MAX, pattern=UNSTORABLE)]
TableName = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=UNSTORABLE)]
Color = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]
# The text is checked first, because strict types refuse to convert Python strings.
ISO_DAY = BeforeValidator(_written("date", r"\d{4}-\d{2}-\d{2}$"))
ISO_MOMENT = BeforeValidator(_written("datetime", r"\d{4}-\d{2}-\d{2}[Tt ]\d"))
Day = Annotated[dt.date, Field(strict=False), ISO_DAY, AfterValidator(_year)]
Moment = Annotated[AwareDatetime, Field(strict=False), ISO_MOMENT, AfterValidator(_utc)]
TimeOfDay = Annotated[str, AfterValidator(_time_of_day)]
Status = Literal["todo", "doing", "done"]
Priority = Annotated[int, Field(ge=0, le=3)]


class Strict(BaseModel):
    """Refuse unknown fields, and values whose type is not the field's."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


class Creation(Strict):
    """Let the client choose the row's id, so that a repeated POST creates nothing twice."""

    id: UUID | None = None


class TaskCreate(Creation):
    title: Title
    description: Text | None = None
    status: Status = "todo"
    priority: Priority = 0
    due_date: Day | None = None
    category_id: UUID | None = None


class _TaskDue(Strict):
    @model_validator(mode="after")
    def _time_has_a_day(self) -> Self:
        if getattr(self, "due_time", None) and not getattr(self, "due_date", None):
            raise ValueError("due_time needs a due_date")
        return self


class TaskPageCreate(TaskCreate, _TaskDue):
    """Add a time of day, which only the pages use and not the JSON API."""

    due_time: TimeOfDay | None = None


class TaskDue(_TaskDue):
    """What the inline form of a task changes."""

    title: Title
    due_date: Day | None = None
    due_time: TimeOfDay | None = None


class TaskBulk(Strict):
    """What the bulk form of tasks changes."""

    priority: Priority | None = None
    due_date: Day | None = None
    category_id: UUID | None = None


class NoteCreate(Creation):
    title: Title
    body: Text | None = None
    pinned: bool = False
    category_id: UUID | None = None


class _EventTimes(Strict):
    @model_validator(mode="after")
    def _end_follows_start(self) -> Self:
        starts_at, ends_at = getattr(self, "starts_at", None), getattr(self, "ends_at", None)
        if starts_at and ends_at and ends_at < starts_at:
            raise ValueError("ends_at must not be before starts_at")
        return self


class EventCreate(Creation, _EventTimes):
    title: Title
    description: Text | None = None
    location: Place | None = None
    starts_at: Moment
    ends_at: Moment | None = None
    all_day: bool = False
    category_id: UUID | None = None


class CategoryCreate(Creation):
    name: Name
    color: Color | None = None


class ViewName(Strict):
    name: Name


class SettingPut(Strict):
    value: Text


class KeyCreate(Strict):
    name: Annotated[str, StringConstraints(max_length=KEY_NAME_MAX, pattern=UNSTORABLE)] = ""
    read_only: bool = False
    expires_at: Moment | None = None


class DatabaseInitialize(Strict):
    """The arguments of ``initialize_user_database``."""

    db_type: Annotated[str, StringConstraints(max_length=50, pattern=UNSTORABLE)] | None = None
    db_host: Annotated[str, StringConstraints(max_length=255, pattern=UNSTORABLE)] | None = None
    db_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    db_name: Annotated[str, StringConstraints(max_length=255, pattern=UNSTORABLE)] | None = None
    db_user: Annotated[str, StringConstraints(max_length=255, pattern=UNSTORABLE)] | None = None
    db_password: Annotated[str, StringConstraints(max_length=1024, pattern=UNSTORABLE)] | None = Field(
        default=None, repr=False
    )
    db_path: Annotated[str, StringConstraints(max_length=500, pattern=UNSTORABLE)] | None = None
    db_options: dict[str, str | int] | None = None


class RestoreDatabase(Strict):
    """Which backup to restore: these tables alone where some are named, or into a new account of this address."""

    backup_id: UUID
    only_tables: Annotated[list[TableName], Field(max_length=100)] = Field(default_factory=list)
    as_new_user: Annotated[str, StringConstraints(min_length=1, max_length=254, pattern=UNSTORABLE)] | None = None


def _changes(creation: type[BaseModel], name: str, base: type[BaseModel] = Strict) -> type[BaseModel]:
    """Derive the model of a PATCH: every field except ``id`` is optional, and only fields that are sent change."""
    fields: dict[str, Any] = {}
    for field, info in creation.model_fields.items():
        if field != "id":
            kind = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
            fields[field] = (kind, Field(default=None, json_schema_extra=_without_default))
    return create_model(name, __base__=base, **fields)


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


class ListQuery(Strict):
    """The query parameters of every list."""

    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT
    cursor: Annotated[str, StringConstraints(min_length=1, max_length=CURSOR_MAX)] | None = None


class RowsQuery(ListQuery):
    """Add a search, which goes through all of the owner's rows and cannot be combined with filters."""

    q: Annotated[str, StringConstraints(min_length=1, max_length=TITLE_MAX, pattern=UNSTORABLE)] | None = None


class TasksQuery(RowsQuery):
    status: Status | None = None
    priority: Priority | None = None
    category_id: UUID | None = None
    due_before: Day | None = None
    due_after: Day | None = None


class NotesQuery(RowsQuery):
    pinned: bool | None = None
    category_id: UUID | None = None


class EventsQuery(RowsQuery):
    category_id: UUID | None = None
    starts_after: Moment | None = None
    starts_before: Moment | None = None


class CategoriesQuery(RowsQuery):
    pass


class DatabasesQuery(ListQuery):
    """The filters of the administrators' list of databases."""

    status: State | None = None
    db_type: Annotated[str, StringConstraints(max_length=50, pattern=UNSTORABLE)] | None = None
    behind: bool = False
    inactive_since: Moment | None = None
    q: Annotated[str, StringConstraints(min_length=1, max_length=254, pattern=UNSTORABLE)] | None = None


class BackupsQuery(ListQuery):
    """The filters of the administrators' list of backups."""

    user_id: Annotated[int, Field(ge=1, le=MAX_USER_ID)] | None = None
    kind: Literal["tenant", "catalog"] | None = None
    state: BackupState | None = None


class JobsQuery(ListQuery):
    """The filters of the administrators' list of jobs."""

    state: JobState | None = None
    kind: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=UNSTORABLE)] | None = None


TaskChange = _changes(TaskCreate, "TaskChange")
TaskPageChange = _changes(TaskPageCreate, "TaskPageChange", _TaskDue)
NoteChange = _changes(NoteCreate, "NoteChange")
EventChange = _changes(EventCreate, "EventChange", _EventTimes)
CategoryChange = _changes(CategoryCreate, "CategoryChange")


def read_json(model: type[Model], raw: bytes) -> Model:
    """Validate JSON bytes; ``web/http/json_io.py`` has already refused anything but a JSON object."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise FieldErrors(field_errors(error)) from None


def read_form(model: type[Model], values: Mapping[str, str]) -> Model:
    """Validate the text of a form or query ("3", "2026-02-28", "true"), without the values left empty."""
    try:
        return model.model_validate_strings(dict(values), strict=False)
    except ValidationError as error:
        raise FieldErrors(field_errors(error)) from None


def sent(model: BaseModel) -> dict[str, Any]:
    """Return the fields that the client sent, as Python values; ``id`` only if it chose one."""
    values = {name: getattr(model, name) for name in model.model_fields_set}
    if values.get("id", ...) is None:
        del values["id"]
    return values


def field_errors(error: ValidationError) -> list[dict[str, str]]:
    """List the invalid fields in the order of the model, without repeating the values sent."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        {"field": _field_name(item["loc"], item["msg"]), "code": item["type"], "message": _plain(item["msg"])}
        for item in found
    ]


def _field_name(path: tuple[int | str, ...], message: str) -> str:
    # A rule about two fields (an event's times, a task's date and time) is reported at the field to correct.
    if not path:
        return next((name for name in _SECOND_OF_TWO if name in message), "(body)")
    return ".".join(str(step) for step in path)


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")
