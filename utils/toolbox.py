"""Give a command its settings and its parts, made when they are first asked for.

Nothing heavy is imported before that, so that ``unify --help`` answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from compose import Parts
    from settings import Settings


class Toolbox:
    """Hold what one run of the command works with; ``settings`` are read from the environment unless given."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings
        self._parts: Parts | None = None

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

            self._parts = compose.build(self.settings)
        return self._parts

    @property
    def debugging(self) -> bool:
        """Tell whether LOG_LEVEL=DEBUG was read; an error before that has no traceback to show."""
        return self._settings is not None and self._settings.log_level.upper() == "DEBUG"

    def close(self) -> None:
        """Let go of the parts; the next use makes new ones."""
        parts, self._parts = self._parts, None
        if parts is not None:
            parts.close()


pass_toolbox = click.make_pass_decorator(Toolbox, ensure=True)
"""Hand the run's Toolbox to a command as its first argument."""
