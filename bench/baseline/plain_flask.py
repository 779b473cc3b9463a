"""Serve tasks as an ordinary small Flask application does: one database, rows filtered by ``user_id``.

Flask, Flask-Login with ``session.get`` as its user loader, SQLAlchemy's ORM, ``jsonify``. The same fields as
Unify's tasks, the same index for the list, WAL; nothing else of what Unify does.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask, Response, jsonify, request
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker


class Base(DeclarativeBase):
    """Hold the tables."""


class User(UserMixin, Base):
    """Keep an account."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(254), unique=True)
    display_name: Mapped[str] = mapped_column(sa.String(100))


class Task(Base):
    """Keep a task of a user."""

    __tablename__ = "tasks"
    __table_args__ = (sa.Index("ix_tasks_user", "user_id", "created_at", "id"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    title: Mapped[str] = mapped_column(sa.String(200))
    description: Mapped[str | None] = mapped_column(sa.Text)
    status: Mapped[str] = mapped_column(sa.String(8), default="todo")
    priority: Mapped[int] = mapped_column(default=0)
    due_date: Mapped[dt.date | None]
    category_id: Mapped[uuid.UUID | None]
    created_at: Mapped[dt.datetime]
    updated_at: Mapped[dt.datetime]

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "title": self.title,
            "description": self.description,
            "status": self.status,
            "priority": self.priority,
            "due_date": self.due_date.isoformat() if self.due_date else None,
            "category_id": self.category_id,
            "created_at": self.created_at.isoformat() + "Z",
            "updated_at": self.updated_at.isoformat() + "Z",
        }


def create_app(database: Path | str, **pool: Any) -> Flask:
    """Make the application on the SQLite file, or the database URL."""
    engine = sa.create_engine(f"sqlite:///{database}" if isinstance(database, Path) else database, **pool)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda driver, _: driver.execute("PRAGMA journal_mode = WAL"))
    Base.metadata.create_all(engine)
    db = scoped_session(sessionmaker(engine))

    app = Flask(__name__)
    app.config.update(SECRET_KEY="a benchmark's key, good for nothing")
    app.extensions["engine"] = engine
    login = LoginManager(app)

    @app.teardown_appcontext
    def end(_: BaseException | None) -> None:
        db.remove()

    @login.user_loader
    def load(user_id: str) -> User | None:
        return db.get(User, int(user_id))

    @app.post("/login")
    def sign_in() -> Response:
        user = db.scalars(sa.select(User).where(User.email == request.form["email"])).one()
        login_user(user)
        return jsonify({"id": user.id})

    @app.get("/api/v1/tasks")
    @login_required
    def tasks() -> Response:
        limit = min(request.args.get("limit", 50, type=int), 200)
        mine = sa.select(Task).where(Task.user_id == current_user.id)
        rows = db.scalars(mine.order_by(Task.created_at, Task.id).limit(limit)).all()
        return jsonify({"items": [row.to_dict() for row in rows], "next_cursor": None})

    return app


def fill(app: Flask, users: Iterable[tuple[int, str]], rows: Iterable[dict[str, Any]]) -> None:
    """Write accounts and tasks; a row's moments are in UTC and kept without a zone."""
    plain = [{name: _plain(value) for name, value in row.items() if name != "version"} for row in rows]
    with app.extensions["engine"].begin() as connection:
        people = [{"id": id, "email": email, "display_name": email} for id, email in users]
        connection.execute(sa.insert(User), people)
        connection.execute(sa.insert(Task), plain)


def _plain(value: Any) -> Any:
    return value.replace(tzinfo=None) if isinstance(value, dt.datetime) else value
