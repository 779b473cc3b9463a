"""Bind a repository to one owner and one session: the base of all repositories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from repositories.base import scope, sorting, values
from repositories.base.sorting import Page, Row, Rows
from repositories.errors import NotFoundError
from tenancy import names
from tenancy.errors import NoTenantError, WrongTenantError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

LIMIT_MAX = 1000


class ScopedRepository:
    """Run statements on one owner's rows of one table, each of them scoped."""

    table: ClassVar[sa.Table]

    def __init__(self, session: Session, user_id: int | None = None) -> None:
        self.session = session
        self.user_id = None if user_id is None else names.user_id(user_id)
        opened_for = session.info.get("owner")
        if None not in (opened_for, self.user_id) and opened_for != self.user_id:
            raise WrongTenantError(
                f"This session was opened for another user than {self.user_id}.", user_id=self.user_id
            )

    def with_user(self, user_id: int) -> Self:
        """Return the same repository for another owner."""
        return type(self)(self.session, user_id)

    @property
    def owner(self) -> int:
        if self.user_id is None:
            raise NoTenantError("A repository was used without an owner; name the user whose rows are meant.")
        return self.user_id

    def apply_user_filter(self, statement: scope.Statement) -> scope.Statement:
        """Scope a SELECT, UPDATE or DELETE to the owner, or raise ScopeError if that is impossible."""
        return scope.owned(statement, self.owner)

    def set_user_id(self, values: Mapping[str, Any]) -> Row:
        """Return the values with their owner; raise WrongTenantError if they have another one."""
        owner = self.owner
        if values.get("user_id", owner) != owner:
            raise WrongTenantError("The values belong to another user than the repository's owner.", user_id=owner)
        return {**values, "user_id": owner}

    def _rows(self, statement: sa.Select[Any], parameters: Row | None = None) -> Rows:
        """Return the rows of a scoped statement; in those of ``statements.py`` the owner is parameter ``p_owner``."""
        result = self.session.execute(statement, {"p_owner": self.owner, **(parameters or {})})
        columns = tuple(map(str, result.keys()))  # plain str: orjson refuses SQLAlchemy's subclass
        return [dict(zip(columns, row, strict=True)) for row in result.all()]

    def _page(self, statement: sa.Select[Any], sort: sorting.Sort, limit: int, **parameters: Any) -> Page:
        """Return a page of the rows of a scoped statement that ``sorting.ordered`` made."""
        wanted = self._limit(limit)
        return sorting.cut(self._rows(statement, parameters | {"p_limit": wanted + 1}), sort, wanted)

    def _execute(self, statement: sa.Update | sa.Delete) -> int:
        result: Any = self.session.execute(statement)
        return int(result.rowcount)

    @contextmanager
    def _undoing(self, explain: Callable[[], Exception]) -> Iterator[None]:
        """Run the block in a savepoint; if a constraint is violated, roll back and raise ``explain()``.

        The driver's error is not chained, because its text contains the user's values.
        """
        try:
            with self.session.begin_nested():
                yield
        except IntegrityError:
            raise explain() from None

    def _missing(self) -> NotFoundError:
        return NotFoundError(f"There is no such row in {self.table.name}.")

    def _limit(self, limit: int) -> int:
        checked: int = values.whole(1, LIMIT_MAX)(limit, "limit")
        return checked
