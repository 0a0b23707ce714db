# SPDX-License-Identifier: Apache-2.0
"""The exceptions that a caller gets: oslo.messaging has two of its own, which its clients know."""

from oslo_messaging.rpc.dispatcher import NoSuchMethod, UnsupportedVersion

from tracker_worker.core.replies import UnknownMethod, UnknownVersion


def raised_in_caller(error: Exception) -> Exception:
    """Return the exception that an answer is raised as in its caller."""
    found: Exception = error
    if isinstance(error, UnknownMethod):
        found = NoSuchMethod(error.method)
    elif isinstance(error, UnknownVersion):
        found = UnsupportedVersion(error.version, error.method)
    return found
