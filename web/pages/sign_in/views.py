"""Serve registration, login and logout.

Registration creates the account first and its database second. If the database cannot be created, the account stays:
its user is signed in, is told about the failure, and can try again on the settings page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from tenancy import names
from tenancy.accounts.passwords import check_rules
from tenancy.deadline import unhurried
from tenancy.errors import (
    AccountError,
    BadCredentialsError,
    ConfigurationError,
    TenancyError,
    ThrottledError,
    UserExistsError,
)
from web.auth.known_browsers import device_token, remember_device
from web.auth.sessions import current_principal, end_session, session_token, start_session
from web.display import preferences
from web.display.template_filters import sentence
from web.http import advice
from web.http.addresses import is_loopback, local_path
from web.http.errors import Problem, of_tenancy
from web.http.rate_limits import limit_login, limit_registration
from web.ops import metrics
from web.pages.common.flash import say
from web.pages.common.forms import Field, Form
from web.pages.sign_in.carried_form import Kept, page as kept_page
from web.parts import current_parts

if TYPE_CHECKING:
    from tenancy.accounts.accounts import SignIn
    from tenancy.models import User

blueprint = Blueprint("auth", __name__, url_prefix="/auth")

EMAIL = Field("email", "E-mail", "email", required=True, max_length=254, autocomplete="username")
REGISTRATION = (
    EMAIL,
    Field(
        "display_name",
        "Name",
        max_length=100,
        autocomplete="name",
        hint="Optional. It is shown on your pages, and to administrators in the list of accounts.",
    ),
    Field(
        "password",
        "Password",
        "password",
        required=True,
        autocomplete="new-password",
        hint="At least 10 characters. A few words together are easy to remember and hard to guess.",
    ),
)
BOOTSTRAP = Field(
    "bootstrap_token",
    "Bootstrap token",
    max_length=200,
    autocomplete="off",
    hint="The server printed it when it started. Leave blank if you are on the server itself.",
)
LOGIN = (
    EMAIL,
    Field("password", "Password", "password", required=True, autocomplete="current-password"),
    Field("remember", "Stay signed in on this device", "checkbox"),
)
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip")
BAD_CREDENTIALS = "Wrong e-mail or password."


@blueprint.route("/register", methods=("GET", "POST"))
@limit_registration
def register() -> ResponseReturnValue:
    """Create an account and its database, and sign the user in."""
    parts = current_parts()
    if parts.settings.registration == "closed":
        raise Problem(403, "registration_closed", "Registration is closed here. Ask an administrator for an account.")
    if current_principal() is not None:
        return redirect(url_for("pages.home"), 303)
    bootstrap = parts.accounts.bootstrap_open()
    fields = (*REGISTRATION, BOOTSTRAP) if bootstrap else REGISTRATION
    if request.method != "POST":  # HEAD is handled like GET: neither passes a CSRF check
        return _registration_page(Form.blank("register", fields), bootstrap)
    form = Form.posted("register", fields, request.form)
    user = _registered(form, bootstrap)
    if user is None:
        return _registration_page(form, bootstrap), 422
    return _provision_and_sign_in(user)


@blueprint.route("/login", methods=("GET", "POST"))
@limit_login
def login() -> ResponseReturnValue:
    """Sign a user in; a wrong password and an unknown address get the same answer."""
    target = local_path(request.values.get("next"))
    if request.method != "POST":
        if current_principal() is not None:
            return redirect(target or url_for("pages.home"), 303)
        return login_page(target=target)
    form, carried = Form.posted("login", LOGIN, request.form), Kept.carried()
    try:
        signed_in = _signed_in(form)
    except ThrottledError as error:
        page = login_page(form.refuse(None, sentence(error.message)), target=target, kept=carried)
        return page, 429, of_tenancy(error).headers
    if signed_in is None:
        return login_page(form, target=target, kept=carried), 422
    _note_zone(signed_in.user)
    return _enter(signed_in, target, remember="remember" in form.values, kept=carried)


@blueprint.route("/logout", methods=("GET", "POST"))
def logout() -> ResponseReturnValue:
    """End the session; a GET only shows a button, so that no link can sign anybody out."""
    if request.method != "POST":
        return render_template("sign_in/logout.html")
    end_session()
    say("You have been signed out.", "good")
    return redirect(url_for("auth.login"), 303)


def login_page(form: Form | None = None, *, target: str | None = None, kept: Kept | None = None) -> str:
    """Render the sign-in page; ``kept`` is an unsent form that it carries in hidden fields."""
    return render_template("sign_in/login.html", form=form or Form.blank("login", LOGIN), next=target, kept=kept)


def may_bootstrap(token: str | None) -> bool:
    """Tell whether a registration may create the first administrator: from this machine, or with the printed token."""
    if token and current_parts().accounts.is_bootstrap_token(token.strip()):
        return True
    return _from_loopback()


def _registered(form: Form, bootstrap: bool) -> User | None:
    """Create the account, or return None with the errors in ``form``."""
    values = form.values
    for spec in REGISTRATION:
        if spec.required and not values.get(spec.name):
            form.refuse(spec.name, "This field is required.")
    if len(values.get("display_name", "")) > 100:
        form.refuse("display_name", "This is too long: at most 100 characters.")
    first_admin = bootstrap and may_bootstrap(values.get("bootstrap_token"))
    if values.get("bootstrap_token") and not first_admin:
        form.refuse("bootstrap_token", "This is not the token that the server printed.")
    _refuse_unfit(form)
    if form.errors:
        return None
    try:
        return current_parts().accounts.register(
            values["email"], values["password"], values.get("display_name", "").strip(), may_bootstrap=first_admin
        )
    except UserExistsError:
        form.refuse("email", "An account with this address already exists. Sign in, or use another address.")
    except (ConfigurationError, AccountError) as error:
        if error.field is None:
            raise
        form.refuse(error.field, sentence(error.message))
    return None


def _refuse_unfit(form: Form) -> None:
    """Refuse an address and a password that cannot be, both at once."""
    email, password = (form.values.get(name, "") for name in ("email", "password"))
    checks = ((email, lambda: names.email(email)), (password, lambda: check_rules(password, email)))
    for typed, check in checks:
        try:
            check() if typed else None
        except (ConfigurationError, AccountError) as error:
            form.refuse(error.field, sentence(error.message))


def _provision_and_sign_in(user: User) -> ResponseReturnValue:
    """Provision the new account's database, then sign the user in whether that worked or not."""
    parts = current_parts()
    problem = None
    _note_zone(user)
    try:
        with metrics.provisioning(), unhurried():
            parts.manager.provision(user.id)
    except TenancyError as error:
        problem = error
    signed_in = parts.accounts.sign_in_without_password(
        user.id, user_agent=request.user_agent.string, address=request.remote_addr or ""
    )
    answer = _enter(signed_in, None if problem is None else url_for("settings.index"), remember=False)
    if problem is None:
        say(f"Welcome, {user.display_name or user.email}. Your database is ready.", "good")
    else:
        say(f"Your account was created, but its database was not. {' '.join(advice.to_person(problem))}", "bad")
    if user.is_admin:
        say("This is the first account, so it is an administrator.", "warn")
    return answer


def _signed_in(form: Form) -> SignIn | None:
    email = form.values.get("email", "")
    try:
        return current_parts().accounts.sign_in(
            email,
            form.values.get("password", ""),
            device=device_token(email),
            remember="remember" in form.values,
            user_agent=request.user_agent.string,
            address=request.remote_addr or "",
        )
    except BadCredentialsError:
        form.refuse(None, BAD_CREDENTIALS)
        return None


def _note_zone(user: User) -> None:
    """Save the time zone that a script on the page filled in, unless the user has chosen one."""
    zone = request.form.get("time_zone", "")
    if preferences.is_zone(zone) and not preferences.Preferences.of(user.preferences).chosen_zone:
        current_parts().accounts.set_preferences(user.id, {"time_zone": zone})


def _enter(signed_in: SignIn, target: str | None, *, remember: bool, kept: Kept | None = None) -> ResponseReturnValue:
    """Start a session in this browser; its earlier session, perhaps of another user, ends in the catalog as well."""
    earlier = session_token()
    if earlier:
        current_parts().accounts.sign_out(earlier)
    start_session(signed_in, remember=remember)
    answer = kept_page(kept) if kept else make_response(redirect(target or url_for("pages.home"), 303))
    remember_device(answer, signed_in.user.email, signed_in.device)
    return answer


def _registration_page(form: Form, bootstrap: bool) -> str:
    return render_template(
        "sign_in/register.html", form=form, bootstrap=bootstrap, local=bootstrap and _from_loopback()
    )


def _from_loopback() -> bool:
    """Tell whether the request was sent from this machine; if in doubt, return False.

    Without trusted proxies, a forwarding header means that the request came through a proxy we do not know. With
    trusted proxies, X-Forwarded-For must name as many hops as are trusted; with fewer, the remote address is that of a
    proxy and not of the client.
    """
    hops = current_parts().settings.trusted_proxy_count
    if hops == 0 and any(name in request.headers for name in FORWARDED):
        return False
    named = [part for part in request.headers.get("X-Forwarded-For", "").split(",") if part.strip()]
    if len(named) < hops:
        return False
    return is_loopback(request.remote_addr)
