"""The documented name of ``base/repository.py``, for programs that derive repositories of their own."""

from repositories.base.repository import BaseUserScopedRepository

__all__ = ["BaseUserScopedRepository"]
