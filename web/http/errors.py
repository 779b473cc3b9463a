"""Turn every error into one kind of response: problem+json for programs, a page or a message on it for people.

``STATUS`` is the one table from the error classes of ``tenancy`` and ``repositories`` to HTTP statuses. Messages of
those classes may be shown as they are, because they contain no URL and no password. What does not exist and what
belongs to somebody else get the same text. Errors that only an operator can fix are shown to users in the words of
``advice``.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import orjson
from flask import Flask, Response, render_template, request
from flask_login import current_user
from flask_wtf.csrf import CSRFError
from markupsafe import escape
from werkzeug.exceptions import HTTPException

from logs import request_id
from repositories import errors as stored
from tenancy import errors as tenancy
from tenancy.models import Tenant
from web.http import advice
from web.schemas import FieldErrors

log = logging.getLogger("web")

JSON_PREFIXES = (
    "/api/",
    "/admin/user/",
    "/admin/databases",
    "/admin/job/",
    "/admin/schedule/",
    "/healthz",
    "/readyz",
    "/metrics",
)
DOCS_PAGE = "/api/docs"
NOT_THERE = "There is nothing at this address, or it is not yours."
RETRY_S = 5
SOON = "1"
"""The Retry-After of something that is ready in a moment: a page with it reloads itself."""

TYPE = "application/problem+json"
KEEP_THE_PAGE = {"HX-Reswap": "none", "HX-Push-Url": "false"}
"""Tell htmx to leave the page and its URL as they are, except for parts that the response targets itself."""

STATUS: dict[type[tenancy.TenancyError], int] = {
    tenancy.ConfigurationError: 422,
    tenancy.UserNotFoundError: 404,
    tenancy.UserExistsError: 409,
    tenancy.TenantNotFoundError: 503,
    tenancy.TenantExistsError: 409,
    tenancy.TenantNotReadyError: 503,
    tenancy.ClaimedError: 409,
    tenancy.ClaimLostError: 503,
    tenancy.ServerNotFoundError: 404,
    tenancy.ServerExistsError: 409,
    tenancy.NoServerError: 503,
    tenancy.RunNotFoundError: 404,
    tenancy.RunStateError: 409,
    tenancy.JobNotFoundError: 404,
    tenancy.JobStateError: 409,
    tenancy.NewerRowsError: 409,
    tenancy.RestoreDoneError: 409,
    tenancy.ScheduleNotFoundError: 404,
    tenancy.CatalogError: 503,
    tenancy.LastAdministratorError: 409,
    tenancy.BadCredentialsError: 401,
    tenancy.ThrottledError: 429,
    tenancy.RegistrationClosedError: 403,
    tenancy.KeyNotFoundError: 404,
    tenancy.PasswordTooWeakError: 422,
    tenancy.CredentialError: 503,
    tenancy.UnsupportedBackendError: 422,
    tenancy.DatabaseExistsError: 409,
    tenancy.HostNotAllowedError: 422,
    tenancy.StorageFullError: 507,
    tenancy.BackendError: 503,
    tenancy.ProvisionError: 503,
    tenancy.MigrationError: 503,
    tenancy.ArchiveDamagedError: 422,
    tenancy.ArchiveKeyError: 409,
    tenancy.ArchiveSignatureError: 422,
    tenancy.BackupNotFoundError: 404,
    tenancy.BackupExistsError: 409,
    tenancy.StorageUnavailableError: 503,
    tenancy.StorageRefusedError: 502,
    tenancy.ArchiveError: 503,
    tenancy.IdentityError: 503,
    tenancy.StaleRouteError: 503,
    tenancy.ReadOnlyRouteError: 503,
    tenancy.UnfencedError: 503,
    stored.NotFoundError: 404,
    stored.ConflictError: 409,
    stored.StaleVersionError: 412,
    stored.InvalidReferenceError: 422,
}
"""The status of each error class for the owner of the rows; a class that is missing here is our bug: 500."""

ADMIN_STATUS: dict[type[tenancy.TenancyError], int] = {
    tenancy.TenantNotFoundError: 404,
    tenancy.TenantNotReadyError: 409,
    tenancy.NoServerError: 409,
    tenancy.AccessDeniedError: 502,
    tenancy.HostNotAllowedError: 422,
    tenancy.ProvisionError: 502,
    tenancy.IdentityError: 409,
}
"""Statuses that differ for administrators, who ask about a database and not for its rows."""


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """Stop the request with this status, stable code and text."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: list[dict[str, str]] | None = None,
        retry_after_s: int | None = None,
        headers: dict[str, str] | None = None,
        advised: str = "",
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.advised = advised
        self.headers = dict(headers or {})
        if retry_after_s is None and status == 503:
            retry_after_s = RETRY_S
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)
        if status == 401:
            self.headers["WWW-Authenticate"] = 'Bearer realm="unify"'

    @property
    def title(self) -> str:
        return HTTPStatus(self.status).phrase

    def to_dict(self) -> dict[str, Any]:
        """Return the members of the problem document (RFC 9457)."""
        shown = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id(),
        }
        return shown | ({"errors": self.errors} if self.errors else {})


def init_app(app: Flask) -> None:
    """Register handlers that turn every exception into a problem."""
    app.register_error_handler(Problem, respond)
    app.register_error_handler(FieldErrors, lambda error: respond(of_fields(error)))
    app.register_error_handler(tenancy.TenancyError, lambda error: respond(of_tenancy(error)))
    app.register_error_handler(Exception, _respond_to_rest)


def respond(problem: Problem) -> Response:
    """Respond with JSON to programs, with a message to htmx, and with a page to everybody else."""
    if is_json_call():
        answer = Response(orjson.dumps(problem.to_dict()), status=problem.status, content_type=TYPE)
    elif wants_fragment():
        answer = Response(_page(problem, "errors/message.html"), status=problem.status, headers=KEEP_THE_PAGE)
    else:
        answer = Response(_page(problem, "errors/error.html"), status=problem.status)
        if request.method == "GET" and problem.headers.get("Retry-After") == SOON:
            answer.headers["Refresh"] = SOON  # the page waits, then reloads itself
    answer.headers.update(problem.headers)
    return answer


def is_json_call() -> bool:
    """Tell whether the requested URL belongs to the JSON API."""
    return (request.path.startswith(JSON_PREFIXES) or request.path == "/api") and request.path != DOCS_PAGE


def wants_fragment() -> bool:
    """Tell whether htmx asks for a part of a page; boosted links and history restores want the whole page."""
    asked = request.headers
    return "HX-Request" in asked and not ("HX-Boosted" in asked or "HX-History-Restore-Request" in asked)


def of_fields(error: FieldErrors) -> Problem:
    """Name the fields that are wrong."""
    return Problem(422, "fields_invalid", "Some fields are wrong; errors names them.", errors=error.errors)


def of_tenancy(error: tenancy.TenancyError) -> Problem:
    """Translate an error by the table; the nearest ancestor class in it decides."""
    status = _status(error)
    if status is None:
        log.error("no status for %s", type(error).__name__, exc_info=error)
        return _unforeseen()
    if status == 404:
        return Problem(404, "not_found", NOT_THERE)
    if status >= 500:
        log.warning("%s: %s", error.code, error.message)
    retry_after = error.fields.get("retry_after_s")
    told = advice.to_person(error, _tenant(error)) if status >= 500 and _is_for_a_person() else None
    named = [{"field": error.field, "code": error.code, "message": error.message}] if error.field else None
    return Problem(
        status,
        error.code,
        told.means if told else error.message,
        errors=named if status in (409, 422) else None,
        retry_after_s=max(1, round(retry_after)) if isinstance(retry_after, int | float) else None,
        advised=told.do if told else "",
    )


def _is_for_a_person() -> bool:
    """Tell whether a user reads the response, as opposed to a program or an operator in the console."""
    return not is_json_call() and request.blueprint != "admin"


def _tenant(error: tenancy.TenancyError) -> Tenant | None:
    """Return the tenant of whoever sent the request; a catalog that failed is not queried again."""
    if isinstance(error, tenancy.CatalogError):
        return None
    principal = getattr(current_user, "principal", None)
    return principal.tenant if principal else None


def _status(error: tenancy.TenancyError) -> int | None:
    table = STATUS | ADMIN_STATUS if request.blueprint == "admin_api" else STATUS
    return next((table[kind] for kind in type(error).__mro__ if kind in table), None)


def _respond_to_rest(error: Exception) -> Response | HTTPException:
    """Respond to errors of Werkzeug and Flask-WTF, and to unexpected ones."""
    if not isinstance(error, HTTPException):
        log.error("unforeseen error", exc_info=error)
        return respond(_unforeseen())
    if error.response is not None or error.code is None or error.code < 400:
        return error
    return respond(of_http(error))


def of_http(error: HTTPException) -> Problem:
    """Translate errors of Werkzeug and Flask-WTF into problems."""
    status = error.code or 500
    headers = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After", "Content-Range")}
    if isinstance(error, CSRFError):
        return Problem(400, "csrf_failed", f"{error.description} Reload the page and send the form from there.")
    if status == 404:
        return Problem(404, "not_found", NOT_THERE)
    code = HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")
    return Problem(status, code, error.description or HTTPStatus(status).phrase, headers=headers)


def _unforeseen() -> Problem:
    return Problem(500, "internal_error", "Something went wrong on the server. Tell the operator the request_id.")


def _page(problem: Problem, template: str) -> str:
    try:
        return render_template(
            template,
            status=problem.status,
            title=problem.title,
            detail=problem.detail,
            code=problem.code,
            advised=problem.advised,
            passes=not problem.advised or problem.advised in advice.PASSING,
            request_id=request_id(),
        )
    except Exception:
        # The error page must not fail for the same reason as the page itself, so this one needs no template.
        log.exception("the error page failed")
        title, detail = escape(problem.title), escape(problem.detail)
        return f"<!doctype html><title>{title}</title><h1>{problem.status} {title}</h1><p>{detail}</p>"
