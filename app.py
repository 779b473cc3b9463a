"""Create the WSGI application: ``gunicorn 'app:create_app()'``, ``flask --app app run``, ``python app.py``."""

from __future__ import annotations

import logging
import sys

import click
from flask import Flask
from flask.cli import ScriptInfo
from werkzeug.serving import make_server

import compose
import web
from settings import PROJECT, Settings
from tenancy.errors import TenancyError

FOR_DEVELOPMENT = (
    "This server is for development only: it does not limit slow clients, or the threads and memory that clients use."
    " To serve others, run: unify serve"
)

BARE_GUNICORN = (
    f"gunicorn runs without Unify's configuration, so slow clients can occupy its threads. Start it in {PROJECT}, "
    f"or with -c {PROJECT / 'gunicorn.conf.py'}, or run: unify serve"
)

log = logging.getLogger(__name__)


def create_app(settings: Settings | None = None) -> Flask:
    """Build the application from ``settings``, or from the environment and ``.env``."""
    asked = click.get_current_context(silent=True)
    if settings is None and asked is not None and asked.find_object(ScriptInfo) is not None:
        return _for_flask_command(asked)
    app = web.create(compose.build(settings or Settings.load()))
    if _under_bare_gunicorn():
        log.warning(BARE_GUNICORN)
    return app


def _under_bare_gunicorn() -> bool:
    """Return whether gunicorn runs this app with a worker other than the one that gunicorn.conf.py sets."""
    return "gunicorn.arbiter" in sys.modules and "utils.worker" not in sys.modules


def _for_flask_command(asked: click.Context) -> Flask:
    """Build the application for the `flask` command, and raise errors as click's, which it prints in one line."""
    try:
        app = web.create(compose.build(Settings.load()))
    except TenancyError as error:
        raise click.ClickException(error.message) from None
    if asked.info_name == "run":
        _tell(app, asked.params["host"], asked.params["port"])
    return app


def _tell(app: Flask, host: str, port: int) -> None:
    for line in (FOR_DEVELOPMENT, *compose.first_steps(app.extensions["unify"], host, port)):
        click.echo(line, err=True)


def main() -> None:
    """Serve for development on HOST and PORT. Flask's debugger stays off: it runs code for whoever can connect."""
    try:
        settings = Settings.load()
        app = create_app(settings)
    except TenancyError as error:
        sys.exit(f"Error: {error.message}")
    try:
        server = make_server(settings.host, settings.port, app, threaded=True)
    except OSError as error:
        sys.exit(f"Error: cannot listen on HOST {settings.host}, PORT {settings.port}: {error.strerror}.")
    _tell(app, settings.host, settings.port)
    click.echo(f"Serving on {server.server_name}:{server.server_port}. Ctrl-C ends it.", err=True)
    try:
        server.serve_forever()
    finally:
        server.server_close()
        app.extensions["unify"].close()


if __name__ == "__main__":
    main()
