# SPDX-License-Identifier: Apache-2.0
"""The stable codes under which a bad event is refused or parked, or a notification replaced.

Users match on these strings (dead letters, error replies, notifications): once set they never change.
"""

from enum import StrEnum


class ErrorCode(StrEnum):
    """Why an event could not be applied, or its notification not be sent; the administrator's guide has the
    way out for each.
    """

    MALFORMED_JSON = "malformed_json"
    MALFORMED_COMPRESSION = "malformed_compression"
    UNSUPPORTED_COMPRESSION = "unsupported_compression"
    BAD_ENVELOPE = "bad_envelope"
    MESSAGE_TOO_LARGE = "message_too_large"
    TOO_DEEP = "too_deep"
    UNSUPPORTED_VERSION = "unsupported_version"
    UNKNOWN_METHOD = "unknown_method"
    MISSING_ARGUMENT = "missing_argument"
    UNKNOWN_ARGUMENT = "unknown_argument"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    INVALID_VALUE = "invalid_value"
    WRONG_PARTITION = "wrong_partition"
    EVENT_ID_REUSED = "event_id_reused"
    NODE_CONFLICT = "node_conflict"
    LEDGER_BROKEN = "ledger_broken"
    DEAD_LETTERED = "dead_lettered"
    WORKER_DIED = "worker_died"
    DATABASE_REJECTS = "database_rejects"
    INTERNAL_ERROR = "internal_error"
    NOTIFICATION_TOO_LARGE = "notification_too_large"
    NOTIFICATION_REFUSED = "notification_refused"


class Refusal(StrEnum):
    """Why a command was understood and refused, as the exceptions that a caller gets name it."""

    NO_ROOM = "compute_resources_unavailable"
    NODE_CONFLICT = "node_conflict"
    OTHER = "refused"


class BadMessage(Exception):
    """A message that is no valid command: its code, the path of the bad field, a text without any payload
    value.
    """

    def __init__(self, code: ErrorCode, path: str, message: str) -> None:
        super().__init__(f"{code} at {path}: {message}")
        self.code = code
        self.path = path
        self.message = message


class RequestRefused(Exception):
    """A claim asks for what no host can give: a flavor and an image in conflict, an alias that nobody
    configured. A normal outcome, `refused`; its text is the reason, in Nova's words.
    """
