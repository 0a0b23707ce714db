# SPDX-License-Identifier: Apache-2.0
from typing import cast

from tests.benchmarks.latency.audits import QUIET, Audit, audited_nodes, claimed_node, server
from tracker_worker.core.envelope import caller_of, open_envelope, read_command
from tracker_worker.domain.commands import UpdateAvailableResource
from tracker_worker.domain.partitions import DEFAULT_PARTITIONS, partition_of

FIRST, SECOND = "1" * 32, "2" * 32


def command(body: bytes) -> UpdateAvailableResource:
    return cast(UpdateAvailableResource, read_command(open_envelope(body)))


def test_audited_nodes_are_in_all_partitions_but_the_quiet_one() -> None:
    partitions = {partition_of(node, DEFAULT_PARTITIONS) for node in audited_nodes(200)}
    assert partitions == set(range(DEFAULT_PARTITIONS)) - {QUIET}
    assert partition_of(claimed_node(quiet=True), DEFAULT_PARTITIONS) == QUIET
    assert partition_of(claimed_node(quiet=False), DEFAULT_PARTITIONS) != QUIET


def test_audit_body_is_a_valid_command_to_its_nodes_partition() -> None:
    audit = Audit("node-1", 3)
    found = command(audit.body(FIRST, 7))
    assert audit.server == server("node-1")
    assert (found.node, found.event_id, found.as_of) == ("node-1", FIRST, 14)
    assert found.origin is not None and found.origin.sequence == 15
    assert len(found.instances or ()) == 3


def test_later_audit_differs_by_ids_and_origin_only() -> None:
    audit = Audit("node-1", 3)
    first, second = (command(audit.body(each, number)) for each, number in ((FIRST, 1), (SECOND, 2)))
    assert (first.resources, first.instances) == (second.resources, second.instances)
    assert second.origin is not None and second.as_of is not None
    assert first.origin is not None and first.origin.sequence < second.as_of < second.origin.sequence


def test_audit_with_a_reply_queue_is_a_call_under_its_event_id() -> None:
    caller = caller_of(Audit("node-1", 1, "reply_1").body(FIRST, 1))
    assert caller is not None and (caller.call_id, caller.queue) == (FIRST, "reply_1")
