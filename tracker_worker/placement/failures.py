# SPDX-License-Identifier: Apache-2.0
"""What a request's failure means: Placement's answers, and keystoneauth's errors, as errors of this package.

Answers are told apart by status and code, never by their text.
"""

from collections.abc import Collection, Mapping
from typing import TypeVar

import msgspec
import requests
from keystoneauth1 import exceptions
from msgspec import Struct

from tracker_worker.core.urls import redacted
from tracker_worker.placement.api import CONFLICT, NOT_FOUND, REFUSED, UNAVAILABLE
from tracker_worker.placement.errors import (
    DuplicateProvider,
    GenerationConflict,
    InventoryInUse,
    PlacementError,
    PlacementForbidden,
    PlacementRefused,
    PlacementUnauthorized,
    PlacementUnavailable,
    ProviderInUse,
    ProviderNotFound,
    WrongEndpoint,
)

E = TypeVar("E", bound=PlacementError)

Meanings = Mapping[int, type[PlacementError]]
"""What the statuses 401, 404 and 409 mean for a request, where the code does not say more."""
OF_NOTHING: Meanings = {}
OF_A_PROVIDER: Meanings = {404: ProviderNotFound, 409: GenerationConflict}
"""For a request whose path names a provider. (Races within Placement are conflicts without a code.)"""
OF_THE_ROOT: Meanings = {401: WrongEndpoint}
"""For the versions, which Placement shows without a login, but under its own URL only."""

MAX_TEXT = 500
"""Characters of an error's text."""
UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What decoding the body of an answer raises. RecursionError: it is nested too deeply."""
_NOT_PLACEMENTS = "(this answer is not Placement's, but of a proxy or another service)"
_CONFLICTS: dict[str, type[PlacementError]] = {
    "placement.concurrent_update": GenerationConflict,
    "placement.inventory.inuse": InventoryInUse,
    "placement.duplicate_name": DuplicateProvider,
    "placement.resource_provider.inuse": ProviderInUse,
    "placement.resource_provider.cannot_delete_parent": ProviderInUse,
}
"""Codes of answers with the status 409."""
_REFUSALS: dict[int, type[PlacementError]] = {403: PlacementForbidden, 404: WrongEndpoint}
"""What Placement's own statuses mean that a request has no meaning for, unless it is PlacementRefused."""
_NO_CODE = "placement.undefined_code"
_UNAUTHORIZED = 401
"""keystoneauth has tried a new token after it."""
_TRY_AGAIN = frozenset([408, 429])
"""Statuses below 500 that say nothing of the request."""
_OF_PROXIES = frozenset([400, 403, 407, 409, 413, 431]) | _TRY_AGAIN
"""Statuses below 500 by which a proxy in front of the right service says that it passes nothing on.

Others, if the error is not the service's own, are of a server that does not know its paths.
"""
_LOGIN_ERRORS = (
    exceptions.Unauthorized,
    exceptions.Forbidden,
    exceptions.BadRequest,
    exceptions.AuthorizationFailure,
    exceptions.MissingAuthMethods,
    exceptions.OptionError,
)
"""What keystoneauth raises for a login that lacks an option, or that Keystone rejects."""
_ENDPOINT_ERRORS = (
    exceptions.CatalogException,
    exceptions.InvalidResponse,
    exceptions.MissingAuthPlugin,
)
"""What keystoneauth raises for a URL that is missing, or that leads to another service."""
_OUTCOMES: dict[type[PlacementError], str] = {
    **dict.fromkeys(_CONFLICTS.values(), CONFLICT),
    **dict.fromkeys((PlacementRefused, PlacementForbidden), REFUSED),
    ProviderNotFound: NOT_FOUND,
    **dict.fromkeys((PlacementUnavailable, PlacementUnauthorized, WrongEndpoint), UNAVAILABLE),
}


class _Error(Struct):
    """An error in the body of an answer."""

    code: str = ""
    detail: str = ""


class _Body(Struct):
    """The body of an answer that is an error."""

    errors: list[_Error]


def outcome_of(error: PlacementError) -> str:
    """Return the outcome of a request that has failed."""
    return _OUTCOMES[type(error)]


def error_of(
    request: str, response: requests.Response, meanings: Meanings, secrets: Collection[str]
) -> PlacementError:
    """Return what an answer above 299 means; `request` is its method and path."""
    error = _error_in(response)
    said = (
        (error.code.replace(_NO_CODE, ""), error.detail)
        if error
        else (response.reason or "", _NOT_PLACEMENTS)
    )
    text = " ".join(each for each in (str(response.status_code), *said) if each)
    return _made(_kind_of(response.status_code, error, meanings), request, text, secrets)


def unanswered(request: str, error: Exception, secrets: Collection[str]) -> PlacementUnavailable:
    """Return what keystoneauth's error means: there is no token, no endpoint, or no answer.

    keystoneauth raises a plain Exception for a login that lacks an option.
    """
    cause = error.__context__
    reason: object = error
    if isinstance(cause, requests.RequestException) and cause.args:
        # Without the URL, which keystoneauth and urllib3 put around it.
        reason = getattr(cause.args[0], "reason", None) or cause.args[0]
    kind = PlacementUnavailable
    if isinstance(error, _LOGIN_ERRORS) or type(error) is Exception:
        kind = PlacementUnauthorized
    elif _leads_nowhere(error):
        kind = WrongEndpoint
    return _made(kind, request, f"{type(error).__name__}: {reason}", secrets)


def unreadable(request: str, error: Exception, secrets: Collection[str]) -> WrongEndpoint:
    """Return what an answer of success means whose body is not Placement's: it is of another service."""
    return _made(WrongEndpoint, request, f"the answer is not Placement's: {error}", secrets)


def _leads_nowhere(error: BaseException | None) -> bool:
    """Return whether keystoneauth's error is that of a wrong URL."""
    if isinstance(error, exceptions.DiscoveryFailure):
        # It was raised while another error was handled, or for a document without usable versions.
        return error.__context__ is None or _leads_nowhere(error.__context__)
    if isinstance(error, exceptions.HttpError):
        return _is_of_another_service(error.http_status)
    return isinstance(error, _ENDPOINT_ERRORS)


def _is_of_another_service(status: int) -> bool:
    return status < 500 and status not in _OF_PROXIES


def _error_in(response: requests.Response) -> _Error | None:
    """Return the first error of an answer; None where it is not Placement's."""
    try:
        return msgspec.json.decode(response.content, type=_Body).errors[0]
    except (*UNREADABLE, IndexError):
        return None


def _kind_of(status: int, error: _Error | None, meanings: Meanings) -> type[PlacementError]:
    if status == _UNAUTHORIZED:
        return meanings.get(status, PlacementUnauthorized)
    if status in _TRY_AGAIN or status >= 500:
        return PlacementUnavailable
    if error is None:  # A proxy says nothing of the request, nor of a provider.
        return WrongEndpoint if _is_of_another_service(status) else PlacementUnavailable
    if status == 409 and error.code in _CONFLICTS:
        return _CONFLICTS[error.code]
    return meanings.get(status) or _REFUSALS.get(status, PlacementRefused)


def _made(kind: type[E], request: str, text: str, secrets: Collection[str]) -> E:
    """Return an error of a kind. Its text is one line, which ends with the way out if there is one."""
    way_out = kind.way_out and f"; {kind.way_out}"
    line = redacted(f"{request}: {' '.join(text.split())}", secrets)
    most = MAX_TEXT - len(way_out)
    return kind(f"{line if len(line) <= most else f'{line[: most - 3]}...'}{way_out}")
