"""Read query strings as strictly as bodies: unknown, repeated and ill-typed names are refused by name."""

from __future__ import annotations

from functools import cache
from typing import TypeVar, cast

from flask import request
from pydantic import BaseModel

from web.schemas import FieldErrors, ListQuery, read_form

Query = TypeVar("Query", bound=BaseModel)
NOT_FILTERS = frozenset({"limit", "cursor", "q"})


def read_query(model: type[Query]) -> Query:
    """Return the validated query of this request."""
    if not request.query_string:
        return cast("Query", _empty(model))
    values = request.args.to_dict(flat=False)
    repeated = [name for name, given in values.items() if len(given) > 1]
    if repeated:
        raise FieldErrors([{"field": name, "code": "repeated", "message": "may be given once"} for name in repeated])
    return read_form(model, {name: given[0] for name, given in values.items()})


def filters(query: ListQuery) -> dict[str, object]:
    """Return the filters of a list, without limit and cursor."""
    return {name: getattr(query, name) for name in sorted(query.model_fields_set - NOT_FILTERS)}


def scope(name: str, query: ListQuery) -> str:
    """Describe a list and its filters, to bind a cursor to them."""
    return f"{name}?" + "&".join(f"{key}={value}" for key, value in filters(query).items())


@cache
def _empty(model: type[BaseModel]) -> BaseModel:
    """Return the shared query without any values, which most requests have; it must not be changed."""
    return model()


def refuse_query() -> None:
    """Refuse any query string on a call that takes none."""
    if request.query_string:
        names = list(request.args) or ["?"]
        raise FieldErrors(
            [{"field": name, "code": "extra_forbidden", "message": "is not known here"} for name in names]
        )
