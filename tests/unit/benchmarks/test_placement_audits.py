# SPDX-License-Identifier: Apache-2.0
from typing import cast

from tests.benchmarks.latency.audits import audited_nodes
from tests.benchmarks.placement.audits import change, no_change, one_of_each_partition
from tracker_worker.core.envelope import open_envelope, read_command
from tracker_worker.domain.commands import UpdateAvailableResource
from tracker_worker.domain.partitions import DEFAULT_PARTITIONS, partition_of


def command(body: bytes) -> UpdateAvailableResource:
    return cast(UpdateAvailableResource, read_command(open_envelope(body)))


def test_changes_differ_by_number_in_a_total() -> None:
    first, second = (command(change("node-1", number)).resources for number in (1, 2))
    assert (first.uuid, first.traits) == (second.uuid, second.traits)
    assert first.vcpus != second.vcpus


def test_audit_without_a_change_has_the_totals_of_a_change() -> None:
    audit = command(no_change("node-1", 3, 8))
    changed = command(change("node-1", 3)).resources
    found = audit.resources
    assert (found.vcpus, found.memory_mb, found.local_gb) == (
        changed.vcpus,
        changed.memory_mb,
        changed.local_gb,
    )
    assert found.traits == changed.traits
    assert len(audit.instances or ()) == 3


def test_audits_without_a_change_differ_in_what_placement_need_not_know() -> None:
    first, second = (command(no_change("node-1", 0, number)) for number in (1, 2))
    assert first.resources.memory_mb_used != second.resources.memory_mb_used
    assert len(first.instances or ()) != len(second.instances or ())


def test_nodes_of_each_partition_are_as_many_as_partitions() -> None:
    nodes = audited_nodes(200)
    found = [partition_of(node, DEFAULT_PARTITIONS) for node in one_of_each_partition(nodes)]
    assert sorted(found) == sorted({partition_of(node, DEFAULT_PARTITIONS) for node in nodes})
