# SPDX-License-Identifier: Apache-2.0
"""What notifications do to a picture: usage, gaps, repetitions, counts, and what is selected."""

from typing import Any

import msgspec
import pytest

from tests.sent_notifications import Json, body_of, sent, sent_usage
from tracker_worker.cmd.watch import picture as module
from tracker_worker.cmd.watch.entries import Entry, Kind
from tracker_worker.cmd.watch.picture import MAX_ENTRIES, Amount, Picture, Rate
from tracker_worker.cmd.watch.selection import Selection
from tracker_worker.core.received_notification import NotificationData, read_notification

NOW = 100.0


def apply(picture: Picture, *messages: Json, now: float = NOW) -> list[Entry] | None:
    """Apply messages; return what the last one gives."""
    entries: list[Entry] | None = None
    for message in messages:
        notification = read_notification(body_of(message))
        assert notification is not None
        entries = picture.apply(notification, now)
    return entries


def kinds(picture: Picture) -> list[str]:
    return [entry.kind.value for entry in picture.entries]


def stored(node: str, sequence: int, **data: Any) -> NotificationData:
    return msgspec.convert({"node": node, "sequence": sequence} | data, NotificationData)


@pytest.fixture
def picture() -> Picture:
    return Picture(Selection())


def test_usage_is_shown_against_the_capacity(picture: Picture) -> None:
    usage = sent_usage("a", 5, 0, vcpus_used=6, cpu_allocation_ratio=4.0, memory_mb_used=6656)
    entries = apply(picture, usage)
    assert entries is not None
    assert [entry.kind for entry in entries] == [Kind.USAGE]
    state = picture.nodes["a"]
    assert (state.vcpus, state.memory_mb) == (Amount(6, 32), Amount(6656, 16384))
    assert (state.sequence, state.updated_at, state.gaps) == (5, NOW, 0)
    assert kinds(picture) == [], "usage is in the picture, not in the list of events"


def test_largest_numbers_that_are_read_are_shown(picture: Picture) -> None:
    most = {"vcpus": 2**63 - 1, "vcpus_used": 2**63 - 1, "cpu_allocation_ratio": 1_000_000.0}
    apply(picture, sent_usage("a", 5, 0, **most), sent_usage("b", 2**63 - 1, 0, vcpus_used=-(2**63)))
    assert {state.name for state in picture.fullest(2)} == {"a", "b"}


def test_node_without_a_resource_is_not_full_of_it() -> None:
    assert Amount(0, 0).fraction == 0.0


def test_chain_without_a_gap_is_not_marked(picture: Picture) -> None:
    apply(picture, sent_usage("a", 5, 3), sent_usage("a", 7, 5), sent_usage("b", 9, 8), sent_usage("a", 8, 7))
    assert [node.gaps for node in picture.nodes.values()] == [0, 0]


def test_missing_usage_is_a_gap(picture: Picture) -> None:
    entries = apply(picture, sent_usage("a", 5, 3), sent_usage("a", 9, 7))
    assert entries is not None
    assert [entry.kind for entry in entries] == [Kind.GAP, Kind.USAGE]
    assert entries[0].text == "usage after sequence 5 up to 7 was not received"
    assert (picture.nodes["a"].gaps, picture.rates[Kind.GAP].total) == (1, 1)
    assert kinds(picture) == ["gap"]


def test_row_that_the_relay_left_out_is_no_gap(picture: Picture) -> None:
    """It drops a usage row if a newer one waits, and widens `since` to what it published before."""
    apply(picture, sent_usage("a", 5, 3), sent_usage("a", 9, 5), sent_usage("a", 12, 5))
    assert (picture.nodes["a"].gaps, picture.nodes["a"].sequence) == (0, 12)


def test_repetition_changes_nothing(picture: Picture) -> None:
    first, second, refusal = sent_usage("a", 5, 3), sent_usage("a", 7, 5), sent("claim.error", node="a")
    apply(picture, first, second, refusal)
    assert apply(picture, first, second, refusal) == []
    assert (picture.nodes["a"].sequence, picture.nodes["a"].gaps, picture.nodes["a"].refusals) == (7, 0, 1)
    assert (picture.received.total, picture.rates[Kind.USAGE].total) == (6, 2)
    assert picture.left_out == {"repeated": 3}


def test_older_usage_under_a_new_id_is_left_out(picture: Picture) -> None:
    assert apply(picture, sent_usage("a", 7, 5), sent_usage("a", 5, 3)) == []
    assert (picture.nodes["a"].sequence, picture.left_out) == (7, {"outdated": 1})


def test_node_that_begins_again_is_no_gap(picture: Picture) -> None:
    """A purged node that is reported again has a new row: its sequence starts again."""
    apply(picture, sent_usage("a", 700, 699), sent_usage("a", 1, 0), sent_usage("a", 2, 1))
    assert (picture.nodes["a"].sequence, picture.nodes["a"].gaps) == (2, 0)


def test_deleted_node_leaves_the_picture(picture: Picture) -> None:
    apply(picture, sent_usage("a", 5, 3), sent("delete", node="a", sequence=6))
    assert picture.nodes == {}
    assert kinds(picture) == ["deleted"]


def test_deletion_before_the_last_usage_leaves_the_node(picture: Picture) -> None:
    apply(picture, sent_usage("a", 7, 0), sent("delete", node="a", sequence=6))
    assert list(picture.nodes) == ["a"]


def test_refusals_corrections_and_errors_are_listed_and_counted(picture: Picture) -> None:
    apply(picture, sent_usage("node-1", 5, 3))
    apply(picture, sent("claim.error"), sent("audit", corrections_omitted=7), sent("event.error"))
    assert kinds(picture) == ["refused", "corrected", "error"]
    assert picture.nodes["node-1"].refusals == 1
    assert picture.rates[Kind.CORRECTED].total == 10
    texts = [entry.text for entry in picture.entries]
    assert texts[0].startswith("Free memory 1536.00 MB < requested 4096 MB; Free vcpu 2.00 VCPU")
    assert texts[0].endswith(" (instance_claim bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb)")
    assert texts[1].startswith("10: changed aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa (role_changed), added ")
    assert texts[1].endswith("and 7 more, migrations without their instance: 1")
    assert texts[2].startswith("unknown_argument at $.instance.flavor.memory_gb: no such field (dead letter ")


def test_unknown_event_type_is_listed_by_its_priority(picture: Picture) -> None:
    newer = sent("event.error", code="") | {"event_type": "compute_node.sync.error"}
    apply(picture, newer, newer | {"message_id": "other", "priority": "INFO"})
    assert kinds(picture) == ["error", "other"]
    assert picture.entries[0].text == "compute_node.sync.error no such field"


def test_node_and_type_are_selected_by_patterns() -> None:
    picture = Picture(Selection(nodes=("rack1-*", "b"), types=("compute_node.claim.*", "*.error")))
    assert apply(picture, sent("claim.error", node="rack1-5")) != []
    assert apply(picture, sent("event.error", node="b")) != []
    assert apply(picture, sent("claim.error", node="rack2-5")) is None
    assert apply(picture, sent("event.error", node=None)) is None
    assert apply(picture, sent_usage("b", 5, 3)) is None
    assert list(picture.nodes) == ["b"], "usage of selected nodes is shown whatever the types"
    assert kinds(picture) == ["refused", "error"]


def test_project_selects_the_nodes_with_its_instances() -> None:
    picture = Picture(Selection(project="p1"))
    with_it, without = {"stats": {"num_proj_p1": 1}}, {"stats": {"num_proj_p2": 1}}
    assert apply(picture, sent_usage("a", 5, 3, **with_it)) != []
    assert apply(picture, sent_usage("b", 5, 3, **without)) is None
    assert apply(picture, sent("claim.error", node="a")) != []
    assert apply(picture, sent("claim.error", node="b")) is None
    # The usage with which the last instance of the project leaves is selected, later ones are not.
    assert apply(picture, sent_usage("a", 7, 5, **without)) != []
    assert apply(picture, sent_usage("a", 9, 7, **without)) is None
    assert picture.nodes == {}


def test_stored_nodes_fill_the_picture_but_replace_nothing(picture: Picture) -> None:
    apply(picture, sent_usage("a", 5, 3, vcpus_used=6))
    picture.fill([stored("a", 4), stored("b", 9, vcpus=8, vcpus_used=2)])
    assert (picture.nodes["a"].sequence, picture.nodes["a"].vcpus) == (5, Amount(6, 8))
    assert (picture.nodes["b"].vcpus, picture.nodes["b"].updated_at) == (Amount(2, 8), None)


def test_chain_goes_on_from_the_stored_sequence(picture: Picture) -> None:
    picture.fill([stored("a", 9), stored("b", 9), stored("c", 9)])
    # Of a, what was waiting in the outbox when the database was read; of c, a row is missing.
    apply(picture, sent_usage("a", 9, 4), sent_usage("b", 10, 9), sent_usage("c", 12, 10))
    assert [picture.nodes[name].gaps for name in "abc"] == [0, 0, 1]
    assert picture.left_out == {}


def test_stored_nodes_that_are_not_selected_are_left_out() -> None:
    picture = Picture(Selection(nodes=("a*",), project="p1"))
    stats = {"num_proj_p1": 1}
    picture.fill([stored("a1", 1, stats=stats), stored("a2", 1), stored("b", 1, stats=stats)])
    assert list(picture.nodes) == ["a1"]


def test_fullest_nodes_come_first(picture: Picture) -> None:
    apply(picture, sent_usage("a", 1, 0, vcpus_used=1, memory_mb_used=0, local_gb_used=90))
    apply(picture, sent_usage("b", 1, 0, vcpus_used=8, memory_mb_used=0, local_gb_used=0))
    apply(picture, sent_usage("c", 1, 0, vcpus_used=0, memory_mb_used=16, local_gb_used=0))
    assert [node.name for node in picture.fullest(2)] == ["b", "a"]


def test_flood_leaves_a_bounded_picture(picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NODES", 50)
    monkeypatch.setattr(module, "MAX_IDS", 100)
    for number in range(500):
        apply(picture, sent_usage(f"n{number}", 1, 0), sent("claim.error", node=f"n{number}"))
    picture.fill([stored("more", 1)])
    assert list(picture.nodes) == [f"n{number}" for number in range(450, 500)]
    assert (len(picture.entries), picture.left_out["forgotten"]) == (MAX_ENTRIES, 450)
    assert (picture.rates[Kind.REFUSED].total, picture.received.total) == (500, 1000)


def test_rate_is_the_mean_of_the_last_seconds() -> None:
    rate = Rate()
    for now in (10.1, 10.9, 12.0, 14.5):
        rate.add(now, 10)
    assert rate.per_second(14.9) == 6.0, "without the second that has just begun"
    assert rate.per_second(15.2) == 8.0
    assert rate.per_second(17.0) == 4.0
    assert (rate.per_second(60.0), rate.total) == (0.0, 40)
