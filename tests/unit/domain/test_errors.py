# SPDX-License-Identifier: Apache-2.0
"""The codes that users match on: none may change or go, a new one is added here."""

import pytest

from tracker_worker.domain.errors import BadMessage, ErrorCode

CODES = {
    "malformed_json", "bad_envelope", "message_too_large", "too_deep", "unsupported_version",
    "unknown_method", "missing_argument", "unknown_argument", "wrong_type", "out_of_range",
    "invalid_value", "wrong_partition", "event_id_reused", "ledger_broken", "node_conflict", "dead_lettered",
    "worker_died",
    "database_rejects", "internal_error", "notification_too_large", "notification_refused",
    "malformed_compression", "unsupported_compression", "reserve_too_large",
}  # fmt: skip


def test_codes_are_the_ones_that_users_know() -> None:
    assert {code.value for code in ErrorCode} == CODES


@pytest.mark.parametrize("code", ErrorCode)
def test_bad_message_says_what_is_wrong_and_where(code: ErrorCode) -> None:
    bad = BadMessage(code, "$.instance.uuid", "no such field")
    assert (bad.code, bad.path, bad.message) == (code, "$.instance.uuid", "no such field")
    assert str(bad) == f"{code.value} at $.instance.uuid: no such field"
