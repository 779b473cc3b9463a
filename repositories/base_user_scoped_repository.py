"""The documented module to import BaseUserScopedRepository from; it is defined in ``base/repository.py``."""

from repositories.base.repository import BaseUserScopedRepository

__all__ = ["BaseUserScopedRepository"]
