# SPDX-License-Identifier: Apache-2.0
"""What a request's failure means: Placement's answers, and keystoneauth's errors, as errors of this package.

Answers are told apart by status and code, never by their text.
"""

from collections.abc import Collection, Mapping

import msgspec
import requests
from msgspec import Struct

from tracker_worker.core.urls import redacted
from tracker_worker.placement.api import CONFLICT, NOT_FOUND, REFUSED, UNAVAILABLE
from tracker_worker.placement.errors import (
    DuplicateProvider,
    GenerationConflict,
    InventoryInUse,
    PlacementError,
    PlacementRefused,
    PlacementUnavailable,
    ProviderInUse,
    ProviderNotFound,
)

Meanings = Mapping[int, type[PlacementError]]
"""What the statuses 404 and 409 mean for a request, where the code does not say more."""
OF_NOTHING: Meanings = {}
OF_A_PROVIDER: Meanings = {404: ProviderNotFound, 409: GenerationConflict}
"""For a request whose path names a provider. (Races within Placement are conflicts without a code.)"""

MAX_TEXT = 500
"""Characters of an error's text."""
_CONFLICTS: dict[str, type[PlacementError]] = {
    "placement.concurrent_update": GenerationConflict,
    "placement.inventory.inuse": InventoryInUse,
    "placement.duplicate_name": DuplicateProvider,
    "placement.resource_provider.inuse": ProviderInUse,
    "placement.resource_provider.cannot_delete_parent": ProviderInUse,
}
"""Codes of answers with the status 409."""
_TRY_AGAIN = frozenset([401, 408, 429])
"""Statuses below 500 that say nothing of the request. keystoneauth has tried a new token after a 401."""
_OUTCOMES: dict[type[PlacementError], str] = {
    **dict.fromkeys(_CONFLICTS.values(), CONFLICT),
    PlacementRefused: REFUSED,
    ProviderNotFound: NOT_FOUND,
    PlacementUnavailable: UNAVAILABLE,
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
    said = (error.code, error.detail) if error else ("", response.reason or "")
    text = " ".join(each for each in (str(response.status_code), *said) if each)
    return _kind_of(response.status_code, error, meanings)(_text(request, text, secrets))


def unanswered(request: str, error: Exception, secrets: Collection[str]) -> PlacementUnavailable:
    """Return what keystoneauth's error means: there is no token, no endpoint, or no answer."""
    cause = error.__context__
    reason: object = error
    if isinstance(cause, requests.RequestException) and cause.args:
        # Without the URL, which keystoneauth and urllib3 put around it.
        reason = getattr(cause.args[0], "reason", None) or cause.args[0]
    return PlacementUnavailable(_text(request, f"{type(error).__name__}: {reason}", secrets))


def unreadable(request: str, error: Exception, secrets: Collection[str]) -> PlacementUnavailable:
    """Return what an answer means whose body is not Placement's: a proxy's, or of another service."""
    return PlacementUnavailable(_text(request, f"the answer is not Placement's: {error}", secrets))


def _error_in(response: requests.Response) -> _Error | None:
    """Return the first error of an answer; None where it is not Placement's."""
    try:
        return msgspec.json.decode(response.content, type=_Body).errors[0]
    except (msgspec.MsgspecError, UnicodeError, IndexError):
        return None


def _kind_of(status: int, error: _Error | None, meanings: Meanings) -> type[PlacementError]:
    if status in _TRY_AGAIN or status >= 500:
        return PlacementUnavailable
    if status in (404, 409) and error is None:  # A proxy's does not tell of a provider.
        return PlacementUnavailable
    code = error.code if error is not None and status == 409 else ""
    return _CONFLICTS.get(code) or meanings.get(status, PlacementRefused)


def _text(request: str, text: str, secrets: Collection[str]) -> str:
    line = redacted(f"{request}: {' '.join(text.split())}", secrets)
    return line if len(line) <= MAX_TEXT else f"{line[: MAX_TEXT - 3]}..."
