# SPDX-License-Identifier: Apache-2.0
"""Maps the worker's errors to the exceptions raised in the caller: two of these are oslo.messaging's own."""

from oslo_messaging.rpc.dispatcher import NoSuchMethod, UnsupportedVersion

from tracker_worker.core.replies import UnknownMethod, UnknownVersion


def raised_in_caller(error: Exception) -> Exception:
    """Return the exception that the caller's client raises for an error."""
    found: Exception = error
    if isinstance(error, UnknownMethod):
        found = NoSuchMethod(error.method)
    elif isinstance(error, UnknownVersion):
        found = UnsupportedVersion(error.version, error.method)
    return found
