"""Serve tasks as a small Flask application does that has a SQLite file, and an ordinary engine, for each user."""

from __future__ import annotations

import threading
from pathlib import Path

import sqlalchemy as sa
from flask import Flask, Response, jsonify
from sqlalchemy import event

from bench.engines import pragmas
from repositories.schema import tasks


def create_app(folder: Path) -> Flask:
    """Make the application on a folder of files, each named after its user."""
    app = Flask(__name__)
    engines: dict[int, sa.Engine] = {}
    lock = threading.Lock()
    app.extensions["engines"] = engines

    def engine_of(user_id: int) -> sa.Engine:
        with lock:
            if user_id not in engines:
                engines[user_id] = sa.create_engine(f"sqlite:///{folder / f'user_{user_id}.db'}")
                event.listen(engines[user_id], "connect", pragmas)
            return engines[user_id]

    @app.get("/api/v1/tasks/<int:user_id>")
    def listed(user_id: int) -> Response:
        mine = sa.select(tasks).where(tasks.c.user_id == user_id).order_by(tasks.c.created_at, tasks.c.id)
        with engine_of(user_id).connect() as connection:
            rows = connection.execute(mine.limit(50)).mappings().all()
        return jsonify({"items": [{name: str(value) for name, value in row.items()} for row in rows]})

    return app
