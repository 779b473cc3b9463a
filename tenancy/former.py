"""Names that were elsewhere in version 0.3: they are found for one version more, with a warning.

Modules that the guide for embedding imported are ``activity.py``, ``keyring.py``, ``fleet/revisions.py`` and
``accounts/__init__.py``; former calls of the manager are listed in ``manager.py``.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Set
from typing import Any


def module(name: str, names: Set[str]) -> Callable[[str], Any]:
    """Return a module's ``__getattr__`` (PEP 562) that finds some names in ``tenancy`` itself."""

    def find(wanted: str) -> Any:
        if wanted not in names:
            raise AttributeError(f"module {name!r} has no attribute {wanted!r}")
        warnings.warn(f"import {wanted} from tenancy, not from {name}", DeprecationWarning, stacklevel=2)
        return getattr(sys.modules["tenancy"], wanted)  # loaded with every module of it

    return find
