"""Provide the settings and parts of the application to commands, created on first use.

Nothing heavy is imported before that, so that ``unify --help`` responds at once.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from compose import Parts
    from settings import Settings


class Toolbox:
    """The settings and parts of one run of the command; settings are read from the environment unless given."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.asks = False
        """Whether questions may be asked although standard input is not a terminal, as in the menu."""
        self._settings = settings
        self._parts: Parts | None = None
        self._held = ExitStack()

    @property
    def settings(self) -> Settings:
        if self._settings is None:
            from settings import Settings

            self._settings = Settings.load()
        return self._settings

    @property
    def parts(self) -> Parts:
        if self._parts is None:
            import compose
            from tenancy import context  # loads what `unify --help` can do without

            self._parts = compose.build(self.settings)
            self._held.callback(self._parts.close)
            self._held.enter_context(context.acting(f"command {operator()}"))
        return self._parts

    def read_backups_from(self, url: str) -> None:
        """Have the parts, which must not be made yet, work with the backups of another place than BACKUP_URL."""
        place = url if "://" in url else str(Path(url).absolute())
        self._settings = replace(self.settings, backup_url=place)

    @property
    def debugging(self) -> bool:
        """Tell whether LOG_LEVEL=DEBUG was read; an error before that has no traceback to show."""
        return self._settings is not None and self._settings.log_level.upper() == "DEBUG"

    def close(self) -> None:
        """Close the parts; the next use creates new ones."""
        self._parts = None
        self._held.close()


def operator() -> str:
    """Name who runs this command for the audit log: host and system user, which no environment variable can change."""
    try:
        import pwd

        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under a number that has no name
        user = f"uid {os.getuid()}"
    except ImportError:  # Windows
        user = os.getlogin()
    return f"{user}@{socket.gethostname()}"[:180]


pass_toolbox = click.make_pass_decorator(Toolbox, ensure=True)
"""Hand the run's Toolbox to a command as its first argument."""
