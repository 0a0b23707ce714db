# SPDX-License-Identifier: Apache-2.0
from typing import Any

from tests.benchmarks.throughput.exactness import count_notified, differences
from tests.benchmarks.throughput.messages import Account


def a_notification(message_id: str, node: str, events: int, kind: str = "usage") -> Any:
    payload = {"nova_object.data": {"node": node, "events": events}}
    return {"message_id": message_id, "event_type": f"compute_node.{kind}", "payload": payload}


def test_equal_accounts_have_no_differences() -> None:
    assert differences({"a": Account(claims=0)}, {"a": Account()}) == []


def test_lost_event_and_unknown_node_are_differences() -> None:
    found = {"a": Account(sequence=1, claims=2), "b": Account(claims=1)}
    assert differences({"a": Account(sequence=2, claims=2)}, found) == [
        "a: sequence is 1, not 2",
        "b: claims is 1, not 0",
    ]


def test_notification_that_came_twice_counts_once_and_others_do_not_count() -> None:
    once, other = a_notification("1", "a", 3), a_notification("2", "a", 2)
    counted = count_notified([once, other, once, a_notification("3", "a", 9, "audit")])
    assert counted == {"a": 5}
