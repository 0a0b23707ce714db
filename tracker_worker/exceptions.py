# SPDX-License-Identifier: Apache-2.0
"""What a caller of the worker may catch. Importable without the worker.

`code` is stable and may be matched on. An RPC transport needs `allowed_remote_exmods=rpcapi.EXMODS`, so that
the worker's errors are raised as themselves; TrackerAPI.from_conf makes one that has it.
"""


class TrackerWorkerException(Exception):
    """Base of all errors that the worker, or its client, raises in a caller.

    Raised itself where the worker failed to answer a question: its log has the reason, nothing else is kept.
    """

    code = "error"


class InvalidCommand(TrackerWorkerException):
    """The command was not understood: correct the field that the text names.

    It is kept as a dead letter, unless it was a question.
    """

    code = "invalid_command"


class WrongPartition(TrackerWorkerException):
    """The node belongs to another partition: give client and worker the same [bus] partitions."""

    code = "wrong_partition"


class EventIdReused(TrackerWorkerException):
    """The event id was used before for another command: ids must be unique."""

    code = "event_id_reused"


class EventParked(TrackerWorkerException):
    """The worker could not apply the event and keeps it as a dead letter: see its log for the reason."""

    code = "event_parked"


class CommandRefused(TrackerWorkerException):
    """The command was understood and refused; the text says why."""

    code = "refused"


class ComputeResourcesUnavailable(CommandRefused):
    """There is no room for the claim; the text is Nova's."""

    code = "compute_resources_unavailable"


class NodeConflict(CommandRefused):
    """Another node has the uuid, or the name another uuid: remove_node with force, then report again."""

    code = "node_conflict"


class NodeNotFound(TrackerWorkerException):
    """The node is not tracked: its next update_available_resource creates it."""

    code = "node_not_found"


class NodeBroken(TrackerWorkerException):
    """The node's ledger cannot be used; its events are held until an operator has rebuilt it."""

    code = "ledger_broken"


class TrackerUnavailable(TrackerWorkerException):
    """The broker did not confirm the command within the timeout or the retries.

    It may have it all the same, or get it later. So send it again with the same event id, which is in
    `event_id` and in the text, or leave the rest to the next audit. A claim is made anew: the client aborts
    what comes late.
    """

    code = "tracker_unavailable"

    def __init__(self, text: str, event_id: str | None = None) -> None:
        super().__init__(text)
        self.event_id = event_id


class NoWorker(TrackerUnavailable):
    """The broker has no queue for the node: no worker ever ran with this exchange and these partitions."""

    code = "no_worker"


class QueuesNotDurable(TrackerWorkerException):
    """The client is configured for queues that a broker forgets: the text says which option to change."""

    code = "queues_not_durable"


class UnsupportedCompression(TrackerWorkerException):
    """The client is configured for a compression that no worker reads: the text says what to set."""

    code = "unsupported_compression"
