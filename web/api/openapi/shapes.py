"""Declare the response models of the JSON calls for the OpenAPI document; ``document.py`` derives those of rows."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict


class Shown(BaseModel):
    """Base of all responses: every member is present, and no others."""

    model_config = ConfigDict(extra="forbid")


class SettingShown(Shown):
    key: str
    value: str
    created_at: dt.datetime
    updated_at: dt.datetime


class KeyShown(Shown):
    id: UUID
    name: str
    prefix: str
    read_only: bool
    created_at: dt.datetime
    expires_at: dt.datetime | None
    last_used_at: dt.datetime | None
    held: bool


class KeyMade(KeyShown):
    key: str


class AccountDatabase(Shown):
    db_type: str
    status: str
    revision: str | None


class Account(Shown):
    id: int
    email: str
    display_name: str
    is_admin: bool
    created_at: dt.datetime
    database: AccountDatabase | None


class Database(BaseModel):
    user_id: int
    tenant_id: UUID
    db_type: str
    db_host: str | None
    db_port: int | None
    db_name: str | None
    db_user: str | None
    db_path: str | None
    password_set: bool
    is_active: bool
    status: str
    revision: str | None
    head_revision: str
    last_used_at: dt.datetime | None
    created_at: dt.datetime | None


class DatabaseListed(Database):
    email: str
    damaged: list[str]


class DatabaseInfo(Database):
    size_bytes: int | None


class DatabaseInitialized(BaseModel):
    success: bool
    config: dict[str, Any]


class DatabaseSize(BaseModel):
    user_id: int | None
    name: str
    size_mb: float | None
    measured_at: dt.datetime | None
    modified: dt.datetime | None


class DatabaseStats(BaseModel):
    total_databases: int
    total_size_mb: float
    measured: int
    by_status: dict[str, int]
    by_type: dict[str, int]
    databases: list[DatabaseSize]


class Backup(BaseModel):
    id: UUID
    kind: str
    tenant_id: UUID | None
    user_id: int | None
    email: str | None
    epoch: int
    db_type: str
    state: str
    started_at: dt.datetime
    finished_at: dt.datetime | None
    revision: str | None
    app_version: str
    size_bytes: int | None
    row_count: int | None
    checksum: str | None
    plain_checksum: str | None
    imprint: str | None
    key_ids: list[str]
    signed_by: str
    installation: str
    error: str | None
    error_code: str | None
    verified_at: dt.datetime | None
    verified_by: str | None


class AllBackups(BaseModel):
    class Standing(BaseModel):
        warn_hours: int
        databases: int
        late: int
        never: int
        oldest_at: dt.datetime | None
        oldest_late: bool
        catalog_at: dt.datetime | None
        catalog_late: bool
        failed: int

    items: list[Backup]
    next_cursor: str | None
    standing: Standing


class Job(BaseModel):
    class Progress(BaseModel):
        done: int | None
        total: int | None
        text: str | None

    id: int
    kind: str
    arguments: dict[str, Any]
    state: str
    due_at: dt.datetime
    attempt: int
    most_attempts: int
    failures: int
    interruptions: int
    cancelling: bool
    key: str | None
    runner: str | None
    expires_at: dt.datetime | None
    progress: Progress
    result: dict[str, Any] | None
    error: str | None
    error_code: str | None
    log: str
    actor_id: int | None
    schedule_id: int | None
    created_at: dt.datetime
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    had_secrets: bool


class JobAdded(BaseModel):
    job: Job


class JobStatus(BaseModel):
    class Worker(BaseModel):
        host: str
        pid: int
        threads: int
        running: int
        started_at: dt.datetime
        beaten_at: dt.datetime

    workers: list[Worker]
    jobs: dict[str, int]
    waiting_s: float | None


class Schedules(BaseModel):
    class Schedule(BaseModel):
        id: int
        cron: str
        zone: str
        kind: str
        arguments: dict[str, Any]
        next_due_at: dt.datetime
        last_job_id: int | None
        actor_id: int | None
        created_at: dt.datetime

    items: list[Schedule]


class Problem(BaseModel):
    """An error (RFC 9457)."""

    class FieldError(Shown):
        field: str
        code: str
        message: str

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldError] = []
