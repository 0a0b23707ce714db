# SPDX-License-Identifier: Apache-2.0
"""The commands of tracker-worker-manage: the table of which the parser and the documentation are made.

A command's module is imported when the command runs, so that no command waits for what others need. All texts
are therefore here, not in those modules.
"""

from tracker_worker.cmd.manage import arguments as a
from tracker_worker.cmd.manage.node_commands import NODE_COMMANDS
from tracker_worker.cmd.manage.parser import Command
from tracker_worker.cmd.manage.placement_commands import PLACEMENT_COMMANDS

SUBJECTS = {
    "db": "the database's schema and old rows",
    "queues": "the exchange and the queues on the broker",
    "node": "the nodes, their usage and the history of their events",
    "instance": "what nodes hold for an instance",
    "device": "the PCI devices of nodes",
    "placement": "the nodes' resource providers and allocations in Placement",
    "outbox": "notifications that wait to be published",
    "settings": "the settings that all workers of a database share",
    "config": "the configuration of a worker",
    "dead-letter": "events that could not be applied",
}
"""The first words of the commands that have two, with their summaries."""

_SHARED = {
    "name": "the option, as [group] option",
    "database": "its value in the database, as JSON; null if there is none",
    "configured": "its value in this configuration, as JSON",
    "differs": "whether both are set and differ",
}
_LETTER_RESULT = {
    "id": "the id of the letter",
    "result": "what was done with it; with filters, documents have result, letters and first (an id)",
}

COMMANDS = (
    Command(
        "status",
        "status:show",
        "Show the database, workers, queues, outbox and parked events, and what needs a person.",
        (a.add_status,),
        {
            "database": "now, last_commit, outbox (notifications that wait), oldest_notification, publisher "
            "(the worker that publishes them), nodes, disabled, broken, conflicts, "
            "reserve_too_large; null if it cannot be used",
            "workers": "name (host:pid), version, since, active and standby (queues); null if unknown",
            "queues": "as 'queues list' shows them; null without a broker",
            "parked": "as 'dead-letter summary' shows them",
            "problems": "a line for each thing that needs a person, with what to do, the worst first",
        },
        {
            "status": "what is the state of everything?",
            "status --watch 5": "draw it again every five seconds",
            "status --quiet-nodes 180 --format json": "name nodes without an event for three hours",
            "status --except-node compute-7": "what is wrong besides the node in maintenance?",
        },
        failure="something needs a person: the last lines say what and why",
    ),
    Command(
        "db sync",
        "database:sync",
        "Migrate the schema to a revision, by default the newest; create the embedded database if missing.",
        (a.add_revision,),
        {
            "connection": "the URL of the database, without user and password",
            "before": "the revision of the schema before; null if there was none",
            "database": "the revision of the schema now",
            "code": "the revision that this version needs",
        },
        {"db sync": "before the workers of a new version start"},
    ),
    Command(
        "db version",
        "database:version",
        "Show the revision of the database's schema, and the revision that this version needs.",
        (),
        {
            "connection": "the URL of the database, without user and password",
            "database": "the revision of the schema; null if there is none",
            "code": "the revision that this version needs",
        },
        {"db version --format json": "is a migration needed?"},
    ),
    Command(
        "db purge",
        "database:purge",
        "Delete rows that are older than their retention, as workers do every hour; or count them.",
        (a.add_purge,),
        {
            "receipts": "the number of receipts",
            "dead_letters": "the number of dead letters that were replayed or discarded",
            "nodes": "the number of removed nodes",
            "attempts": "the number of counted attempts",
            "days": "the retention of receipts",
            "dry_run": "whether the rows were counted only",
        },
        {"db purge --dry-run": "how many rows would be deleted?"},
    ),
    Command(
        "queues declare",
        "queues:declare_all",
        "Declare the exchange and the queues as a worker does; those that exist with equal arguments stay.",
        (),
        {"exchange": "the exchange of the commands", "queues": "the names of the queues"},
        {"queues declare": "before the first worker starts, so that clients can send"},
    ),
    Command(
        "queues list",
        "queues:show_list",
        "List the queues of commands and of notifications with their messages, consumers and active worker.",
        (),
        {
            "queue": "the name of the queue",
            "ready": "messages that wait for a consumer; null if the queue is missing",
            "unacknowledged": "messages that were delivered and not acknowledged; null if unknown",
            "consumers": "the number of consumers",
            "active": "host:pid of the worker whose consumer is active; null if there is none, or unknown",
            "oldest": "the time of the next ready message; null if there is none, or if unknown since the "
            "broker does not stamp messages",
            "acknowledged_per_second": "the rate of acknowledgements; null if unknown",
        },
        {"queues list": "who consumes what, and how much waits?"},
        failure="a queue is missing, or the management API does not answer: standard error says which",
    ),
    Command(
        "node list",
        "node_list:show_list",
        "List the nodes that are tracked, or whose reports were refused as conflicts.",
        (a.add_list_of_nodes,),
        {
            "name": "the name of the node",
            "host": "the host of its service; null for a name that only has conflicts",
            "uuid": "its uuid; null for a name that only has conflicts",
            "vcpus": "its vcpus; null before its first report",
            "vcpus_used": "the used vcpus, with the reserve",
            "memory_mb": "its memory; null before its first report",
            "memory_mb_used": "the used memory, with the reserve",
            "local_gb": "its disk; null before its first report",
            "local_gb_used": "the used disk, with the reserve",
            "running_vms": "the number of its instances",
            "disabled": "whether its service is disabled",
            "conflicts": "the uuids whose reports were refused for this name",
            "broken": "whether its events are held, see 'node rebuild'",
            "reserve_too_large": "each part of its reserve that exceeds it, with both amounts",
            "last_event": "the time of its newest receipt; an audit that changes nothing leaves none",
            "fullness": "the largest used share of vcpus, memory and disk, of total times allocation ratio",
        },
        {
            "node list --sort fullness": "the fullest nodes first",
            "node list --broken --columns name,flags,conflicts": "which nodes need a person, and why?",
            "node list --older-than 180 --sort last_event": "nodes without an event for three hours",
        },
    ),
    Command(
        "node show",
        "nodes:show",
        "Show a node: the node view, with its claims, NUMA cells and PCI devices.",
        (a.add_node,),
        {"name": "and the other keys of the node view, the reply to get_node: see the user guide"},
        {"node show compute-1": "what uses the node?"},
    ),
    *NODE_COMMANDS,
    Command(
        "node rebuild",
        "nodes:rebuild",
        "Recompute the usage of a node from its claims; show it before and after.",
        (a.add_node,),
        {"used": "the resource", "before": "the amount before", "after": "the amount now"},
        {"node rebuild compute-1": "repair a node that 'node list' shows as broken"},
    ),
    Command(
        "node remove",
        "node_removal:remove",
        "Have a worker remove a node, whose next report creates it anew; show what the node holds.",
        (a.add_node, a.add_removal),
        {
            "name": "the name of the node",
            "host": "the host of its service",
            "uuid": "its uuid",
            "claims": "its claims, as in the node view",
            "event_id": "the id of the event that was sent; null if none was",
            "request_id": "its request id, manage:USER@HOST: who has asked for it, and where",
        },
        {
            "node remove compute-1": "its host was installed anew under the old name, and holds nothing",
            "node remove compute-1 --host host-1 --force": "remove its claims with it",
        },
        failure="the node has claims and --force is missing: standard error says so; or the command failed",
    ),
    *PLACEMENT_COMMANDS,
    Command(
        "outbox list",
        "outbox:show_list",
        "List the notifications that wait to be published, in their order, and since when each waits.",
        (a.add_list_of_outbox,),
        {
            "id": "the place in the order of publication",
            "since": "the time of the event's transaction",
            "event_type": "the type of the notification",
            "priority": "INFO or ERROR",
            "node": "the node that it is about",
            "message_id": "its id, as consumers see it",
            "size": "the length of its body in bytes",
        },
        {"outbox list --node compute-1": "which notifications of a node have not gone out yet?"},
    ),
    Command(
        "outbox stats",
        "outbox:show_stats",
        "Show how many notifications wait, by event type, and which worker publishes them.",
        (),
        {
            "publisher": "host:pid:id of the worker that publishes them; null if none does",
            "waiting": "event_type, priority, notifications, bytes and oldest (a time) of each event type",
        },
        {"outbox stats": "is the outbox empty?"},
    ),
    Command(
        "settings show",
        "settings:show",
        "Show the settings that all workers of the database share, and whether this configuration differs.",
        (),
        _SHARED,
        {"settings show": "does this host's configuration fit the other workers'?"},
        failure="a setting differs, or the command failed: standard error says which",
    ),
    Command(
        "settings accept",
        "settings:accept",
        "Store the shared settings of this configuration in the database; all workers must be stopped.",
        (),
        _SHARED,
        {"settings accept": "after [bus] partitions was changed on all hosts"},
    ),
    Command(
        "config show",
        "config_show:show",
        "Show the effective values of a worker's options, and where each comes from; secrets are masked.",
        (a.add_all_options,),
        {
            "option": "the option, as [group] option",
            "value": "its effective value, with *** for a password in a URL and for other secrets; options "
            "behind the ? of a transport_url override those of [oslo_messaging_rabbit]",
            "source": "the file or environment variable that it comes from, or 'default'",
        },
        {
            "config show": "what is configured here?",
            "config show --all": "the same, and all defaults",
        },
        failure="the value of an option is invalid: standard error says which",
    ),
    Command(
        "dead-letter list",
        "dead_letters:show_list",
        "List the newest dead letters of a state.",
        (a.add_limit, a.add_state, a.add_filters),
        {
            "id": "the id of the letter",
            "recorded_at": "the time of its parking",
            "state": "parked, replayed or discarded",
            "code": "the code of the error",
            "path": "the part of the command that the error is about",
            "node": "the node of the command",
            "method": "the method of the command, known or not; null if it is no identifier",
            "event_id": "the id of the event",
            "message": "the text of the error",
            "request_id": "the id of the sender's request",
            "reply_host": "the host that waited for the reply to a call",
        },
        {"dead-letter list --node compute-1": "which events of the node were parked?"},
    ),
    Command(
        "dead-letter summary",
        "dead_letters:summary",
        "Count the dead letters of a state by code and method.",
        (a.add_state, a.add_filters),
        {
            "state": "the state of the counted letters",
            "code": "the code of their error",
            "method": "the method of their commands",
            "letters": "their number",
            "nodes": "the number of their nodes",
            "oldest": "the time of the first parking",
            "newest": "the time of the last parking",
        },
        {"dead-letter summary --since 2026-11-22": "what was parked since then?"},
    ),
    Command(
        "dead-letter show",
        "dead_letters:show",
        "Show a dead letter: its fields, its body, and the outcome of its replays.",
        (a.add_letter,),
        {
            "id": "and the other keys of 'dead-letter list'",
            "sequence": "the node's sequence when it was parked",
            "settled_at": "the time when it was replayed or discarded",
            "body": "the stored body",
            "replays": "event_id, sequence, method, outcome and reason of each replay",
        },
        {"dead-letter show 0b6ac3a6-5d2c-4c3e-8a55-4a1b4f2f6c11": "why was it parked?"},
    ),
    Command(
        "dead-letter replay",
        "dead_letter_replay:replay",
        "Publish the commands of parked letters again, each node's in the order in which they were parked.",
        (a.add_selection, a.add_force),
        _LETTER_RESULT,
        {
            "dead-letter replay --code wrong_partition --dry-run": "what would be replayed?",
            "dead-letter replay --code wrong_partition": "replay it",
        },
        failure="letters were left: standard error says how many and why",
    ),
    Command(
        "dead-letter discard",
        "dead_letters:discard",
        "Discard parked letters: they are no longer parked, and are deleted after [tracker] "
        "dead_letter_days.",
        (a.add_selection,),
        _LETTER_RESULT,
        {"dead-letter discard --node compute-1": "discard all parked letters of a node"},
        failure="letters were left: standard error says how many and why",
    ),
    Command(
        "completion",
        "completion:show",
        "Print a script for a shell that completes the commands and their options; needs the package shtab.",
        (a.add_shell,),
        {},
        {"completion bash > /etc/bash_completion.d/tracker-worker-manage": "for all users"},
        has_format=False,
    ),
)
