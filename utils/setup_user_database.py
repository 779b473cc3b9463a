"""Open the numbered menu: ``python utils/setup_user_database.py`` or ``python -m utils.setup_user_database``.

Words after it are taken as those of the ``unify`` command. It runs from any folder, and with any Python where
``make run`` or ``make test`` has made the project's own environment.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run the menu, or the command that the arguments name."""
    try:
        from utils import cli, menu
    except ModuleNotFoundError as missing:
        _use_own_environment(missing)
        raise SystemExit(1) from None
    if len(sys.argv) > 1:
        cli.main()
    else:
        cli.prepare()
        menu.run()


def _use_own_environment(missing: ModuleNotFoundError) -> None:
    """Go on under the project's environment, or say how to make it."""
    environment = PROJECT / ".venv"
    python = environment / "bin" / "python"
    if python.exists() and Path(sys.prefix).resolve() != environment.resolve():
        os.execv(python, [str(python), __file__, *sys.argv[1:]])  # noqa: S606 - the project's own Python
    sys.stderr.write(f"The package {missing.name} is not installed here: see README.md, or run `make run`.\n")


if __name__ == "__main__":
    if not __package__:
        # Run as a script, Python looks for modules in this folder first; they are to be found from the project's.
        sys.path[0] = str(PROJECT)
    main()
