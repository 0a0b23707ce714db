# SPDX-License-Identifier: Apache-2.0
"""The stable codes under which a bad event is refused or parked, or a notification replaced.

Users match on these strings (dead letters, error replies, notifications): once set they never change.
"""

from enum import StrEnum


class ErrorCode(StrEnum):
    """Why an event could not be applied, or its notification not be sent.

    The docstrings of the members are the documentation's table of codes: what happened, and the way out.
    """

    MALFORMED_JSON = "malformed_json"
    """The body, or the text in its envelope, is not JSON in UTF-8.

    Way out: send with oslo.messaging. If the sender does, look for what truncated the message on its way.
    """
    MALFORMED_COMPRESSION = "malformed_compression"
    """The body is not a stream of the compression that its header names, is truncated, is followed by more
    bytes, or needs more memory than a message of 8 MiB.

    Way out: send the command again. The worker accepts whatever kombu compresses, so the message was
    truncated on its way, or is an attack.
    """
    UNSUPPORTED_COMPRESSION = "unsupported_compression"
    """The header `compression` names none of `application/x-gzip`, `application/x-bz2`, `application/x-lzma`,
    `application/zstd` and `application/x-brotli`.

    Way out: set `[oslo_messaging_rabbit] kombu_compression` of the sender to `gzip`, `bzip2`, `lzma`, `zstd`
    or `brotli`, or unset it, and send the command again.
    """
    BAD_ENVELOPE = "bad_envelope"
    """The envelope is not oslo.messaging's version 2: a part is missing or has another type.

    Way out: send with oslo.messaging, best with `tracker_worker.rpcapi`.
    """
    MESSAGE_TOO_LARGE = "message_too_large"
    """The message has more than 8 MiB, as received or decompressed. When it is that large as received, the
    dead letter has only its length and SHA-256. On RabbitMQ a call gets no reply and times out.

    Way out: send less in one message. In an audit leave out what no rule reads, such as extra specs.
    """
    TOO_DEEP = "too_deep"
    """Objects or lists are nested too deeply.

    Way out: correct the sender: no command needs that depth.
    """
    UNSUPPORTED_VERSION = "unsupported_version"
    """The client sends another major version, or a newer minor version.

    Way out: upgrade the workers before the clients.
    """
    UNKNOWN_METHOD = "unknown_method"
    """No command has this name, or the message names a namespace. The text has the name if it is an
    identifier of at most 64 characters. The arguments of an unknown command are not kept: its letter
    cannot be replayed.

    Way out: correct the name. Upgrade the worker if the command is newer than it. Then let the sender send
    the command again with a new `event_id`, and discard the letter.
    """
    MISSING_ARGUMENT = "missing_argument"
    """A required field is absent. The path names it.

    Way out: correct the sender. `as_of` needs `origin`.
    """
    UNKNOWN_ARGUMENT = "unknown_argument"
    """A field is unknown. The path names it. Its value is not kept: the letter cannot be replayed.

    Way out: correct the sender. Upgrade the worker if the field is newer than it. Then let the sender send
    the command again with a new `event_id`, and discard the letter.
    """
    WRONG_TYPE = "wrong_type"
    """A field has the wrong type.

    Way out: correct the sender: the path names the field, the text both types.
    """
    OUT_OF_RANGE = "out_of_range"
    """A number, or the length of a text or list, is out of its bounds.

    Way out: correct the sender. The bounds are far above what real hosts have.
    """
    INVALID_VALUE = "invalid_value"
    """A text is not one of those allowed, or contradicts another field of the message, or a name has
    invisible characters, blanks at its ends, or, for a node or a host, anything but visible ASCII characters.

    Way out: correct the sender: states and types are Nova's, the names of nodes are hostnames.
    """
    WRONG_PARTITION = "wrong_partition"
    """The node belongs to another partition than the one whose queue had the event.

    Way out: give client and workers the same `[bus] partitions`, then replay the letter. A message on the
    bare topic (`tracker`) needs the partition as its server.
    """
    EVENT_ID_REUSED = "event_id_reused"
    """The event id has been used before for another command.

    Way out: make ids unique. Send the command again with an id of its own.
    """
    NODE_CONFLICT = "node_conflict"
    """A report has the uuid of another node, or the node's name is known with another uuid. The report is
    refused, without a dead letter: the notification has no `dead_letter_id` and is sent once for each uuid.
    The text has both uuids and hosts, or both names.

    Way out: find out which of the two is wrong: `openstack hypervisor list` has the uuids that Nova knows,
    the file `compute_id` of nova-compute the uuid that a host reports. If the report is wrong, correct its
    host: two hosts have one name, or `compute_id` was copied or lost. If the stored node is wrong,
    `tracker-worker-manage node remove NODE` removes it, and its claims where `--force` is added; the next
    report then succeeds. If the stored node was right, restart its nova-compute: `startup` clears the
    conflict from `node list`.
    """
    RESERVE_TOO_LARGE = "reserve_too_large"
    """A report was applied whose reserve is larger than the node; the text has both amounts. A size of 0 is
    not tested. No dead letter: the notification has no `dead_letter_id`, and is sent once for each part of
    the reserve, until that part fits again. The worker logs the text as a warning; `node show` and
    `node explain` print it, `node list` has it in the column `reserve_too_large`.

    Way out: correct `reserved_host_*` or `reserved_huge_pages` of the compute manager. For reports without
    them correct the options of these names in `[tracker]` of all workers, and restart these.
    """
    LEDGER_BROKEN = "ledger_broken"
    """The used amounts in a node's row are not the sum of its claims, or a row cannot be read. The worker
    holds the node's events and parks none: the notification has no `dead_letter_id`, each worker sends it
    once, `node list` shows the node as `broken`, and `get_node` raises `NodeBroken`. When 256 events of the
    node wait (`[worker] prefetch`), the other nodes of its partition wait too.

    Way out: run `tracker-worker-manage node rebuild NODE`, or restart the compute manager, which sends an
    audit with `startup`. Either recomputes the node from its claims; the held events are then applied in
    order. If the text says that rows cannot be read, restore them, or start the version that wrote them.
    The cause is a change of the tables by SQL, or a restore that mixes backups of different times.
    """
    DEAD_LETTERED = "dead_lettered"
    """The broker dead-lettered the event: a policy bounds the queue's length or time to live, or the delivery
    limit was reached. The text has the reason and the queue. Only on RabbitMQ.

    Way out: remove the policy from `tracker.*`, then replay the letter. Later events may have been applied
    before it.
    """
    WORKER_DIED = "worker_died"
    """The worker crashed `max_attempts` times while this event was in flight as a redelivered message, the
    last time more than five seconds after its start. The event was not run again. Only on RabbitMQ, which
    redelivers. A crash at the first delivery is not counted, so there may have been one more.

    Way out: look for what killed the worker (memory, a signal). Keep the event for a bug report.
    """
    DATABASE_REJECTS = "database_rejects"
    """The connection is lost each time this event is written, though the database answers other statements;
    or the event's rows exist although a query did not find them. An event whose data the database refuses is
    parked as `internal_error`. No other database error parks an event.

    Way out: read the database's own log, then report a bug.
    """
    INTERNAL_ERROR = "internal_error"
    """An exception was raised while the event was decoded or decided, or the database refused its data. The
    text has the exception's type and the places in the code, without any value; the log has the database's
    message.

    Way out: report the text as a bug. The next audit corrects the node.
    """
    NOTIFICATION_TOO_LARGE = "notification_too_large"
    """A notification other than an audit's would have more than 1 MiB. The text has its type and size. The
    event is applied; nothing is parked.

    Way out: read the node: `tracker-worker-manage node show NODE`. Have the driver report less in `stats`.
    """
    NOTIFICATION_REFUSED = "notification_refused"
    """The broker refused a notification, or its row cannot be decoded. The text has its type, its size and
    the broker's reason; the notification has the `message_id` of the refused one. The event is applied;
    nothing is parked.

    Way out: read the node: `tracker-worker-manage node show NODE`. Raise the broker's `max_message_size`
    above 2 MiB: a notification has at most 1 MiB, 2 MiB in its envelope. Rows of an older version may be
    larger.
    """


class Refusal(StrEnum):
    """Why a command was understood and refused: the `code` of the exception that the caller gets."""

    NO_ROOM = "compute_resources_unavailable"
    """A claim was refused; the reason says why. Either it does not fit on the node (Nova's texts, joined by
    `;`). Or no node can fulfil the request, because the flavor's extra specs or the image's properties are
    invalid or conflict, or a PCI alias is not defined. Or `Node X is not tracked`, or `is not available`.

    Way out: if the claim does not fit, try another node. If no node can fulfil the request, correct the
    flavor or the image, or define the alias in `[pci] alias` of the workers. If the node is not tracked or
    not available, report it as available and repeat the claim, or try another node.
    """
    NODE_CONFLICT = "node_conflict"
    """A report has the uuid of another node, or the node's name is known with another uuid.

    Way out: find out which of the two is wrong: the text has both uuids and hosts, or both names. If the
    report is wrong, correct its host. If the stored node is wrong, run `tracker-worker-manage node remove
    NODE`; the next report then succeeds.
    """
    OTHER = "refused"
    """`remove_node` of a node that has claims.

    Way out: move or delete its instances first, or send `force`.
    """


class BadMessage(Exception):
    """A message that is not a valid command: its code, the path of the bad field, and a text that contains no
    value of the payload but the name of an unknown method.
    """

    def __init__(self, code: ErrorCode, path: str, message: str) -> None:
        super().__init__(f"{code} at {path}: {message}")
        self.code = code
        self.path = path
        self.message = message


class InvalidValue(ValueError):
    """A value that contradicts another one of the same object. `field` is its path below the object; the text
    contains no value of the payload. Raised while the object is decoded, it becomes a BadMessage.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"Invalid {field}: {message}")
        self.field = field
        self.message = message


class RequestRefused(Exception):
    """No host can fulfil a claim: its flavor and image conflict, or it names an alias that is not configured.
    The outcome is `refused`, a normal one; the text is the reason, in Nova's words.
    """
