# SPDX-License-Identifier: Apache-2.0
from typing import Any

from tests.benchmarks.throughput.exactness import count_notified, differences
from tests.benchmarks.throughput.messages import Account, Audits, Events, Scenario, expected


def a_notification(message_id: str, node: str, events: int, kind: str = "usage") -> Any:
    payload = {"nova_object.data": {"node": node, "events": events}}
    return {"message_id": message_id, "event_type": f"compute_node.{kind}", "payload": payload}


def accounts_after(scenario: Scenario, count: int) -> dict[str, Account]:
    return expected({}, [scenario.message(number) for number in range(count)])


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


def test_events_leave_as_many_claims_as_there_were() -> None:
    """A round of three is a claim, a change of its state and the oldest instance's end."""
    after = accounts_after(Events(nodes=2, held=4), 2 * 3 * 8)
    assert after["compute-00000"] == after["compute-00001"]
    assert after["compute-00000"] == Account(sequence=24, receipts=24, notified=24)


def test_claim_adds_its_flavor() -> None:
    effect = Events(nodes=1, held=1).message(3).effect
    assert (effect["claims"], effect["vcpus_used"], effect["memory_mb_claimed"]) == (1, 2, 4096)


def test_audits_that_change_nothing_are_only_seen() -> None:
    assert accounts_after(Audits(nodes=1, held=3), 5) == {"compute-00000": Account(audited=5)}


def test_one_audit_of_so_many_finds_the_last_instance_gone_or_back() -> None:
    audits = Audits(nodes=7, held=3, every=5)
    effects = [audits.message(number).effect for number in range(7 * 20)]
    assert sum("sequence" in effect for effect in effects) == 7 * 20 // 5
    after = accounts_after(audits, 7 * 20)
    # Four changes of each node: the instance is back.
    assert {node: account["claims"] for node, account in after.items()} == dict.fromkeys(after, 0)
    assert accounts_after(audits, 7)["compute-00000"]["claims"] == -1
