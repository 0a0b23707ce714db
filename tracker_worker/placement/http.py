# SPDX-License-Identifier: Apache-2.0
"""One request to Placement: sent by keystoneauth, timed, and read or turned into an error of this package."""

import re
from collections.abc import Callable, Collection
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
import requests
from keystoneauth1.adapter import Adapter
from keystoneauth1.exceptions import ClientException

from tracker_worker.placement import failures
from tracker_worker.placement.api import OK, Observe
from tracker_worker.placement.errors import PlacementError

T = TypeVar("T")

MICROVERSION = "1.39"
"""Of every request. Codes of errors came with 1.23, the type of a consumer with 1.38."""
SERVICE_TYPE = "placement"
_REQUEST_ID = re.compile(r"req-[0-9a-f-]{36}")
"""What other services take for a global request id."""


def ignore(_outcome: str, _seconds: float) -> None:
    """Observe nothing."""


def path(*parts: str) -> str:
    """Return the path of a resource, whatever is in the names."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


class PlacementHTTP:
    """Sends requests over an adapter, which any number of threads may share. Any thread.

    `secrets` are masked in the texts of errors. `request_id` is that of the event for which the requests are
    made: Placement logs it.
    """

    def __init__(
        self,
        adapter: Adapter,
        clock: Callable[[], float],
        observe: Observe = ignore,
        *,
        secrets: Collection[str] = (),
        request_id: str | None = None,
    ) -> None:
        self._adapter = adapter
        self._clock = clock
        self._observe = observe
        self._secrets = secrets
        is_global = request_id is not None and _REQUEST_ID.fullmatch(request_id)
        self._request_id = request_id if is_global else None

    def send(
        self,
        method: str,
        where: str,
        kind: type[T],
        *,
        meanings: failures.Meanings = failures.OF_NOTHING,
        **options: Any,
    ) -> T:
        """Make a request; return its answer, whose body is read as `kind`.

        `options` are keystoneauth's. Raises PlacementError, as `meanings` say.
        """
        request = f"{method} {where}"
        begun = self._clock()
        outcome = OK
        try:
            response = self._answer(method, where, request, options)
            if not 200 <= response.status_code < 300:
                raise failures.error_of(request, response, meanings, self._secrets)
            return self._read(request, response, kind)
        except PlacementError as error:
            outcome = failures.outcome_of(error)
            raise
        finally:
            self._observe(outcome, self._clock() - begun)

    def _answer(self, method: str, where: str, request: str, options: dict[str, Any]) -> requests.Response:
        defaults = {"microversion": MICROVERSION, "microversion_service_type": SERVICE_TYPE}
        try:
            return self._adapter.request(
                where,
                method,
                raise_exc=False,
                headers={"Accept": "application/json"},
                global_request_id=self._request_id,
                **(defaults | options),
            )
        except (ClientException, OSError, RecursionError) as error:
            # OSError: a file of certificates is missing. RecursionError: JSON is nested too deeply.
            raise failures.unanswered(request, error, self._secrets) from None
        except Exception as error:
            if type(error) is not Exception:
                raise  # A fault of this program or of keystoneauth.
            raise failures.unanswered(request, error, self._secrets) from None

    def _read(self, request: str, response: requests.Response, kind: type[T]) -> T:
        try:
            # An answer that has no body is nothing.
            return msgspec.json.decode(response.content or b"null", type=kind)
        except failures.UNREADABLE as error:
            raise failures.unreadable(request, error, self._secrets) from None
