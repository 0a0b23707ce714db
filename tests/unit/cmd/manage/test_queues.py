# SPDX-License-Identifier: Apache-2.0
"""The cells of a queue in `queues list` and `status`: words where a value is unknown, to tell it from 0."""

from datetime import datetime
from typing import Any

import pytest
from msgspec.structs import replace

from tracker_worker.cmd.manage.broker_state import QueueState
from tracker_worker.cmd.manage.queues import cells_of

NOW = datetime(2026, 11, 29, 12)
IDLE = QueueState("tracker.p0", ready=0, unacknowledged=0, consumers=1, active="host:1")


@pytest.mark.parametrize(
    ("fields", "oldest"),
    [
        ({"ready": 7, "oldest": NOW}, NOW),
        ({"ready": 7}, "unknown"),
        ({"ready": 0, "unacknowledged": 9}, None),
        ({"ready": None, "consumers": None}, None),
    ],
    ids=["stamped", "not stamped", "no ready message", "missing queue"],
)
def test_age_of_ready_messages_without_a_time_is_unknown(fields: dict[str, Any], oldest: Any) -> None:
    assert cells_of(replace(IDLE, **fields), known=True)[-1] == oldest


def test_what_the_management_api_would_say_is_unknown_without_it() -> None:
    state = replace(IDLE, ready=7, unacknowledged=None, active=None)
    assert cells_of(state, known=False) == ["tracker.p0", 7, "unknown", 1, "unknown", "unknown"]
