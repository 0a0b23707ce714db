# SPDX-License-Identifier: Apache-2.0
"""The part of the table of commands that tells why a node is full."""

from tracker_worker.cmd.manage import arguments as a
from tracker_worker.cmd.manage import node_arguments as n
from tracker_worker.cmd.manage.parser import Command

NODE_COMMANDS = (
    Command(
        "node explain",
        "explain:show",
        "Explain the usage of a node: each claim with its origin, the sum, what audits corrected.",
        (a.add_node,),
        {
            "name": "the node",
            "sequence": "the node's sequence",
            "broken": "how the used amounts of its row differ from its claims; null if they do not",
            "conflicts": "the uuids whose reports were refused for this name",
            "reserve_too_large": "each part of its reserve that exceeds it, with both amounts",
            "usage": "for each resource: reserved, claimed, used, total, ratio, limit, free; disk in MB",
            "claims": "instance_uuid, role, migration_uuid, project_id, vcpus, memory_mb, disk_mb, cells, "
            "devices, cause (since, sequence, method, event_id, request_id; null if not kept)",
            "corrections": "the last ten of audits: recorded_at, sequence, event_id, change",
        },
        {"node explain compute-1": "why is the node full?"},
    ),
    Command(
        "node fit",
        "fit:show",
        "Show whether a node would grant a claim, test by test, or rank all nodes. Nothing is claimed.",
        (n.add_nodes, n.add_request),
        {
            "node": "the node; with --all a list of documents",
            "outcome": "granted or refused",
            "vcpus_left": "what the claim would leave of (vcpus - reserved) * ratio",
            "memory_mb_left": "what it would leave of (memory - reserved) * ratio",
            "disk_mb_left": "what it would leave of (disk - reserved) * ratio",
            "reason": "why the claim would be refused",
            "disabled": "whether its compute service is disabled; without --limits the claim is refused then",
            "conflicts": "uuids whose reports under its name were refused",
            "reserve_too_large": "each part of the reserve that exceeds the node",
            "limits": "the limits that were given; null if none were",
            "tested_against": "what memory, disk and vcpus are tested against: capacity (without --limits), "
            "limits, 'limits and capacity', or nothing",
            "tests": "rule, subject, requested, free, passed (null: not tested), reason; not with --all",
        },
        {
            "node fit compute-1 --flavor flavor.json": "would the node take an instance of this flavor?",
            "node fit --all --flavor flavor.json --limit 5": "which five nodes would keep most?",
        },
        failure="the claim would be refused, by every node with --all; or the command failed",
    ),
    Command(
        "node history",
        "history:show",
        "Show what the events of a node changed; or the node as it was, or what changed between two times.",
        (a.add_node, a.add_limit, n.add_history),
        {
            "sequence": "the node's sequence after the event; null if it did not change the node",
            "recorded_at": "the time of its transaction; null if it cannot be read",
            "node": "the node",
            "method": "the method of the command",
            "event_id": "the id of the event",
            "request_id": "the request of OpenStack that the sender handled",
            "outcome": "applied, granted, refused, ignored or parked",
            "reason": "why it was refused, ignored or parked, what a rebuild corrected, or why its receipt "
            "cannot be read",
            "instance_uuid": "the instance of the command",
            "changes": "claims: action, instance_uuid, role, reason of an audit, vcpus, memory_mb, disk_mb "
            "(differences), old, new; null if the change was not recorded",
            "totals": "old and new totals, reserve and ratios; null if they did not change",
            "used": "vcpus, memory_mb and disk_mb after the event; null if that is not known",
        },
        {
            "node history compute-1 --limit 20": "what happened last on the node?",
            "node history compute-1 --outcome refused --since 2h": "which claims were refused lately?",
            "node history compute-1 --at 2026-11-22T12:00": "what was on the node then?",
            "node history compute-1 --diff 2026-11-22 2026-11-23": "what changed on that day?",
        },
    ),
    Command(
        "node verify",
        "verify:verify",
        "Recompute the usage of a node or of all nodes from the rows.",
        (n.add_nodes,),
        {
            "nodes": "the number of nodes",
            "differences": "node, figure, shown, computed; figure 'rows' if the rows cannot be read",
        },
        {"node verify --all": "are all figures right?"},
        failure="a figure differs, or rows cannot be read; or the command failed",
    ),
    Command(
        "instance show",
        "instances:show",
        "Show what nodes hold for an instance, the events that concern it, and its dead letters.",
        (n.add_instance, a.add_limit),
        {
            "uuid": "the instance",
            "claims": "its claims on all nodes: node, role, amounts, states, devices",
            "events": "as 'node history' shows them, without the usage",
            "dead_letters": "those that name it: id, recorded_at, state, code, node, method, request_id",
        },
        {"instance show 0d9a4f0e-94a6-4a3b-8d4f-2f6b1c7e5a21": "where is it, and what happened to it?"},
    ),
    Command(
        "device show",
        "devices:show",
        "Show who holds a PCI device, since when, and by which event.",
        (n.add_device,),
        {
            "node": "the node",
            "address": "the PCI address",
            "status": "available, claimed, allocated, or unavailable and unclaimable: excluded by others",
            "device": "vendor:product and type",
            "numa_node": "the NUMA cell",
            "instance_uuid": "the instance that holds it",
            "role": "the role of its claim",
            "excluded_by": "held devices that exclude it: its parent, or its children",
            "since": "when the instance got it; null if its receipt is not kept",
            "method": "the method of the event that gave it",
            "event_id": "the id of that event",
            "request_id": "its request",
        },
        {"device show 0000:81:00.1 --node compute-1": "who holds the device?"},
    ),
)
"""The commands on nodes, instances and devices that only read."""
